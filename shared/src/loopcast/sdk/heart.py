"""
Heartbeats: while a run is open, its producer is told every 30 s that the process behind it lives.

Nothing depends on one arriving: they are sent once, between batches, and never queued.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Sequence
from urllib.parse import quote

from loopcast.intervals import PULSE_SECONDS
from loopcast.sdk.post import Post
from loopcast.sdk.stamping import Stamper

__all__ = ["Heart"]

_NOT_THERE = frozenset((404, 405, 501))
"""A producer that knows no heartbeats is spared them."""


class Heart:
    """
    Says which runs live.

    Args:
        path: the experiment's events' path; a run's heartbeat is posted beside it.
        stampers: those whose open runs are told of; the list may grow.
    """

    def __init__(self, path: str, stampers: Sequence[Stamper]) -> None:
        self._base = path.removesuffix("/events")
        self._stampers = stampers
        self._next = time.monotonic() + PULSE_SECONDS

    def until(self, now: float) -> float:
        """Seconds until the next one."""
        return max(0.0, self._next - now)

    def beat(self, lock: threading.Condition, post: Post) -> None:
        """Tell of every open run, where it is time."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + PULSE_SECONDS
        with lock:
            told = [(run, s.emitter, s.alive) for s in self._stampers for run in s.runs.open_runs]
        for run, emitter, alive in told:
            # Outside the lock: it may ask the system, or a file.
            pid = alive()
            if pid is None:
                continue
            body = json.dumps({"pid": pid, "host": socket.gethostname(), "emitter": emitter}).encode()
            status = post.beat(f"{self._base}/runs/{quote(run, safe='')}/heartbeat", body)
            if status in _NOT_THERE:
                self._next = float("inf")
            if not 200 <= status < 300:
                return
