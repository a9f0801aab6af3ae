"""Pages of history, from the rings or the stream: bounded in events, in bytes and in what is read for them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from loopcast.errors import LoopcastError
from loopcast.history_query import Query
from loopcast.position import Anchor, Position
from loopcast_gateway.entry import Entry
from loopcast_gateway.history import History
from loopcast_gateway.partition import Partition
from loopcast_gateway.places import CLOCKS_SECONDS, FIRST_BLOCK, Places, below
from loopcast_gateway.protocol import Earliest, Reason
from loopcast_gateway.prover import Prover
from loopcast_gateway.reading import Lost, Reading
from loopcast_gateway.tail import Tail

__all__ = ["MAX_BYTES", "Gone", "Page", "Pages", "Sieve"]

MAX_BYTES = 8 * 1024 * 1024
"""Of the events of one page: a page of the largest events would else take a gigabyte. One event always goes."""


class Gone(LoopcastError):
    """
    A position that the log does not prove; the message is the reason as the protocol has it.

    Attributes:
        partition: of which it is.
    """

    def __init__(self, reason: str, partition: int) -> None:
        super().__init__(reason)
        self.partition = partition


@dataclass(frozen=True, slots=True)
class Page:
    """Events in the order that was asked for."""

    entries: Sequence[Entry]
    next: str | None
    """The position to ask with for the following page; None where there can be none."""
    complete: bool
    """Whether these are all the events that were asked for."""
    reason: Reason | None = None
    """Why there are fewer than was asked for, where that is for good."""


class Pages:
    """The history of one partition. `experiment` None is all of them."""

    def __init__(self, tail: Tail, history: History, prover: Prover, places: Places, *, max_scan: int) -> None:
        self._tail = tail
        self._history = history
        self._prover = prover
        self._places = places
        self._max_scan = max_scan

    @property
    def number(self) -> int:
        """Which partition it is."""
        return self._partition.number

    @property
    def _partition(self) -> Partition:
        return self._tail.partition

    async def page(self, experiment: str | None, query: Query) -> Page:
        """
        The events of `experiment` that `query` asks for.

        Raises:
            Gone: the log does not prove the position that was given, or lost what is behind it meanwhile.
            BrokerError: the stream cannot be read.
            TimeoutError: the same.
        """
        for anchors in (query.after, query.before):
            if (anchor := anchors.get(self.number)) is not None:
                await self.check(anchor)
        if query.since is not None and query.since > time.time() + CLOCKS_SECONDS / 2:
            # The broker answers a time to come with silence.
            return Page((), None, complete=True)
        if query.limit == 0:
            return Page((), None, complete=False)
        try:
            return await self._page(experiment, query)
        except Lost as lost:
            raise Gone(str(lost), self.number) from None

    async def _page(self, experiment: str | None, query: Query) -> Page:
        partition = self._partition
        until, end = partition.tail, partition.pos
        if (before := query.before.get(self.number)) is not None:
            until, end = before.offset - 1, str(before)
        given = query.after.get(self.number)
        after: Position | int = -1 if given is None else given
        since = query.since or 0.0
        if given is None and query.since is not None:
            after = await self._places.since(experiment, partition.number, query.since)
            if query.anchored:
                # What stands behind the anchor is wanted, whatever its time.
                query = replace(query, since=None)
        if query.order == "newest":
            page = await self._newest(experiment, query, after, until)
            # Nothing is in front of where the log begins.
            cut = replace(page, complete=False, reason=Reason.TRUNCATED, next=None)
            reached = page.complete
        else:
            page = await self._oldest(experiment, query, after, until, end)
            cut = replace(page, complete=False, reason=Reason.TRUNCATED)
            reached = True
        # A position that was proven has lost nothing behind it.
        lost = given is None and reached and await self._places.lost(experiment, partition.number, since)
        return cut if lost else page

    async def check(self, position: Position) -> None:
        """
        Ask the log for `position`.

        Raises:
            Gone: the log does not prove it.
            BrokerError: the stream cannot be read.
            TimeoutError: the same.
        """
        if (verdict := await self._prover.prove(position)) is not Anchor.PROVEN:
            raise Gone(verdict, self.number)

    async def earliest(self) -> Earliest:
        """
        The first message that the log still has.

        Raises:
            BrokerError: the stream cannot be read.
        """
        first = await self._history.first(self._partition.number, "first")
        recorded = first.headers.get("recorded")
        return Earliest(
            pos=str(Position.of(self._partition.number, first.offset, first.message_id)),
            ts=recorded / 1e6 if isinstance(recorded, int) else float(first.timestamp),
        )

    async def _oldest(
        self, experiment: str | None, query: Query, after: Position | int, until: int, end: str | None
    ) -> Page:
        partition, shown, sieve = self._partition, _Shown(query), Sieve(experiment, query)
        recent = partition.since(experiment, _offset(after))
        if recent is not None:
            shown.add(sieve.pick(entry for entry in recent if entry.offset <= until))
        else:
            reading = Reading(partition, self._history, experiment, after, until, since=_microseconds(query))
            async for entries in reading.batches():
                shown.add(sieve.pick(entries))
                if shown.full or sieve.over:
                    break
                if reading.scanned > self._max_scan and reading.last is not None and reading.last.offset < until:
                    return Page(shown.entries, str(reading.last), complete=False)
        if shown.full:
            return Page(shown.entries, shown.entries[-1].pos, complete=False)
        place = shown.entries[-1].pos if shown.entries else end
        return Page(shown.entries, place or (str(after) if isinstance(after, Position) else None), complete=True)

    async def _newest(self, experiment: str | None, query: Query, after: Position | int, until: int) -> Page:
        behind = _offset(after)
        recent = self._partition.since(experiment, behind)
        if recent is not None:
            newest = _Newest(query)
            newest.add(Sieve(experiment, query).pick(e for e in recent if e.offset <= until))
            return newest.page(whole=True)
        return await self._newest_of_stream(experiment, query, after, until)

    async def _newest_of_stream(self, experiment: str | None, query: Query, after: Position | int, until: int) -> Page:
        """Read blocks from the end towards the beginning, because a stream is read forwards only."""
        newest, behind = _Newest(query), _offset(after)
        block, scanned, high = FIRST_BLOCK, 0, until
        while high > behind and not newest.full and scanned < self._max_scan:
            missing = query.limit + 1 - len(newest.entries)
            low = max(behind, below(self._partition, experiment, missing, high, block))
            begin = after if low == behind else low
            reading = Reading(self._partition, self._history, experiment, begin, high, since=_microseconds(query))
            part, sieve = _Newest(replace(query, limit=missing - 1), size=newest.size), Sieve(experiment, query)
            async for entries in reading.batches():
                part.add(sieve.pick(entries))
            newest.put_before(part)
            newest.place = reading.first or newest.place
            scanned += reading.scanned
            high, block = low, block * 4
        return newest.page(whole=high <= behind)


class Sieve:
    """Of events in the order of the log, those of `experiment` (None is all) in the times of `query`."""

    def __init__(self, experiment: str | None, query: Query) -> None:
        self._experiment = experiment
        self._since = None if query.since is None else round(query.since * 1e6)
        self._until = None if query.until is None else round(query.until * 1e6)
        self.over = False
        """Whether nothing more can come: the clocks are past the end that was asked for."""

    def pick(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """Those of `entries`, which go on where the last ones ended."""
        for entry in entries:
            if self._until is not None and entry.recorded > self._until + CLOCKS_SECONDS * 1e6:
                self.over = True
                return
            if (self._experiment is None or entry.experiment == self._experiment) and self._wants(entry):
                yield entry

    def _wants(self, entry: Entry) -> bool:
        if self._until is not None and entry.recorded > self._until:
            return False
        return self._since is None or entry.recorded > self._since


class _Shown:
    """The first events, as many as a page has."""

    def __init__(self, query: Query) -> None:
        self._limit = query.limit
        self._size = 0
        self.entries: list[Entry] = []
        self.full = False
        """Whether there are more than a page has."""

    def add(self, entries: Iterable[Entry]) -> None:
        """Take events in log order, until one is too many."""
        for entry in entries:
            self._size += len(entry.envelope)
            if len(self.entries) >= self._limit or (self.entries and self._size > MAX_BYTES):
                self.full = True
            if self.full:
                return
            self.entries.append(entry)


class _Newest:
    """The last events, as many as a page has; in log order."""

    def __init__(self, query: Query, *, size: int = 0) -> None:
        self._limit = query.limit
        self.size = size
        self.entries: deque[Entry] = deque()
        self.full = False
        """Whether there are more than a page has."""
        self.place: Position | None = None
        """The earliest message that was looked at."""

    def add(self, entries: Iterable[Entry]) -> None:
        """Take events in log order; the earliest go where there are too many."""
        for entry in entries:
            self.entries.append(entry)
            self.size += len(entry.envelope)
            while len(self.entries) > self._limit or (len(self.entries) > 1 and self.size > MAX_BYTES):
                self.size -= len(self.entries.popleft().envelope)
                self.full = True

    def put_before(self, earlier: _Newest) -> None:
        """Take what stands in the log before all that is here."""
        if self.entries and earlier.size > MAX_BYTES:
            self.full = True
            return
        self.entries.extendleft(reversed(earlier.entries))
        self.size, self.full = earlier.size, earlier.full

    def page(self, *, whole: bool) -> Page:
        """The page, the newest first."""
        shown = list(reversed(self.entries))
        place = str(self.place) if self.place is not None and not self.full and not whole else None
        return Page(shown, place or (shown[-1].pos if shown else None), complete=whole and not self.full)


def _offset(place: Position | int) -> int:
    return place.offset if isinstance(place, Position) else place


def _microseconds(query: Query) -> int:
    return 0 if query.since is None else round(query.since * 1e6)
