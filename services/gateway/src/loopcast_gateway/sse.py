"""
Server-Sent Events (HTML Standard, 9.2): the same events for who has an `EventSource` or `curl` and nothing else.

An event is `id: <pos>` and `data: <the CloudEvent>`; what is said in between has a name of its own (`subscribed`,
`caught_up`, `gap`). A browser sends the last id again by itself when it comes back. On `*` over several partitions the
id has a position of each of which anything is known; one that it lacks begins at the earliest.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING

from loopcast.auth import Grants
from loopcast.history_query import SEPARATOR
from loopcast.position import Position
from loopcast_gateway.access import Guest
from loopcast_gateway.entry import Entry
from loopcast_gateway.protocol import CaughtUp, Frame, Gap, Id, Refused, Subscribe, Subscribed, encode
from loopcast_gateway.query import joined

if TYPE_CHECKING:
    from loopcast_gateway.close_codes import CloseCode
    from loopcast_gateway.dialects import Dialect
    from loopcast_gateway.gateway import Gateway
    from loopcast_gateway.query import StreamQuery

__all__ = ["MEDIA_TYPE", "SSE", "STREAM_HEADERS", "EventStream", "EventStreamDialect"]

MEDIA_TYPE = "text/event-stream"
STREAM_HEADERS = {
    "Cache-Control": "no-store",
    # nginx holds a response back to fill its buffers otherwise.
    "X-Accel-Buffering": "no",
    "X-Content-Type-Options": "nosniff",
}
RETRY_MS = 2000
"""When a client comes back, give or take a half, so that many do not do it together."""


class EventStreamDialect:
    """How frames become Server-Sent Events, where there is one partition to follow."""

    polite = True
    lines = False

    def live(self, entry: Entry, *, several: bool) -> bytes:
        """One event; what a browser keeps as its place is the id."""
        del several
        return b"id: %b\ndata: %b\n\n" % (entry.pos.encode("ascii"), entry.envelope)

    replayed = live

    def answered(self, entry: Entry, id_: Id | None, *, several: bool) -> bytes:
        """Nobody asks on a stream."""
        del id_
        return self.live(entry, several=several)

    def join(self, parts: Sequence[bytes]) -> list[bytes]:
        """Nothing to tell apart."""
        return [b"".join(parts)] if parts else []

    def frame(self, frame: Frame) -> bytes | None:
        """What tells of the stream itself, with its position where that is one to come back to."""
        match frame:
            case Subscribed() | CaughtUp() | Gap():
                place = self.place_of(frame.pos)
                line = b"" if place is None else b"id: %b\n" % place.encode("ascii")
                return b"event: %b\n%bdata: %b\n\n" % (frame.__struct_config__.tag.encode(), line, encode(frame))  # type: ignore[union-attr]
        return None

    def place_of(self, pos: str | list[str] | None) -> str | None:
        """The id that `pos` is; None where there is no position."""
        return joined(pos)


SSE = EventStreamDialect()


class Places(EventStreamDialect):
    """As the other, for one stream of several partitions: it knows how far each of them was sent."""

    def __init__(self, after: Mapping[int, Position]) -> None:
        self._seen = {number: str(position) for number, position in after.items()}

    def live(self, entry: Entry, *, several: bool) -> bytes:
        """One event, with the place that it makes of those before it."""
        del several
        self._seen[entry.partition] = entry.pos
        return b"id: %b\ndata: %b\n\n" % (self.place.encode("ascii"), entry.envelope)

    replayed = live

    @property
    def place(self) -> str:
        """How far every partition was sent, as one id."""
        return SEPARATOR.join(self._seen[number] for number in sorted(self._seen))

    def place_of(self, pos: str | list[str] | None) -> str | None:
        """The id that `pos` makes of what was known."""
        for token in [pos] if isinstance(pos, str) else pos or []:
            self._seen[Position.parse(token).partition] = token
        return self.place if pos else None


class EventStream:
    """A viewer by HTTP: what the hub puts in comes out of :meth:`chunks`, as fast as it is read."""

    def __init__(self, gateway: Gateway, experiment: str, query: StreamQuery, grants: Grants) -> None:
        self._gateway = gateway
        self._experiment = experiment
        self._query = query
        self._grants = grants
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._something = asyncio.Event()
        self._room = asyncio.Event()
        self._ended = False
        several = len(gateway.hub.covered(experiment)) > 1
        self._kind = Places(query.after) if several else SSE
        self.dialect: Dialect = self._kind
        self.errors = 0
        self.guest = Guest("")
        self.guest.grants = grants

    @property
    def congested(self) -> bool:
        """Whether the reader should read before it is sent more history."""
        return self._size > self._gateway.outbox_bytes // 4

    async def room(self) -> None:
        """Wait until it has, or is gone."""
        while self.congested and not self._ended:
            self._room.clear()
            await self._room.wait()

    def say(self, frame: Frame) -> None:
        """Send a frame that a stream has."""
        chunk = self.dialect.frame(frame)
        if chunk is not None:
            self.put(chunk)

    def put(self, chunk: bytes) -> None:
        """Send `chunk`; end a stream that leaves too much unread, its reader comes back with the last id."""
        if self._ended:
            return
        if self._waiting and self._size + len(chunk) > self._gateway.outbox_bytes:
            self._waiting.clear()
            self._gateway.tally.closes["sse_slow"] += 1
            self.end()
            return
        self._waiting.append(chunk)
        self._size += len(chunk)
        self._something.set()

    def wait_for_more(self, milliseconds: int) -> None:
        """A stream is read when it is read."""

    def close(self, code: CloseCode) -> None:
        """End the stream, whatever the code: the reader comes back by itself, with a newer token if it has one."""
        del code
        self.end()

    def end(self) -> None:
        """Send what waits, then nothing more."""
        self._ended = True
        self._something.set()
        self._room.set()

    async def chunks(self) -> AsyncIterator[bytes]:
        """What is to be written, until the reader or the gateway goes."""
        gateway = self._gateway
        gateway.streams.add(self)
        gateway.access.enter(self)
        try:
            # Jitter against a herd, not a secret.
            yield b"retry: %d\n\n" % random.randint(RETRY_MS // 2, RETRY_MS * 3 // 2)  # noqa: S311
            if gateway.access.grant(self, self._grants) is None:
                self._follow()
            else:
                self.end()
            while True:
                if not self._waiting and not self._ended:
                    self._something.clear()
                    try:
                        async with asyncio.timeout(gateway.settings.ping_seconds):
                            await self._something.wait()
                    except TimeoutError:
                        yield self._ping()
                        continue
                if not self._waiting:
                    return
                chunk = b"".join(self._waiting)
                self._waiting.clear()
                self._size = 0
                self._room.set()
                yield chunk
        finally:
            self._ended = True
            self._room.set()
            gateway.streams.discard(self)
            gateway.access.leave(self)
            gateway.sessions.closed(self)

    def _follow(self) -> None:
        query = self._query
        command = Subscribe(
            experiment_id=self._experiment,
            # What a place of several partitions lacks, nothing was sent of.
            start="earliest" if query.after else query.start,
            resume=[str(position) for position in query.after.values()] or None,
            types=query.types,
            exclude=query.exclude,
        )
        try:
            self._gateway.sessions.follow(self, command)
        except Refused as error:
            self.put(b"event: error\ndata: %b\n\n" % str(error).encode())
            self.end()

    def _ping(self) -> bytes:
        """A comment that keeps proxies from closing, and the log's end, so that a quiet reader's place stays fresh."""
        hub, tails = self._gateway.hub, self._gateway.tails
        subscription = hub.get(self, self._experiment)
        ends = [tails[number].partition.pos for number in hub.covered(self._experiment)]
        known = [pos for pos in ends if pos is not None]
        if subscription is None or not subscription.live or len(known) < len(ends):
            return b": ping\n\n"
        return b": ping\nid: %b\n\n" % str(self._kind.place_of(known)).encode("ascii")
