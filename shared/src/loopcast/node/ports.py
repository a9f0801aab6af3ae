"""
Ports of the loopback that nobody uses.

Chosen below the range from which an operating system takes the local ports of outgoing connections (from 32768 on
Linux, 49152 on macOS): a port found free there stays free while a broker is down, so that a restart finds it again.
"""

from __future__ import annotations

import contextlib
import random
import socket

from loopcast.errors import NodeError
from loopcast.node.handshake import LOOPBACK

__all__ = ["free_ports", "is_taken"]

_CANDIDATES = range(20_000, 32_000)
_TRIES = 400


def is_taken(port: int) -> bool:
    """Tell whether something already listens on this port of the loopback."""
    # The connection first: BSD and macOS let a socket bind beside one that listens on all addresses.
    with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port), 0.5):
        return True
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return True
    return False


def free_ports(count: int) -> list[int]:
    """
    Return this many different ports that are free now.

    Raises:
        NodeError: so many ports are taken that none was found.
    """
    found: list[int] = []
    for port in random.sample(_CANDIDATES, _TRIES):
        if len(found) == count:
            break
        if not is_taken(port):
            found.append(port)
    if len(found) < count:
        raise NodeError("No free port was found on 127.0.0.1 between 20000 and 32000.")
    return found
