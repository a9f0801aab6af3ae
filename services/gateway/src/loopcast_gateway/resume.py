"""
Reading a stretch of the log for somebody who comes late: the same log, complete, every event once.

A stretch begins at a position, which must be proven (:mod:`loopcast.position`), or at a bare offset, and ends at the
offset up to which this process has already read. Pure: it is fed what a stream reader got, and gives what to send.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from loopcast.broker.interface import Delivery
from loopcast.position import Anchor, Position, verify
from loopcast.repeats import Repeats
from loopcast_gateway.entry import Entry

__all__ = ["LEAD_IN", "Read", "Stretch"]

LEAD_IN = 500
"""Messages read before the place to go on from, so that a repeat of what stands there is known for one."""

Read = Callable[[Delivery, Repeats], "Entry | None"]
"""Makes an entry of a delivery; None for what viewers never see: heartbeats, repeats, what is no event."""


class Stretch:
    """
    The events above `after` up to and including the offset `until`.

    `after` is a position to prove, or the offset behind which to begin, where nothing is to be proven. With `inclusive`
    the message at the position belongs to the stretch.
    """

    def __init__(self, after: Position | int, until: int, read: Read, *, inclusive: bool = False) -> None:
        self._anchor = after if isinstance(after, Position) else None
        self._behind = after.offset - inclusive if isinstance(after, Position) else after
        self.until = until
        """The last offset of the stretch."""
        self._read = read
        self._repeats = Repeats()
        self.verdict: Anchor | None = Anchor.PROVEN if self._anchor is None else None
        """What the log proved about `after`; None until it said anything."""
        self.empty = self._anchor is None and until <= self._behind
        """Whether there is nothing to read and nothing to prove."""
        self.done = self.empty
        """Whether nothing more is to be read: the end was reached, or the log is not the one that was asked for."""
        self.scanned = 0
        """How many messages were read, the lead-in not counted."""
        self.first: Delivery | None = None
        """The first message of the stretch, whatever it was; the lead-in is not of it."""
        self.last: Delivery | None = None
        """The last message of the stretch so far, whatever it was: a place to go on from."""

    @property
    def anchor(self) -> int | None:
        """The offset that is to be proven; None where there is none."""
        return None if self._anchor is None else self._anchor.offset

    @property
    def start(self) -> int:
        """The offset to read from: a lead-in before the first that counts."""
        return max(0, self._behind - LEAD_IN)

    def feed(self, deliveries: Sequence[Delivery]) -> list[Entry]:
        """Take what the reader got; the events to send, in log order."""
        found: list[Entry] = []
        for delivery in deliveries:
            if self.done or self._ends_before(delivery):
                self.done = True
                break
            if delivery.offset > self._behind:
                self.scanned += 1
                self.first = self.first or delivery
            self.last = delivery
            entry = self._read(delivery, self._repeats)
            if entry is not None and delivery.offset > self._behind:
                found.append(entry)
            # Nothing may follow for a long time, so the end is known from the last message itself.
            self.done = delivery.offset >= self.until
        return found

    def _ends_before(self, delivery: Delivery) -> bool:
        """Whether `delivery` is beyond the stretch: behind its end, or not of the log that was asked for."""
        anchor = self._anchor
        if self.verdict is None and anchor is not None and delivery.offset >= anchor.offset:
            self.verdict = verify(anchor, delivery.offset, delivery.message_id)
            if self.verdict is Anchor.TRUNCATED and self.last is not None:
                # Truncation takes the beginning: what stands before the place is there, so this is another log.
                self.verdict = Anchor.EPOCH_CHANGED
        return self.verdict not in (None, Anchor.PROVEN) or delivery.offset > self.until
