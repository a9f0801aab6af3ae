"""`python -m loopcast.node`: a node in the foreground, for whoever needs a broker for a while."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from pathlib import Path

from loopcast.errors import NodeError
from loopcast.node.node import DEFAULT_CACHE, Node


def main(arguments: list[str] | None = None) -> int:
    """Start a node, print its URL, and keep it until Ctrl-C or SIGTERM."""
    options = _options(arguments)
    asked = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: asked.set())
    node = Node(options.data, port=options.port, stream_port=options.stream_port, cache=options.cache, log=_say)
    try:
        with node:
            _say(f"RabbitMQ {node.version} is ready ({node.origin}); Ctrl-C ends it")
            sys.stdout.write(f"{node.amqp_url}\n")
            sys.stdout.flush()
            while node.running and not asked.wait(0.5):
                pass
            return 0 if asked.is_set() else 1
    except NodeError as error:
        _say(str(error))
        return 1


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loopcast.node", description=main.__doc__)
    parser.add_argument("--data", type=Path, default=Path(".loopcast/node"), help="its folder (%(default)s)")
    parser.add_argument("--port", type=int, default=0, help="for AMQP (any free one)")
    parser.add_argument("--stream-port", type=int, help="also speak the stream protocol, on this port")
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="where a fetched RabbitMQ is (%(default)s)")
    return parser.parse_args(arguments)


def _say(sentence: str) -> None:
    sys.stderr.write(f"{sentence}\n")


if __name__ == "__main__":
    sys.exit(main())
