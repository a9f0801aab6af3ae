"""
What this process knows of one partition of the log: how far it has read, the recent events, and what was before.

Pure: fed what the tail reader got, it gives what is new to dispatch.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from loopcast.broker.interface import Delivery
from loopcast.position import Anchor, Position, verify
from loopcast.repeats import Repeats
from loopcast_gateway.catalog import Catalog
from loopcast_gateway.digest import Digest
from loopcast_gateway.entry import Entry, is_repeat, recorded_by, to_entry
from loopcast_gateway.resume import Stretch
from loopcast_gateway.ring import Recent
from loopcast_gateway.spans import MERGE, Segment

__all__ = ["Partition"]

MARKS = 2000
"""Messages other than events (heartbeats, mostly) whose ids are kept, because a `pos` may stand on one."""

CHECKPOINT = "checkpoint"
"""The header by which a heartbeat tells up to which offset a checkpoint was written."""


class Partition:
    """One partition as read by this process: a digest of what was before, and what it was given since."""

    def __init__(self, number: int, *, ring_events: int, ring_bytes: int, ring_total_bytes: int) -> None:
        self.number = number
        self._bounds = {"events": ring_events, "size": ring_bytes, "total": ring_total_bytes}
        self.repeats = 0
        """How many repeats were dropped, of every log that this was."""
        self.evicted = 0
        """How many emitters and ids were forgotten, so that a repeat of theirs would be shown."""
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
        self.digest = Digest(whole=False)
        """What all that was read comes to."""
        self.whole = False
        """Whether everything that the log has was read, by this process or by whoever wrote the digest that it has."""
        self.checkpointed = -1
        """The highest offset for which somebody said that a checkpoint was written."""
        self.fresh = 0
        """How many events came since then."""
        self._floor = -1
        self._marks: OrderedDict[int, str] = OrderedDict()

    @property
    def catalog(self) -> Catalog:
        """The experiments of this partition."""
        return self.digest.catalog

    def begin(self, digest: Digest, offset: int) -> None:
        """Go on behind `offset`, up to which `digest` tells of everything."""
        self.digest, self.tail, self.checkpointed, self.whole = digest, offset, offset, True

    def warm(self, deliveries: Sequence[Delivery]) -> None:
        """Put messages into the rings that the digest tells of already."""
        for delivery in deliveries:
            entry = to_entry(delivery, self.number)
            if entry is None or self.digest.repeated(delivery.offset):
                self._mark(delivery)
            else:
                self._recent(delivery).push(entry)
        if deliveries:
            self.pos = str(Position.of(self.number, deliveries[-1].offset, deliveries[-1].message_id))

    def lead_in(self, deliveries: Sequence[Delivery]) -> None:
        """Know messages from before the first that counts, so that repeats of them are known for such."""
        for delivery in deliveries:
            self.digest.lead_in(delivery)

    def take(self, deliveries: Sequence[Delivery]) -> list[Entry]:
        """Read on: the events that are new, in log order."""
        if not deliveries:
            return []
        recent, digest, number = self._recent(deliveries[0]), self.digest, self.number
        if self.tail < 0:
            if self.whole:
                self.catalog.begin(deliveries[0].offset, recorded_by(deliveries[0]))
            else:
                self._floor = deliveries[0].offset - 1
        fresh: list[Entry] = []
        dropped, evicted = digest.repeats.dropped, digest.repeats.evicted
        for delivery in deliveries:
            entry = digest.read(delivery, number)
            if entry is None:
                self._mark(delivery)
            else:
                recent.push(entry)
                fresh.append(entry)
        self.repeats += digest.repeats.dropped - dropped
        self.evicted += digest.repeats.evicted - evicted
        self.fresh += len(fresh)
        last = deliveries[-1]
        self.tail = last.offset
        self.pos = str(Position.of(number, last.offset, last.message_id))
        return fresh

    def complete(self, digest: Digest) -> None:
        """Know what was before the first message that was read here too: `digest` tells of all up to the tail."""
        digest.missed()
        self.digest, self.whole = digest, True

    def segments(
        self, experiment: str | None, behind: int, until: int, *, since: int = 0, merge: int = MERGE
    ) -> list[Segment]:
        """
        What to read of the log for the events of `experiment` (None is all) above `behind`, up to `until`.

        With `since` (microseconds since 1970) only those recorded later are wanted. There may be others in it too.
        """
        found = self.catalog.segments(experiment, self.number, max(behind, self.known_from), until, since, merge=merge)
        if behind < (low := min(self.known_from, until)):
            found.insert(0, Segment(behind, low))
        return found

    @property
    def known_from(self) -> int:
        """The offset up to which it is not known where an experiment's events are; -1 where all is known."""
        return -1 if self.whole else self._floor

    def stretch(self, after: Position | int, until: int | None = None, *, inclusive: bool = False) -> Stretch:
        """The plan for reading from the stream what is above `after`, up to what this process has read."""
        return Stretch(after, self.tail if until is None else until, self._replayed, inclusive=inclusive)

    def since(self, experiment: str | None, offset: int) -> list[Entry] | None:
        """Recent events of `experiment` (None is all) above `offset`; None where the stream must be asked."""
        return self.recent.since(experiment, offset) if self.recent is not None else None

    def prove(self, position: Position) -> Anchor | None:
        """What the messages that are remembered prove about `position`; None where the stream must be asked."""
        entry = self.recent.all.at(position.offset) if self.recent is not None else None
        id_ = self._marks.get(position.offset) if entry is None else entry.id
        return None if id_ is None else verify(position, position.offset, id_)

    def _recent(self, first: Delivery) -> Recent:
        if self.recent is None:
            self.recent = Recent(first.offset - 1, **self._bounds)
        return self.recent

    def _replayed(self, delivery: Delivery, repeats: Repeats) -> Entry | None:
        """The event of a message that is read again, by somebody who knows less of what came before."""
        entry = to_entry(delivery, self.number)
        if entry is None or is_repeat(delivery, repeats) or self.digest.repeated(delivery.offset):
            return None
        return entry

    def _mark(self, delivery: Delivery) -> None:
        self._marks[delivery.offset] = delivery.message_id
        if len(self._marks) > MARKS:
            self._marks.popitem(last=False)
        written = delivery.headers.get(CHECKPOINT)
        if isinstance(written, int) and self.checkpointed < written <= delivery.offset:
            self.checkpointed, self.fresh = written, 0
