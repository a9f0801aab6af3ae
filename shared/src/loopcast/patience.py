"""
uvicorn's HTTP connections, with bounds: on a request's head, on what is sent ahead, and on answers that nobody reads.

uvicorn waits for ever for a head that does not end, and keeps all of it: a few thousand connections that send a byte a
minute would hold every file descriptor of the process, and nobody could come in. And it goes on reading requests of a
client that reads none of its answers: 25,000 of them took half a gigabyte. Nor does closing end such a connection: what
waits in it is to be sent first, so whoever never reads holds it, and what makes its answer, for ever.
"""

from __future__ import annotations

import asyncio
from typing import Any

import structlog
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

__all__ = ["GRACE_SECONDS", "HEAD_BYTES", "HEAD_SECONDS", "LEAST_RATE", "Connection", "HeldBack", "Unread"]

log = structlog.get_logger(__name__)

GRACE_SECONDS = 30.0
"""How long an answer may wait to be read before its rate matters."""

LEAST_RATE = 1024
"""Bytes a second that it must go at on the whole: what is slower holds a connection for nothing."""

MOST_SECONDS = 120.0
"""
After how long without a sign of reading it ends, however much was taken before.

The network takes megabytes ahead, and then nothing until the client has read a good part of them.
"""
LOOK_SECONDS = 1.0

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


class Unread:
    """For how long a client may still leave unread what it was answered. Pure."""

    def __init__(self) -> None:
        self._waiting = False
        self._taken = 0
        self._until = 0.0

    def is_overdue(self, unread: int, now: float, *, written: int = 0) -> bool:
        """Whether the client is to be ended; `unread` bytes wait of those `written` so far, at `now` (seconds)."""
        taken, before = written - unread, self._taken
        self._taken = taken
        if not unread:
            self._waiting = False
            return False
        if not self._waiting:
            self._waiting, self._until = True, now + GRACE_SECONDS
        later = self._until + max(0, taken - before) / LEAST_RATE
        self._until = max(self._until, min(later, now + MOST_SECONDS))
        return now > self._until


class Connection(HeldBack):
    """A connection whose client has to say what it wants, and to read what it is answered."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._waiting: asyncio.TimerHandle | None = None
        self._head = 0
        self._ended = False
        self._unread = Unread()
        self._written = 0
        self._looking: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client is there: its head is waited for from now on."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._heard()
        if self._looking is not None:
            self._looking.cancel()
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
        if isinstance(self.cycle, RequestResponseCycle):
            self.cycle.transport = _Counted(self.transport, self)  # type: ignore[assignment]

    def wrote(self, size: int) -> None:
        """More of an answer was written: where not all of it went at once, look whether it goes."""
        self._written += size
        if self._looking is None and self.transport.get_write_buffer_size():
            self._look()

    def _look(self) -> None:
        self._looking = None
        if self.transport.get_protocol() is not self:  # A WebSocket by now, which has bounds of its own.
            return
        unread = self.transport.get_write_buffer_size()
        if self._unread.is_overdue(unread, self.loop.time(), written=self._written):
            log.info("answer_not_read", client=self.client, unread_bytes=unread)
            self.transport.abort()
        elif unread:
            self._looking = self.loop.call_later(LOOK_SECONDS, self._look)

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


class _Counted:
    """Tells the connection what is written of an answer."""

    __slots__ = ("_connection", "_transport")

    def __init__(self, transport: asyncio.Transport, connection: Connection) -> None:
        self._transport = transport
        self._connection = connection

    def write(self, data: bytes) -> None:
        self._transport.write(data)
        self._connection.wrote(len(data))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
