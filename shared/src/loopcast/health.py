"""
Whether a process has started, may be sent work, and is alive: what the probes on the ops port answer.

Three questions, three answers (https://kubernetes.io/docs/concepts/configuration/liveness-readiness-startup-probes/).
Liveness never depends on RabbitMQ: restarting a fleet does not bring a broker back.
"""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["Health"]

STUCK_SECONDS = 30.0
"""An event loop that has not run for so long is taken for dead."""


class Health:
    """The state behind the probes. `clock` gives seconds and only has to go forward."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._beat = clock()
        self._waiting: dict[str, str] = {}
        self.draining = False
        self.started = False

    def wait_for(self, what: str, why: str) -> None:
        """Not ready until :meth:`reached`: `what` names a condition, `why` is the sentence that the probe answers."""
        self._waiting[what] = why

    def reached(self, what: str) -> None:
        """The condition `what` holds. When none is left for the first time, the process has started."""
        self._waiting.pop(what, None)
        if not self._waiting:
            self.started = True

    def beat(self) -> None:
        """The event loop ran."""
        self._beat = self._clock()

    def startup(self) -> tuple[bool, str]:
        """Whether the process has been ready once, and a sentence."""
        return self.started, "started" if self.started else self._sentence()

    def readiness(self) -> tuple[bool, str]:
        """Whether the process may be sent work, and a sentence."""
        if self.draining:
            return False, "draining: no new work"
        return (False, self._sentence()) if self._waiting else (self.started, "ready")

    def liveness(self) -> tuple[bool, str]:
        """Whether the event loop runs, and a sentence."""
        silent = self._clock() - self._beat
        if silent > STUCK_SECONDS:
            return False, f"the event loop has not run for {silent:.0f} s"
        return True, "alive"

    def _sentence(self) -> str:
        return "; ".join(self._waiting.values()) or "starting"
