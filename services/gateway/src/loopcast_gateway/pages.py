"""Pages of history for HTTP: from the rings where they reach, else from the stream, never more than a bounded scan."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from loopcast.errors import LoopcastError
from loopcast.position import Anchor, Position
from loopcast_gateway.entry import Entry
from loopcast_gateway.history import History
from loopcast_gateway.protocol import Earliest, Reason
from loopcast_gateway.prover import Prover
from loopcast_gateway.query import Query
from loopcast_gateway.tail import Tail

__all__ = ["Gone", "Page", "Pages", "Sieve"]

CLOCKS_SECONDS = 60.0
"""How far the clocks of producers and broker may differ: a stream is sought by the one, filtered by the other."""

FIRST_BLOCK = 5_000
"""Messages read first when the newest events are sought from the end; each further block is four times that."""


class Gone(LoopcastError):
    """A position that the log does not prove; the message is the reason as the protocol has it."""


@dataclass(frozen=True, slots=True)
class Page:
    """Events in the order that was asked for."""

    entries: Sequence[Entry]
    next: str | None
    """The position to ask with for the following page; None where there can be none."""
    complete: bool
    """Whether these are all the events that were asked for."""


class Pages:
    """The history of one partition."""

    def __init__(self, tail: Tail, history: History, prover: Prover, *, max_scan: int) -> None:
        self._tail = tail
        self._partition = tail.partition
        self._history = history
        self._prover = prover
        self._max_scan = max_scan

    async def page(self, experiment: str | None, query: Query) -> Page:
        """
        The events of `experiment` (None is all) that `query` asks for.

        Raises:
            Gone: the log does not prove the position that was given.
            BrokerError: the stream cannot be read.
            TimeoutError: the same.
        """
        for anchor in (query.after, query.before):
            if anchor is not None:
                await self.check(anchor)
        if query.since is not None and query.since > time.time() + CLOCKS_SECONDS / 2:
            # The broker answers a time to come with silence.
            return Page((), None, complete=True)
        if query.limit == 0:
            return Page((), None, complete=False)
        if query.order == "newest":
            return await self._newest(experiment, query)
        return await self._oldest(experiment, query)

    async def check(self, position: Position) -> None:
        """
        Ask the log for `position`.

        Raises:
            Gone: the log does not prove it.
            BrokerError: the stream cannot be read.
            TimeoutError: the same.
        """
        if (verdict := await self._prover.prove(position)) is not Anchor.PROVEN:
            raise Gone(verdict)

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

    async def _oldest(self, experiment: str | None, query: Query) -> Page:
        until = self._partition.tail if query.before is None else query.before.offset - 1
        behind = -1 if query.after is None else query.after.offset
        recent = self._partition.since(experiment, behind)
        if recent is not None:
            found = list(Sieve(experiment, query).pick(e for e in recent if e.offset <= until))
            return self._forward(found, query, whole=True, last=None)
        stretch = self._partition.stretch(query.after if query.after is not None else -1, until)
        start = None
        if query.since is not None and query.after is None:
            start = f"@{max(0, int(query.since - CLOCKS_SECONDS))}"
        found, sieve = [], Sieve(experiment, query)
        async for entries in self._history.read(self._partition.number, stretch, start=start):
            found += sieve.pick(entries)
            if len(found) > query.limit or stretch.scanned > self._max_scan or sieve.over:
                break
        if stretch.verdict is not Anchor.PROVEN:
            raise Gone(stretch.verdict or Reason.UNAVAILABLE)
        last = stretch.last
        place = None if last is None else str(Position.of(self._partition.number, last.offset, last.message_id))
        return self._forward(found, query, whole=stretch.done or sieve.over, last=place)

    def _forward(self, found: Sequence[Entry], query: Query, *, whole: bool, last: str | None) -> Page:
        if len(found) > query.limit:
            shown = found[: query.limit]
            return Page(shown, shown[-1].pos, complete=False)
        place = found[-1].pos if whole and found else last
        return Page(found, place or (str(query.after) if query.after else None), complete=whole)

    async def _newest(self, experiment: str | None, query: Query) -> Page:
        until = self._partition.tail if query.before is None else query.before.offset - 1
        behind = -1 if query.after is None else query.after.offset
        recent = self._partition.since(experiment, behind)
        if recent is not None:
            found = Sieve(experiment, query).pick(e for e in recent if e.offset <= until)
            return _backward(list(found), query, whole=True)
        return await self._newest_of_stream(experiment, query, behind, until)

    async def _newest_of_stream(self, experiment: str | None, query: Query, behind: int, until: int) -> Page:
        """Read blocks from the end towards the beginning, because a stream is read forwards only."""
        read: list[Entry] = []
        found: list[Entry] = []
        block, scanned, high = FIRST_BLOCK, 0, until
        whole = high <= behind
        while not whole and len(found) <= query.limit and scanned < self._max_scan:
            low = max(behind, high - block)
            stretch = self._partition.stretch(low, high)
            part: list[Entry] = []
            async for entries in self._history.read(self._partition.number, stretch):
                part += entries
            read = [e for e in part if experiment is None or e.experiment == experiment] + read
            found = list(Sieve(experiment, query).pick(read))
            scanned += stretch.scanned
            whole = low <= behind or (query.since is not None and bool(part) and not _near(part[0], query))
            high, block = low, block * 4
        return _backward(found, query, whole=whole)


class Sieve:
    """
    Of events in the order of the log, those of `experiment` (None is all) in the times of `query`.

    With an anchor, what stands behind the event recorded exactly then is wanted, whatever its own time: an event that
    came late has an earlier time than one that was sent before it.
    """

    def __init__(self, experiment: str | None, query: Query) -> None:
        self._experiment = experiment
        self._since = None if query.since is None else round(query.since * 1e6)
        self._until = None if query.until is None else round(query.until * 1e6)
        self._anchored = query.anchored
        self._behind = False
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
        if self._since is None or self._behind:
            return True
        if self._anchored and entry.recorded >= self._since:
            self._behind = True
        return entry.recorded > self._since


def _near(entry: Entry, query: Query) -> bool:
    """Whether what stands before `entry` could still be later than the time that was given."""
    return query.since is None or entry.recorded > (query.since - CLOCKS_SECONDS) * 1e6


def _backward(found: Sequence[Entry], query: Query, *, whole: bool) -> Page:
    shown = list(reversed(found))[: query.limit]
    complete = whole and len(shown) == len(found)
    return Page(shown, shown[-1].pos if shown else None, complete=complete)
