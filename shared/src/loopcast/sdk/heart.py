"""
Heartbeats: while a run is open, its producer is told every 30 s that the process behind it lives.

Nothing depends on one arriving: they are sent once, between batches, and never queued.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import deque
from collections.abc import Sequence
from urllib.parse import quote

from loopcast.intervals import PULSE_SECONDS
from loopcast.sdk.post import Post
from loopcast.sdk.stamping import Stamper

__all__ = ["Heart"]

_NOT_THERE = frozenset((404, 405, 501))
"""A producer that knows no heartbeats is spared them for a while: the next one at its address may know them."""
_THIS_RUN = frozenset((400, 422))
"""What is refused of one run says nothing of the others."""
NOT_THERE_SECONDS = 300.0


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
        self._round: deque[tuple[str, Stamper]] = deque()

    def until(self, now: float) -> float:
        """Seconds until the next one."""
        return max(0.0, self.due - now)

    def beat(self, lock: threading.Condition, post: Post) -> None:
        """
        Tell of one open run, where it is time: events wait for one request at most, however many runs there are.

        The next round begins when the one before has told of all, and no sooner than it is due.
        """
        now = time.monotonic()
        if now < self.due:
            return
        with lock:
            if not self._round:
                self._next = now + PULSE_SECONDS
                self._round.extend((run, s) for s in self._stampers for run in s.runs.open_runs)
            told = self._following()
        if told is None:
            return
        run, stamper = told
        # Outside the lock: it may ask the system, or a file.
        pid = stamper.alive()
        if pid is None:
            return
        body = json.dumps({"pid": pid, "host": socket.gethostname(), "emitter": stamper.emitter}).encode()
        status = post.beat(f"{self._base}/runs/{quote(run, safe='')}/heartbeat", body)
        if status in _NOT_THERE:
            self._next = time.monotonic() + NOT_THERE_SECONDS
        if not 200 <= status < 300 and status not in _THIS_RUN:
            self._round.clear()

    @property
    def due(self) -> float:
        """When the next one is, in seconds of the monotonic clock."""
        return float("-inf") if self._round else self._next

    def _following(self) -> tuple[str, Stamper] | None:
        """The next of this round, None where its run is not open any more."""
        if not self._round:
            return None
        run, stamper = self._round.popleft()
        return (run, stamper) if stamper in self._stampers and run in stamper.runs.open_runs else None
