"""Where a reader goes on in its stream after a lost connection, and what proves that it is the same one: pure."""

from __future__ import annotations

from collections.abc import Sequence

from loopcast.broker.interface import Delivery, StreamOffset
from loopcast.position import Anchor, Position, verify

__all__ = ["CLOCK_SKEW_SECONDS", "OWN_RECORDS", "Resume", "unbroken"]

OWN_RECORDS = 2
"""
How many offsets in a row the broker may have used for records of its own.

It writes one at the begin of each segment (osiris, tracking snapshot). Retention takes whole segments, which are far
more.
"""
CLOCK_SKEW_SECONDS = 5
"""How far the broker's clock may be behind ours before `next`, taken up again, would skip something."""


class Resume:
    """
    The state of one reading: what was handed over last, and what is expected of the next link's first delivery.

    As long as nothing was handed over, the reading begins again where it was asked to. `next` means the moment of the
    first success, so taking it up again is by time: some deliveries from before may come, none after it are missed.
    """

    def __init__(self, start: StreamOffset) -> None:
        self._start = start
        self._floor = start if isinstance(start, int) else 0
        self._last: Position | None = None
        self._unproven = False

    @property
    def offset(self) -> StreamOffset:
        """What to ask the broker for: the last delivery itself, once there is one, because it is the proof."""
        return self._start if self._last is None else self._last.offset

    @property
    def last(self) -> int | None:
        """The offset that was handed over last."""
        return None if self._last is None else self._last.offset

    def begin(self) -> bool:
        """A new link is being opened at :attr:`offset`: whether its first delivery has to prove the stream."""
        self._unproven = self._last is not None
        if self._last is not None:
            # A link that was proven and then lost with all that it brought has left the floor behind the proof.
            self._floor = self._last.offset
        return self._unproven

    def opened(self, now: float) -> None:
        """The broker took the consumer, asked for at the Unix time `now`."""
        if self._start in ("next", "last"):
            self._start = f"@{int(now) - CLOCK_SKEW_SECONDS}"

    def came(self, deliveries: Sequence[Delivery]) -> tuple[Anchor | None, Sequence[Delivery]]:
        """What `deliveries` prove, if they are the first, and those of them that were not handed over before."""
        anchor = None
        if self._unproven and self._last is not None:
            found = next((d for d in deliveries if d.offset >= self._floor), None)
            if found is None:
                return None, ()
            anchor = verify(self._last, found.offset, found.message_id)
            if anchor is not Anchor.PROVEN:
                return anchor, ()
            self._unproven, self._floor = False, self._last.offset + 1
        if deliveries[0].offset >= self._floor:
            return anchor, deliveries
        return anchor, [d for d in deliveries if d.offset >= self._floor]

    def follows(self, delivery: Delivery) -> bool:
        """Whether no message can lie between what was handed over last and `delivery`; true of the first there is."""
        return self._last is None or delivery.offset - self._last.offset <= 1 + OWN_RECORDS

    def handed(self, delivery: Delivery) -> None:
        """`delivery` and all before it were handed over."""
        self._last = Position.of(0, delivery.offset, delivery.message_id)
        self._floor = delivery.offset


def unbroken(deliveries: Sequence[Delivery]) -> int:
    """How many of `deliveries` there are, from the first on, whose offsets follow each other without a hole."""
    first, count = deliveries[0].offset, len(deliveries)
    if deliveries[-1].offset == first + count - 1:
        return count
    return next(n for n, delivery in enumerate(deliveries) if delivery.offset != first + n)
