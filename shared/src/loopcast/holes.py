"""
What is missing of runs, kept until it is told: one line a minute at most in a reader's log, however many holes. Pure.

How a hole is found is :meth:`loopcast.repeats.Repeats.hole`.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["EVERY_SECONDS", "HINT", "Hole", "Holes", "Missing"]

EVERY_SECONDS = 60.0
HINT = "their emitter dropped them (its spool was full), or they were refused for good; its own log says why"


class Hole(NamedTuple):
    """Events of a run that its emitter numbered and that never came."""

    experiment: str
    run: str
    events: int


class Missing(NamedTuple):
    """What is to be told of the time since the last line."""

    events: int
    runs: int
    last: Hole
    """Of the last hole: a run to begin looking at."""


class Holes:
    """The holes that nobody was told of yet."""

    __slots__ = ("_events", "_last", "_next", "_runs")

    def __init__(self) -> None:
        self._next = float("-inf")
        self._events = 0
        self._runs: set[tuple[str, str]] = set()
        self._last: Hole | None = None

    def add(self, hole: Hole) -> None:
        """There is another."""
        self._events += hole.events
        self._runs.add((hole.experiment, hole.run))
        self._last = hole

    def due(self, now: float) -> Missing | None:
        """What to tell now, once; `now` is in seconds and only goes forward."""
        last = self._last
        if last is None or now < self._next:
            return None
        missing = Missing(self._events, len(self._runs), last)
        self._next = now + EVERY_SECONDS
        self._events, self._last = 0, None
        self._runs.clear()
        return missing
