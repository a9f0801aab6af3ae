"""
How much waits in an endpoint's queue, and whether that is too much: pure.

The broker tells how many messages wait, not how large they are; that is learnt from those that came.
"""

from __future__ import annotations

from loopcast_webhook_forwarder.batching import Parcel

__all__ = ["UNSEEN_EVENT_BYTES", "Backlog"]

UNSEEN_EVENT_BYTES = 4096
"""What an event is taken for where none was seen yet: it lies in the log too, so a queue left early costs little."""

NEW = 0.1
"""How much the last parcel counts beside all before it."""


class Backlog:
    """One endpoint's: `events` is what the broker said last."""

    def __init__(self, *, max_events: int, max_bytes: int) -> None:
        self._max_events = max_events
        self._max_bytes = max_bytes
        self.events = 0
        self.event_bytes = 0.0
        """On average; 0 while none was seen here."""

    def weigh(self, parcel: Parcel) -> None:
        """Learn from a parcel how large events are."""
        sizes = [len(event.body) for event in parcel.events]
        if any(sizes):
            size = sum(sizes) / len(sizes)
            self.event_bytes = (1 - NEW) * self.event_bytes + NEW * size if self.event_bytes else size

    def is_over(self, remembered: float) -> bool:
        """Whether it is over a bound, by what was seen here, else by the size that a predecessor wrote down."""
        size = self.event_bytes or remembered or UNSEEN_EVENT_BYTES
        return self.events > self._max_events or self.events * size > self._max_bytes
