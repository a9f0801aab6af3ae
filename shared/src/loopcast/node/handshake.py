"""
The first two frames of AMQP 0-9-1: enough to know that a broker answers, and which one.

Owns one question, "does a broker speak on this port?". It logs in nowhere and knows nothing of processes.
"""

from __future__ import annotations

import socket

__all__ = ["LOOPBACK", "greeting", "server_version"]

LOOPBACK = "127.0.0.1"

_PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
_METHOD_FRAME = 1
_CONNECTION_START = b"\x00\x0a\x00\x0a"
_FRAME_HEADER = 7
_VERSION_PROPERTY = b"\x07versionS"


def server_version(frame: bytes) -> str | None:
    """Return the version that a broker's `connection.start` names, "" if it names none, None if it is none."""
    if len(frame) < _FRAME_HEADER or frame[0] != _METHOD_FRAME:
        return None
    if not frame.startswith(_CONNECTION_START, _FRAME_HEADER):
        return None
    _, found, rest = frame.partition(_VERSION_PROPERTY)
    if not found:
        return ""
    length = int.from_bytes(rest[:4], "big")
    return rest[4 : 4 + length].decode("utf-8", "replace")


def greeting(port: int, timeout: float = 1.0) -> str | None:
    """Greet whoever listens on this port of the loopback and return a broker's version, None if none answers."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout) as peer:
            peer.sendall(_PROTOCOL_HEADER)
            return server_version(_frame(peer))
    except OSError:
        return None


def _frame(peer: socket.socket) -> bytes:
    """Read one whole frame, or what came of it before the peer closed."""
    received = b""
    wanted = _FRAME_HEADER
    while len(received) < wanted:
        chunk = peer.recv(4096)
        if not chunk:
            break
        received += chunk
        if len(received) >= _FRAME_HEADER:
            wanted = _FRAME_HEADER + int.from_bytes(received[3:7], "big")
    return received
