"""The body of one request as it arrives: :mod:`loopcast_producer.bodies` with I/O, and a bound on memory."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from types import TracebackType
from typing import TYPE_CHECKING

from loopcast_producer.admission import Admission
from loopcast_producer.bodies import Gunzip
from loopcast_producer.problems import body_too_large

if TYPE_CHECKING:
    from starlette.types import Receive

__all__ = ["ClientGone", "Incoming"]


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

    def __enter__(self) -> Incoming:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._admission.give_back(self._held)

    async def whole(self, limit: int) -> bytes:
        """
        All of it.

        Raises:
            Refusal: 400, it is damaged; 413, it has more than `limit` bytes; 503, too many bodies are being read.
            ClientGone: the client gave up.
        """
        if self._length is not None and self._length > limit:
            raise body_too_large(limit)
        first, more = await self._next()
        if not more and not self._gzip and len(first) <= limit:
            return first
        # One array and not the pieces: what comes two bytes at a time would take twenty times its size.
        body = bytearray()
        async with contextlib.aclosing(self._pieces(first, more=more, limit=limit)) as pieces:
            async for part in pieces:
                if len(body) + len(part) > limit:
                    raise body_too_large(limit)
                self._admission.take(len(part))
                self._held += len(part)
                body += part
        return bytes(body)

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """
        Piece after piece, unpacked.

        Raises:
            Refusal: 400, it is damaged; 413, it is a bomb.
            ClientGone: the client gave up.
        """
        first, more = await self._next()
        async with contextlib.aclosing(self._pieces(first, more=more, limit=None)) as pieces:
            async for piece in pieces:
                yield piece

    async def _pieces(self, body: bytes, *, more: bool, limit: int | None) -> AsyncGenerator[bytes, None]:
        gunzip = Gunzip(limit) if self._gzip else None
        while True:
            if gunzip is not None:
                for piece in gunzip.feed(body):
                    yield piece
            elif body:
                yield body
            if not more:
                break
            body, more = await self._next()
        if gunzip is not None:
            gunzip.finish()

    async def _next(self) -> tuple[bytes, bool]:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        return message.get("body", b""), bool(message.get("more_body", False))
