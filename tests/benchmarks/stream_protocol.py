"""
What reading the log costs over RabbitMQ's stream protocol (rstream) and over AMQP 0-9-1 (our client), on the same log.

For the decision in `docs/decisions`; rstream is no dependency of the project, so put it into the environment first:

    .venv/bin/python -m pip install rstream        # or: uv pip install rstream
    make bench T=tests/benchmarks/stream_protocol.py ARGS="--rounds 5"

rstream is given the message as bytes (`raw`), which is the least that it can do, and decoded (`amqp`), which a reader
needs that routes by headers.
"""

import argparse
import asyncio
import os
import platform
import statistics
import tempfile
from pathlib import Path

import rstream
import uvloop
from broker import BODY_BYTES, Bench, Clock, messages, server_pid

from loopcast.node import Node


class StreamBench(Bench):
    """Reads with rstream too."""

    async def streamed(self, url, count, decoder):
        """Read `count` events from the beginning over the stream protocol."""
        seen, done = 0, asyncio.Event()

        def came(_message, _context):
            nonlocal seen
            seen += 1
            if seen == count:
                done.set()

        consumer = rstream.Consumer(
            "127.0.0.1", self.node.stream_port, vhost=url.rpartition("/")[2], username="guest", password="guest"
        )
        await consumer.start()
        with Clock(self.pid) as clock:
            await consumer.subscribe(
                "loopcast.log.0",
                came,
                decoder=decoder,
                offset_specification=rstream.ConsumerOffsetSpecification(rstream.OffsetType.FIRST, None),
            )
            await asyncio.wait_for(done.wait(), 120)
        await consumer.close()
        return clock


async def run(bench, options):
    """Every way in turns."""
    results = {}
    for _ in range(options.rounds):
        for how, count in (("in bursts", options.events), ("one by one", options.singles)):
            url = await bench.host()
            each = {"size": 500} if how == "in bursts" else {"size": 1, "in_flight": 1}
            await bench.publish("loopcast", url, messages(count), **each)
            for way in ("AMQP 0-9-1, loopcast", "stream protocol, rstream, raw", "stream protocol, rstream, amqp"):
                decoder = rstream.amqp_decoder if way.endswith("amqp") else None
                reading = (
                    bench.read("loopcast", url, count) if "loopcast" in way else bench.streamed(url, count, decoder)
                )
                results.setdefault((how, way), []).append((count, await reading))
    print("| written | read over | events/s, median | spread | client µs/event | broker µs/event |")
    print("|---|---|---|---|---|---|")
    for (how, way), runs in sorted(results.items()):
        rates = [count / clock.wall for count, clock in runs]
        client = statistics.median(clock.client / count * 1e6 for count, clock in runs)
        broker = statistics.median(clock.broker / count * 1e6 for count, clock in runs)
        spread = f"{min(rates):,.0f} to {max(rates):,.0f}"
        print(f"| {how} | {way} | {statistics.median(rates):,.0f} | {spread} | {client:.1f} | {broker:.1f} |")


def main():
    """Run on a private node with the stream protocol's listener."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--events", type=int, default=50_000)
    parser.add_argument("--singles", type=int, default=8_000, help="events of the log that is written one by one")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="loopcast-bench-") as data, Node(Path(data), stream_port=0) as node:
        print(f"RabbitMQ {node.version}, Python {platform.python_version()}, {os.cpu_count()} cores, {BODY_BYTES} B\n")
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run(StreamBench(node, server_pid(data)), options))


if __name__ == "__main__":
    main()
