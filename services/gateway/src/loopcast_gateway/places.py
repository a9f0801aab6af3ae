"""Where a history begins that is asked for by a time, by a number of events, or as all that there is."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from loopcast.errors import BrokerError
from loopcast_gateway.entry import Entry, recorded_by
from loopcast_gateway.filters import Filter
from loopcast_gateway.history import History
from loopcast_gateway.partition import Partition
from loopcast_gateway.reading import Reading
from loopcast_gateway.tail import Tail

__all__ = ["CLOCKS_SECONDS", "FIRST_BLOCK", "Newest", "Places", "below"]

CLOCKS_SECONDS = 60.0
"""How far the clocks of producers and broker may differ: a stream is sought by the one, filtered by the other."""

FIRST_BLOCK = 5_000
"""Messages read first where the newest events are sought without an index; each further block is four times that."""


@dataclass(frozen=True, slots=True)
class Newest:
    """Where the newest events begin, and the newest ones that are not among them."""

    begins: Mapping[int, int]
    """By partition, the offset behind which they are."""
    left_out: Sequence[Entry]
    count: int
    """How many there are."""

    def cuts(self, begins: Mapping[int, int]) -> bool:
        """Whether of what is behind `begins` some is left out."""
        return any(entry.offset > begins[entry.partition] for entry in self.left_out)


class Places:
    """Finds offsets behind which the history begins that a viewer asks for. `experiment` None is all of them."""

    def __init__(self, tails: Sequence[Tail], history: History, *, max_scan: int) -> None:
        self._tails = tails
        self._history = history
        self._max_scan = max_scan

    async def since(self, experiment: str | None, number: int, since: float) -> int:
        """
        The offset in partition `number` behind which the events later than `since` (Unix seconds) are.

        Behind the event that was recorded exactly then, in log order; else before the first that was recorded later.

        Raises:
            Lost: the log has lost what was to be read.
            BrokerError: the log cannot be read.
        """
        partition, wanted = self._tails[number].partition, round(since * 1e6)
        tail = partition.tail
        found = partition.segments(experiment, -1, tail, since=wanted)
        behind = found[0].behind if found else tail
        if behind < (known_from := partition.known_from):
            with contextlib.suppress(BrokerError):
                first = await self._history.first(number, f"@{max(0, int(since - CLOCKS_SECONDS))}")
                behind = min(first.offset - 1, known_from)
        recent = partition.since(experiment, behind)
        if recent is not None:
            place = _place(recent, experiment, wanted)
            return partition.tail if place is None else place
        reading = Reading(partition, self._history, experiment, behind, tail, since=wanted)
        async for entries in reading.batches():
            if (place := _place(entries, experiment, wanted)) is not None:
                return place
        return tail

    async def lost(self, experiment: str | None, number: int, since: float) -> bool:
        """
        Whether retention may have taken events from partition `number` that were recorded after `since` (Unix seconds).

        Raises:
            BrokerError: the log cannot be read.
        """
        partition, wanted = self._tails[number].partition, round(since * 1e6)
        if partition.whole:
            return partition.catalog.lost(experiment, wanted)
        # The index is still being made. A log that has lost nothing begins at 0.
        first = await self._history.first(number, "first")
        return first.offset > 0 and wanted < (recorded_by(first) or wanted + 1)

    async def newest(
        self, experiment: str | None, ends: Mapping[int, int], count: int, filter_: Filter | None = None
    ) -> Newest:
        """
        Where the newest `count` events up to `ends` (by partition) begin, of those that `filter_` admits.

        Raises:
            Lost: the log has lost what was to be read.
            BrokerError: the log cannot be read.
        """
        found: list[Entry] = []
        for number, end in ends.items():
            found += await self._newest(experiment, self._tails[number].partition, end, count + 1, filter_)
        if len(ends) > 1:
            found.sort(key=lambda entry: (entry.recorded, entry.partition, entry.offset))
        split = max(0, len(found) - count)
        begins = dict(ends)
        for entry in found[split:]:
            begins[entry.partition] = min(begins[entry.partition], entry.offset - 1)
        return Newest(begins, found[:split], len(found) - split)

    async def within_reach(self, experiment: str | None, number: int, behind: int) -> tuple[int, bool]:
        """
        `behind`, or the offset behind which one replay may read all there is; and whether that leaves something out.

        Raises:
            BrokerError: the log cannot be read.
        """
        partition = self._tails[number].partition
        tail = partition.tail
        if Reading(partition, self._history, experiment, behind, tail).least <= self._max_scan:
            return behind, False
        if partition.since(experiment, behind) is not None:
            return behind, False
        behind = max(behind, (await self._history.first(number, "first")).offset - 1)
        left = self._max_scan
        for segment in reversed(partition.segments(experiment, behind, tail)):
            if segment.length > left:
                return segment.until - left, True
            left -= segment.length
        return behind, False

    async def _newest(
        self, experiment: str | None, partition: Partition, end: int, count: int, filter_: Filter | None
    ) -> list[Entry]:
        def wanted(entry: Entry) -> bool:
            mine = entry.offset <= end and experiment in (None, entry.experiment)
            return mine and (filter_ is None or filter_.wants(entry))

        recent, everything = partition.recent, partition.since(experiment, -1)
        kept = recent.kept(experiment) if everything is None and recent is not None else everything or []
        kept = [entry for entry in kept if wanted(entry)]
        if len(kept) >= count or everything is not None:
            return kept[-count:]
        found: list[Entry] = []
        high, block, scanned = end, FIRST_BLOCK, 0
        while len(found) < count and high > -1 and scanned <= self._max_scan:
            low = below(partition, experiment, count - len(found), high, block)
            reading = Reading(partition, self._history, experiment, low, high)
            part: list[Entry] = []
            async for entries in reading.batches():
                part += [entry for entry in entries if wanted(entry)]
                del part[: max(0, len(part) - count)]
            found = part + found
            scanned += reading.scanned
            high, block = low, block * 4
        return found[-count:]


def below(partition: Partition, experiment: str | None, count: int, high: int, block: int) -> int:
    """An offset above which `count` events up to `high` are as far as is known; `block` lower where nothing is."""
    trail = partition.catalog.trail(experiment)
    low = trail.behind_newest(count, high) if trail is not None else -1
    if trail is None and partition.catalog.forgotten:
        return max(-1, high - block)
    return low if low >= partition.known_from else max(-1, min(high, partition.known_from) - block)


def _place(entries: Iterable[Entry], experiment: str | None, wanted: int) -> int | None:
    """Behind the event of exactly that time, or before the first that is later."""
    for entry in entries:
        if entry.recorded >= wanted and experiment in (None, entry.experiment):
            return entry.offset if entry.recorded == wanted else entry.offset - 1
    return None
