"""Writing every outbox that has something, once a tick of the event loop: several events, one system call a viewer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

__all__ = ["Flushable", "Flusher"]

SLICE = 1000
"""Viewers written to before others get a turn on the loop: about 5 ms."""


Schedule = Callable[[Callable[[], None]], object]


class Flushable(Protocol):
    """One connection, as the flusher sees it."""

    def flush(self) -> None:
        """Write what waits, as far as the socket takes it. Must not raise."""
        ...


class Flusher:
    """
    The viewers that have something to write; `call_soon` runs a callback in the next tick.

    `begin`, where given, runs it when the first of a batch has waited long enough instead.
    """

    def __init__(self, call_soon: Schedule, begin: Schedule | None = None) -> None:
        self._call_soon = call_soon
        self._begin = begin or call_soon
        self._waiting: list[Flushable] = []
        self._scheduled = False
        self.on_idle: Callable[[], None] | None = None
        """Called each time that everybody who had something was written to."""

    @property
    def idle(self) -> bool:
        """Whether nothing waits to be written."""
        return not self._scheduled

    def add(self, viewer: Flushable) -> None:
        """Flush `viewer` in this turn; once is enough however much is put into its outbox."""
        self._waiting.append(viewer)
        if not self._scheduled:
            self._scheduled = True
            self._begin(self._run)

    def _run(self) -> None:
        now, self._waiting = self._waiting[:SLICE], self._waiting[SLICE:]
        self._scheduled = bool(self._waiting)
        if self._scheduled:
            self._call_soon(self._run)
        for viewer in now:
            viewer.flush()
        if self.on_idle is not None and not self._scheduled:
            self.on_idle()
