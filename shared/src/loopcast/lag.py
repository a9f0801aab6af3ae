"""
How far behind the log its reader's work is, in seconds: the age of the oldest event that it has not dealt with.

Offsets say nothing about time, and nobody can ask a stream for its end. But every event says when a producer took it,
so a reader knows up to what moment everything is done; and one that is connected and given nothing for longer than the
broker takes to answer has nothing left to do. Pure: the clock is the caller's.
"""

from __future__ import annotations

from loopcast.broker.interface import Delivery

__all__ = ["Lag", "recorded_at"]


class Lag:
    """
    The moment up to which everything is done, in seconds since 1970.

    Args:
        now: when the reading began; before anything is known, lag is counted from here.
    """

    __slots__ = ("_done",)

    def __init__(self, now: float) -> None:
        self._done = now

    def reached(self, recorded: float | None) -> None:
        """Everything before an event that was recorded then is done; None is an event that does not say when."""
        if recorded is not None:
            self._done = recorded

    def idle(self, now: float) -> None:
        """There is nothing left to do."""
        self._done = now

    def seconds(self, now: float) -> float:
        """The lag; never negative, though a producer's clock may be ahead of this one."""
        return max(0.0, now - self._done)


def recorded_at(delivery: Delivery) -> float | None:
    """When a producer took what is delivered, in seconds since 1970; None where a stranger published it without."""
    recorded = delivery.headers.get("recorded")
    if isinstance(recorded, int):
        return recorded / 1e6
    # A heartbeat has a time in whole seconds alone.
    return float(delivery.timestamp) if delivery.timestamp else None
