"""
The most recent events, kept so that most resumes never touch the broker.

A ring is bounded in events and in bytes, and knows how far back it is complete: its `floor` is the offset up to and
including which events may be missing. What is above the floor is all there is in the log.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections import OrderedDict, deque

from loopcast_gateway.entry import Entry

__all__ = ["Recent", "Ring"]

ALL_FACTOR = 8
"""The ring of all experiments holds this many times what one experiment's holds."""


def _offset(entry: Entry) -> int:
    return entry.offset


class Ring:
    """Entries with rising offsets, complete above `floor`."""

    __slots__ = ("entries", "floor", "size")

    def __init__(self, floor: int) -> None:
        self.entries: deque[Entry] = deque()
        self.floor = floor
        self.size = 0

    def push(self, entry: Entry, *, events: int, size: int) -> int:
        """Add the newest entry, drop the oldest until the bounds hold; by how many bytes the ring grew."""
        before = self.size
        self.entries.append(entry)
        self.size += entry.size
        while len(self.entries) > events or self.size > size:
            gone = self.entries.popleft()
            self.size -= gone.size
            self.floor = gone.offset
        return self.size - before

    def since(self, offset: int) -> list[Entry] | None:
        """The entries above `offset`, or None where some of them may be missing."""
        if offset < self.floor:
            return None
        start = bisect_right(self.entries, offset, key=_offset)
        return list(itertools.islice(self.entries, start, None))

    def at(self, offset: int) -> Entry | None:
        """The entry at exactly `offset`."""
        start = bisect_right(self.entries, offset, key=_offset)
        entry = self.entries[start - 1] if start else None
        return entry if entry is not None and entry.offset == offset else None


class Recent:
    """
    The rings of one partition: one for each experiment that was seen lately, and one of all of them.

    `events` and `size` bound an experiment's ring, `total` the bytes of all of these; beyond it, the experiments that
    were silent longest are forgotten.
    """

    def __init__(self, floor: int, *, events: int, size: int, total: int) -> None:
        self._events = events
        self._size = size
        self._total = total
        self._held = 0
        self._rings: OrderedDict[str, Ring] = OrderedDict()
        self._forgotten = floor
        self.all = Ring(floor)
        """Of every experiment, for viewers of `*`."""

    def push(self, entry: Entry) -> None:
        """Add the newest event."""
        self.all.push(entry, events=self._events * ALL_FACTOR, size=self._size * ALL_FACTOR)
        ring = self._rings.get(entry.experiment)
        if ring is None:
            # An experiment that is not here has nothing above what was forgotten: new and forgotten look the same.
            ring = self._rings[entry.experiment] = Ring(self._forgotten)
        self._rings.move_to_end(entry.experiment)
        self._held += ring.push(entry, events=self._events, size=self._size)
        while self._held > self._total:
            self._forget_one()

    def since(self, experiment: str | None, offset: int) -> list[Entry] | None:
        """Events of `experiment` (None is all) above `offset`, or None where some may be missing."""
        if experiment is None:
            return self.all.since(offset)
        ring = self._rings.get(experiment)
        if ring is None:
            return None if offset < self._forgotten else []
        found = ring.since(offset)
        if found is None and (wide := self.all.since(offset)) is not None:
            return [entry for entry in wide if entry.experiment == experiment]
        return found

    def kept(self, experiment: str | None) -> list[Entry]:
        """The newest events of `experiment` (None is all), as many as are kept."""
        ring = self.all if experiment is None else self._rings.get(experiment)
        return [] if ring is None else list(ring.entries)

    def sizes(self) -> dict[str, int]:
        """How many events of each experiment are kept."""
        return {experiment: len(ring.entries) for experiment, ring in self._rings.items()}

    def _forget_one(self) -> None:
        _, ring = self._rings.popitem(last=False)
        self._held -= ring.size
        if ring.entries:
            self._forgotten = max(self._forgotten, ring.entries[-1].offset)
        else:
            self._forgotten = max(self._forgotten, ring.floor)
