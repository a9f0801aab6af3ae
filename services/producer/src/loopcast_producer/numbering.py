"""
When an event was taken, and its number: strictly increasing, for as long as this process lives.

Pure but for the clock that is handed in.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from loopcast.ids import new_emitter

__all__ = ["Numbering", "RecordingClock"]

MAX_RUNS = 100_000
"""How many runs are counted before the table starts anew."""


class RecordingClock:
    """Microseconds since 1970, never the same twice and never back: what `recordedtime` says."""

    def __init__(self, clock: Callable[[], int] = time.time_ns) -> None:
        self._clock = clock
        self._last = 0

    def now(self) -> int:
        """The next moment, a microsecond later than the last one at least."""
        self._last = last = max(self._clock() // 1000, self._last + 1)
        return last


class Numbering:
    """
    Numbers the events that come without one, +1 per run, under an emitter of its own.

    One for each ordered window, because a reader drops a number at or below the last one of its (run, emitter): numbers
    that reach the log by two windows could overtake each other. When the table of runs is full it starts anew under a
    new emitter, so that it stays bounded and no number ever comes twice for two events.
    """

    def __init__(self, max_runs: int = MAX_RUNS) -> None:
        self._max_runs = max_runs
        self._last: dict[str, int] = {}
        self._emitter = new_emitter()

    def next(self, run: str) -> tuple[str, int]:
        """The emitter and the next number of `run`, from 1: one key, as the table may start anew at any event."""
        number = self._last.get(run, 0) + 1
        if number == 1 and len(self._last) >= self._max_runs:
            self._last.clear()
            self._emitter = new_emitter()
        self._last[run] = number
        return self._emitter, number

    def take_back(self, run: str, emitter: str, number: int) -> None:
        """
        Number `run` from `number` again: it, and what came after it, was not sent.

        Only before anything else is numbered, the last one first. What an earlier emitter gave is given up with it.
        """
        if emitter != self._emitter:
            return
        if number == 1:
            self._last.pop(run, None)
        else:
            self._last[run] = number - 1
