"""
The HTTP connections of the public port: uvicorn's, with bounds on what a client may cost, and a short way for events.

uvicorn waits for ever for the rest of a request and for its answer to be read, and takes header fields without end. One
look a second at every connection bounds that; a timer for each request would cost as much as publishing its event does.

A request that posts events with a length, not to be continued or upgraded, is an :class:`~.exchange.Exchange`: answered
without ASGI in between. Everything else goes uvicorn's way.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import structlog
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from loopcast import patience
from loopcast.patience import HeldBack, Unread
from loopcast_producer.api import Api, takes
from loopcast_producer.ending import EXTENSION, Ending
from loopcast_producer.exchange import Exchange
from loopcast_producer.problems import PROBLEM_JSON, Refusal, body_stopped, body_too_slow, head_too_large

__all__ = ["Connection", "Connections"]

log = structlog.get_logger(__name__)

MAX_HEAD_BYTES = 64 * 1024
LOOK_SECONDS = 1.0
LINGER_SECONDS = 2.0

SILENT_SECONDS = 75.0
"""
After how long without a byte a request is given up, however much of it came before.

By its rate alone, what came quickly may take its time: a client that died behind 63 MiB would hold the room for bodies
for hours.
"""

SHORT_BYTES = 64 * 1024
"""A body up to this is waited for as a whole; what is longer is read piece by piece, with its flow controlled."""


class Connections:
    """All open connections. Calling it makes one, as uvicorn does; `api` answers the short way, if there is one."""

    def __init__(self, api: Api | None = None) -> None:
        self.open: set[Connection] = set()
        self._api = api

    def __call__(self, **arguments: Any) -> Connection:
        """Make the protocol of a connection that was accepted."""
        return Connection(self.open, self._api, **arguments)

    async def arrived(self) -> None:
        """Wait until no body is arriving any more."""
        while any(connection.is_arriving for connection in self.open):  # noqa: ASYNC110 - asked for once, at the end
            await asyncio.sleep(0.05)

    async def end(self, refusal: Callable[[], Refusal]) -> None:
        """Answer every request whose body is still arriving with `refusal`, and give its client time to read that."""
        ended = [connection.end(refusal) for connection in list(self.open)]
        if any(ended):
            await asyncio.sleep(LINGER_SECONDS)

    @contextlib.asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Look at them, again and again."""
        task = asyncio.create_task(self._look_again_and_again())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def _look_again_and_again(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            now = loop.time()
            for connection in list(self.open):
                connection.look(now)


class Connection(HeldBack):
    """A connection that knows how its request arrives."""

    def __init__(self, siblings: set[Connection], api: Api | None, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._siblings = siblings
        self._api = api
        self._arriving = True
        self._in_head = True
        self._began = self._heard = self.loop.time()
        self._received = 0
        self._ending: Ending | None = None
        self.refused = False
        """Whether what still comes is thrown away."""
        self._unread = Unread()
        self._idle_since = float("inf")

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client is there; its first request begins now, whether it says anything or not."""
        super().connection_made(transport)
        self._siblings.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._siblings.discard(self)
        super().connection_lost(exc)

    def answered(self) -> None:
        """What uvicorn does behind an answer, but for its timer: an idle connection is found when it is looked at."""
        if self.pipeline:
            self.on_response_complete()
            return
        self.server_state.total_requests += 1
        self.flow.resume_reading()
        # Where the next request has begun already, it is that one which is waited for.
        if not self._arriving:
            self._idle_since = self.loop.time()

    def read_again(self) -> None:
        """What is slow begins anew: the rest of the request may have been there all the time, unread."""
        self._began = self._heard = self.loop.time()

    def data_received(self, data: bytes) -> None:
        """Count what comes."""
        if self.refused:
            return
        if self._arriving:
            self._heard = self.loop.time()
        else:
            self._begin()
        self._received += len(data)
        super().data_received(data)
        if self._arriving and self._in_head and self._received > MAX_HEAD_BYTES:
            self._refuse(head_too_large(MAX_HEAD_BYTES))

    def on_message_begin(self) -> None:
        """A request begins, maybe behind the one before in what came at once."""
        if not self._arriving:
            self._begin()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """From here on it is the body that arrives."""
        self._in_head = False
        self._ending = None
        if self._api is not None and self._is_short():
            self.cycle = Exchange(self, self._api, self.url, self.headers)  # type: ignore[assignment]
            return
        if self._api is not None and takes(self.url.partition(b"?")[0]):
            self._ending = Ending()
            self.scope["extensions"] = {EXTENSION: {"ending": self._ending}}
        super().on_headers_complete()
        if isinstance(self.cycle, RequestResponseCycle):
            self.cycle.transport = _HeadWithBody(self.cycle.transport, self)  # type: ignore[assignment]

    def on_message_complete(self) -> None:
        """The request is there; the next one begins with its first byte."""
        self._arriving, self._in_head = False, True
        super().on_message_complete()

    def _begin(self) -> None:
        self._arriving, self._received = True, 0
        self._began = self._heard = self.loop.time()
        # Of this one's answer uvicorn may be the one to wait behind, and what was before it is long ago.
        self._idle_since = float("inf")

    def _is_short(self) -> bool:
        """Whether the request can be answered without ASGI; one that comes before the last is answered can not."""
        return (
            takes(self.url)
            and self.parser.get_method() == b"POST"
            # uvicorn declares it, and has None there before the first request.
            and (self.cycle is None or self.cycle.response_complete)  # type: ignore[redundant-expr]
            and self.parser.get_http_version() == "1.1"
            and not self.expect_100_continue
            and not self.parser.should_upgrade()
            and 0 <= _length(self.headers) <= SHORT_BYTES
        )

    def look(self, now: float) -> None:
        """End it if its request comes too slowly, its answer is not taken, or nothing has come for long."""
        if self._arriving and not self.refused and not self.is_owed:
            # As long as an answer may take to be read.
            allowed = patience.GRACE_SECONDS + self._received / patience.LEAST_RATE
            if now - self._began > allowed:
                self._refuse(body_too_slow(allowed))
            elif now - self._heard > SILENT_SECONDS and not self.flow.read_paused:
                self._refuse(body_stopped(SILENT_SECONDS))
        elif not self._arriving and now - self._idle_since > self.timeout_keep_alive and self.cycle.response_complete:
            self.transport.close()
        self._look_at_answers(now)

    @property
    def is_arriving(self) -> bool:
        """Whether the rest of a body is waited for."""
        return self._arriving and not self._in_head and not self.refused

    def end(self, refusal: Callable[[], Refusal]) -> bool:
        """Wait no more for the rest of a body; whether one was arriving."""
        arriving = self.is_arriving
        if arriving:
            self._refuse(refusal())
        return arriving

    def _look_at_answers(self, now: float) -> None:
        unread = self.transport.get_write_buffer_size()
        if self._unread.is_overdue(unread, now):
            log.info("answer_not_read", client=self.client, unread_bytes=unread)
            if self._api is not None:
                self._api.not_read()
            self.transport.abort()

    def _refuse(self, refusal: Refusal) -> None:
        """Answer, unless that was begun already, and close."""
        if self.transport.is_closing():
            return
        self.refused = True
        if self._ending is not None and not self._in_head and not self.cycle.response_started:
            # Some of its events may be in the log: the application knows which, and says so.
            self._ending.refusal = refusal
            self.cycle.keep_alive = False
            self.cycle.message_event.set()
            return
        if self._in_head or not self.cycle.response_started:
            problem = refusal.problem
            body = problem.encode()
            head = f"HTTP/1.1 {problem.status} {problem.title}\r\ncontent-type: {PROBLEM_JSON.decode()}\r\n"
            head += "".join(f"{name.decode()}: {value.decode()}\r\n" for name, value in refusal.headers)
            head += f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
            self.transport.write(head.encode() + body)
        if not self._in_head:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        _close_later(self.transport, self.loop)


def _close_later(transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
    """Close, but not at once: what the client still sends would be answered with a reset, which takes the answer."""
    if not transport.is_closing():
        transport.write_eof()
        loop.call_later(LINGER_SECONDS, transport.close)


def _length(headers: list[tuple[bytes, bytes]]) -> int:
    """`Content-Length`; -1 without one."""
    for name, value in headers:
        if name == b"content-length":
            return int(value)
    return -1


class _HeadWithBody:
    """Joins what uvicorn writes in two, an answer's head and its body: half the system calls."""

    __slots__ = ("_connection", "_head", "_transport")

    def __init__(self, transport: asyncio.Transport, connection: Connection) -> None:
        self._transport = transport
        self._connection = connection
        self._head: bytes | None = None

    def write(self, data: bytes) -> None:
        if self._head is None and data.startswith(b"HTTP/1.1 100"):
            self._transport.write(data)
        elif self._head is None:
            self._head = data
        else:
            self._transport.write((self._head or b"") + data)
            self._head = b""

    def close(self) -> None:
        if self._head:
            self._transport.write(self._head)
            self._head = b""
        if self._connection.refused:
            _close_later(self._transport, self._connection.loop)
        else:
            self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
