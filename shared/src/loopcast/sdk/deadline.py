"""One deadline for a whole exchange over a socket, whose own timeout begins anew with every byte that comes."""

from __future__ import annotations

import io
import socket
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["DeadlineSocket"]


class DeadlineSocket:
    """
    A connected socket, TLS or not, as far as `http.client` uses one.

    Args:
        connected: owned from now on.
    """

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self.deadline = 0.0
        """In seconds of the monotonic clock: what reads or sends after it raises TimeoutError."""

    def sendall(self, data: bytes) -> None:
        """Send all of `data`, or raise: TimeoutError at the deadline, OSError where the connection is lost."""
        left = memoryview(data)
        while left:
            left = left[self.hurry().send(left) :]

    def makefile(self, mode: str) -> io.BufferedReader:
        """What comes, to be read."""
        del mode  # http.client reads bytes.
        return io.BufferedReader(_Arriving(self, self._socket.makefile("rb", buffering=0)))

    def close(self) -> None:
        """Close the socket, once what :meth:`makefile` gave is closed too."""
        self._socket.close()

    def hurry(self) -> socket.socket:
        """The socket, with what is left of the time as its timeout."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self._socket.settimeout(left)
        return self._socket


class _Arriving(io.RawIOBase):
    def __init__(self, owner: DeadlineSocket, raw: socket.SocketIO) -> None:
        self._owner = owner
        self._raw = raw

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int | None:
        self._owner.hurry()
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()
