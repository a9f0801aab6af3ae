"""
What this process knows of one partition of the log: how far it has read, the recent events, and which were repeats.

Pure: fed what the tail reader got, it gives what is new to dispatch.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from loopcast.broker.interface import Delivery
from loopcast.position import Anchor, Position, verify
from loopcast.repeats import Repeats
from loopcast_gateway.catalog import Catalog
from loopcast_gateway.entry import Entry, is_repeat, to_entry
from loopcast_gateway.resume import Stretch
from loopcast_gateway.ring import Recent

__all__ = ["Partition"]

MARKS = 2000
"""Messages other than events (heartbeats, mostly) whose ids are kept, because a `pos` may stand on one."""

REPEATS = 100_000
"""Offsets of repeats that are kept, so that a replay leaves out what the live feed left out."""


class Partition:
    """One partition as read by this process, from the first message that it was given on."""

    def __init__(self, number: int, *, ring_events: int, ring_bytes: int, ring_total_bytes: int) -> None:
        self.number = number
        self._bounds = {"events": ring_events, "size": ring_bytes, "total": ring_total_bytes}
        self.generation = 0
        """Which log this is: one more after each :meth:`reset`."""
        self._begin()

    def reset(self) -> None:
        """Know nothing: the log is another, or has lost what was read."""
        self.generation += 1
        self._begin()

    def _begin(self) -> None:
        self.tail = -1
        """The last offset read; -1 before the first message."""
        self.recent: Recent | None = None
        self.pos: str | None = None
        """The last message read, as a position; None before the first."""
        self.catalog = Catalog()
        """The experiments of this partition."""
        self.whole = False
        """Whether everything that the log has was read, from its first message on."""
        self._repeats = Repeats()
        self._repeated: OrderedDict[int, None] = OrderedDict()
        self._marks: OrderedDict[int, str] = OrderedDict()

    @property
    def repeats(self) -> int:
        """How many repeats were dropped."""
        return self._repeats.dropped

    def take(self, deliveries: Sequence[Delivery]) -> list[Entry]:
        """Read on: the events that are new, in log order."""
        if not deliveries:
            return []
        if self.recent is None:
            self.recent = Recent(deliveries[0].offset - 1, **self._bounds)
        fresh: list[Entry] = []
        for delivery in deliveries:
            entry = self._read(delivery, self._repeats)
            if entry is None:
                self._mark(delivery)
            else:
                self.recent.push(entry)
                self.catalog.add(entry)
                fresh.append(entry)
        last = deliveries[-1]
        self.tail = last.offset
        self.pos = str(Position.of(self.number, last.offset, last.message_id))
        return fresh

    def stretch(self, after: Position | int, until: int | None = None) -> Stretch:
        """The plan for reading from the stream what is above `after`, up to what this process has read."""
        return Stretch(after, self.tail if until is None else until, self._replayed)

    def since(self, experiment: str | None, offset: int) -> list[Entry] | None:
        """Recent events of `experiment` (None is all) above `offset`; None where the stream must be asked."""
        return self.recent.since(experiment, offset) if self.recent is not None else None

    def prove(self, position: Position) -> Anchor | None:
        """What the messages that are remembered prove about `position`; None where the stream must be asked."""
        entry = self.recent.all.at(position.offset) if self.recent is not None else None
        id_ = self._marks.get(position.offset) if entry is None else entry.id
        return None if id_ is None else verify(position, position.offset, id_)

    def _read(self, delivery: Delivery, repeats: Repeats) -> Entry | None:
        entry = to_entry(delivery, self.number)
        if entry is None:
            return None
        if is_repeat(delivery, repeats):
            self._repeated[delivery.offset] = None
            if len(self._repeated) > REPEATS:
                self._repeated.popitem(last=False)
            return None
        return entry

    def _replayed(self, delivery: Delivery, repeats: Repeats) -> Entry | None:
        """As :meth:`_read`, for somebody who reads a stretch again and knows less of what came before."""
        entry = to_entry(delivery, self.number)
        if entry is None or is_repeat(delivery, repeats) or delivery.offset in self._repeated:
            return None
        return entry

    def _mark(self, delivery: Delivery) -> None:
        self._marks[delivery.offset] = delivery.message_id
        if len(self._marks) > MARKS:
            self._marks.popitem(last=False)
