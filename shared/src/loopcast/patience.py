"""
uvicorn's HTTP connections, with a bound on how long and how large a request's head may be, and on what is sent ahead.

uvicorn waits for ever for a head that does not end, and keeps all of it: a few thousand connections that send a byte a
minute would hold every file descriptor of the process, and nobody could come in. And it goes on reading requests of a
client that reads none of its answers: 25,000 of them took half a gigabyte.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["HEAD_BYTES", "HEAD_SECONDS", "Connection", "HeldBack"]

HEAD_SECONDS = 20.0
"""From the connection, or the first byte of a further request, to the end of the head."""

HEAD_BYTES = 64 * 1024
LINGER_SECONDS = 2.0

_LATE = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class HeldBack(HttpToolsProtocol):
    """A connection from which nothing is read while its client is behind."""

    @property
    def is_owed(self) -> bool:
        """Whether the client has to read answers first, or those of requests that it sent ahead have to be made."""
        return self.flow.write_paused or bool(self.pipeline)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client is there."""
        super().connection_made(transport)
        self.flow = _Flow(transport, self)

    def read_again(self) -> None:
        """From now on it is the client that is waited for."""

    def pause_writing(self) -> None:
        """The client does not read its answers."""
        super().pause_writing()
        self.flow.pause_reading()

    def resume_writing(self) -> None:
        """The client has read."""
        super().resume_writing()
        self.flow.resume_reading()

    def _unsupported_upgrade_warning(self) -> None:
        """The answer says what is wrong with the address; uvicorn would have the operator install a library."""


class _Flow(FlowControl):
    """uvicorn goes on reading whenever a request is answered; this one not from a client that is behind."""

    def __init__(self, transport: asyncio.Transport, connection: HeldBack) -> None:
        super().__init__(transport)
        self._connection = connection

    def resume_reading(self) -> None:
        if self.read_paused and not self._connection.is_owed:
            super().resume_reading()
            self._connection.read_again()


class Connection(HeldBack):
    """A connection whose client has to say what it wants."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._waiting: asyncio.TimerHandle | None = None
        self._head = 0
        self._ended = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client is there: its head is waited for from now on."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._heard()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what comes while a head is waited for."""
        if self._ended:
            return
        if self._waiting is not None:
            self._head += len(data)
        super().data_received(data)
        if self._waiting is not None and self._head > HEAD_BYTES:
            self._end(_LARGE)

    def read_again(self) -> None:
        """The rest of a head may have been there all the time, unread."""
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = self.loop.call_later(HEAD_SECONDS, self._late)

    def on_message_begin(self) -> None:
        """A request begins."""
        if self._waiting is None:
            self._wait()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head is there."""
        self._heard()
        super().on_headers_complete()

    def _wait(self) -> None:
        self._head = 0
        self._waiting = self.loop.call_later(HEAD_SECONDS, self._late)

    def _late(self) -> None:
        if self.is_owed:
            self._waiting = self.loop.call_later(HEAD_SECONDS, self._late)
        else:
            self._end(_LATE)

    def _heard(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _end(self, answer: bytes) -> None:
        """Answer and close; not at once, or what is still on its way would be answered with a reset."""
        self._heard()
        if self.transport.is_closing():
            return
        self._ended = True
        self.transport.write(answer)
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(LINGER_SECONDS, self.transport.close)
