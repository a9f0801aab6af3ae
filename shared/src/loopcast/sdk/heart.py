"""
Heartbeats: while a run is open, its producer is told every 30 s that the process behind it lives.

Nothing depends on one arriving: they are sent once, between batches, and never queued.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Sequence
from urllib.parse import quote

from loopcast.sdk.post import Post

__all__ = ["EVERY_SECONDS", "Heart"]

EVERY_SECONDS = 30.0
_NOT_THERE = frozenset((404, 405, 501))
"""A producer that knows no heartbeats is spared them."""


class Heart:
    """
    Says which runs live.

    Args:
        path: the experiment's events' path; a run's heartbeat is posted beside it.
        runs: the runs that are open; called with the lock held.
        pid: the process of the loop, None while it is not known to live; called without the lock.
        emitter: who says so.
    """

    def __init__(
        self,
        path: str,
        runs: Callable[[], Sequence[str]],
        pid: Callable[[], int | None],
        emitter: Callable[[], str],
    ) -> None:
        self._base = path.removesuffix("/events")
        self._runs = runs
        self._pid = pid
        self._emitter = emitter
        self._next = time.monotonic() + EVERY_SECONDS

    def until(self, now: float) -> float:
        """Seconds until the next one."""
        return max(0.0, self._next - now)

    def beat(self, lock: threading.Condition, post: Post) -> None:
        """Tell of every open run, where it is time."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + EVERY_SECONDS
        with lock:
            runs = tuple(self._runs())
            emitter = self._emitter()
        pid = self._pid() if runs else None
        if pid is None:
            return
        body = json.dumps({"pid": pid, "host": socket.gethostname(), "emitter": emitter}).encode()
        for run in runs:
            status = post.beat(f"{self._base}/runs/{quote(run, safe='')}/heartbeat", body)
            if status in _NOT_THERE:
                self._next = float("inf")
            if not 200 <= status < 300:
                return
