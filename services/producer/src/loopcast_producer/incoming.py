"""
The body of one request as it arrives: a deadline that grows with what came, unpacking, and a bound on memory.

The I/O shell of :mod:`~loopcast_producer.bodies`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from types import TracebackType
from typing import TYPE_CHECKING

from loopcast_producer.admission import Admission
from loopcast_producer.bodies import Gunzip
from loopcast_producer.problems import body_too_large, body_too_slow

if TYPE_CHECKING:
    from starlette.types import Receive

__all__ = ["ClientGone", "Incoming"]

GRACE_SECONDS = 30.0
"""How long a body may take before its rate matters."""

LEAST_RATE = 1024
"""Bytes a second that a body must come at, on the whole: what holds a connection for nothing is slower."""


class ClientGone(Exception):
    """The client closed the connection before its body ended; nobody is there to be answered."""


class Incoming:
    """
    A body, read once, as a whole or in pieces. What it holds of the memory for bodies it gives back at exit.

    Args:
        receive: of ASGI.
        admission: the memory for bodies.
        gzip: whether to unpack.
        length: `Content-Length`, where there is one.
    """

    def __init__(self, receive: Receive, admission: Admission, *, gzip: bool, length: int | None) -> None:
        self._receive = receive
        self._admission = admission
        self._gzip = gzip
        self._length = length
        self._held = 0
        self._received = 0
        self._began = 0.0

    async def __aenter__(self) -> Incoming:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._admission.give_back(self._held)

    async def whole(self, limit: int) -> bytes:
        """
        All of it.

        Raises:
            Refusal: 400, it is damaged; 408, it comes too slowly; 413, it has more than `limit` bytes; 503, too many
                bodies are being read.
            ClientGone: the client gave up.
        """
        if self._length is not None and self._length > limit:
            raise body_too_large(limit)
        parts: list[bytes] = []
        size = 0
        async for part in self.pieces(limit):
            size += len(part)
            if size > limit:
                raise body_too_large(limit)
            self._hold(len(part))
            parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def pieces(self, limit: int | None = None) -> AsyncGenerator[bytes, None]:
        """
        Piece after piece, unpacked; `limit` is how much may come out of unpacking.

        Raises:
            Refusal: as :meth:`whole`.
            ClientGone: the client gave up.
        """
        gunzip = Gunzip(limit) if self._gzip else None
        self._began = asyncio.get_running_loop().time()
        more = True
        while more:
            body, more = await self._next()
            if gunzip is None:
                if body:
                    yield body
                continue
            for piece in gunzip.feed(body):
                yield piece
        if gunzip is not None:
            gunzip.finish()

    async def _next(self) -> tuple[bytes, bool]:
        allowed = GRACE_SECONDS + self._received / LEAST_RATE
        try:
            async with asyncio.timeout_at(self._began + allowed):
                message = await self._receive()
        except TimeoutError:
            raise body_too_slow(allowed) from None
        if message["type"] == "http.disconnect":
            raise ClientGone
        body: bytes = message.get("body", b"")
        self._received += len(body)
        return body, bool(message.get("more_body", False))

    def _hold(self, size: int) -> None:
        self._admission.take(size)
        self._held += size
