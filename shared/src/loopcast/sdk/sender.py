"""
The thread that sends: batches in order over one connection, again and again until each is dealt with.

It shares one lock with `send`, and never holds it while it waits for anything.
"""

from __future__ import annotations

import contextlib
import logging
import random
import threading
import time

from loopcast.sdk.buffer import MemoryBuffer
from loopcast.sdk.counters import Complaints
from loopcast.sdk.post import Post
from loopcast.sdk.verdicts import Again, Delivered, Split, pause

__all__ = ["BATCH_EVENTS", "Sender"]

log = logging.getLogger("loopcast")

BATCH_EVENTS = 500
BATCH_BYTES = 512 * 1024
LINGER_SECONDS = 0.01
"""How long the first event of a batch waits for company."""


class Sender:
    """
    Sends what is in `buffer`. One for a process.

    Args:
        buffer: guarded by `lock`.
        lock: a condition, notified whenever something was dealt with.
        post: used by this thread alone.
    """

    def __init__(self, buffer: MemoryBuffer, lock: threading.Condition, post: Post) -> None:
        self._buffer = buffer
        self._lock = lock
        self._post = post
        self._complaints = Complaints()
        self._thread: threading.Thread | None = None
        self._idle = False
        # A bare lock and not an Event: a signal handler may call send in the middle of send, and would wait for ever
        # for the lock inside an Event that its own thread holds.
        self._gate = threading.Lock()
        self._stop = threading.Event()
        self._hurried = threading.Event()
        self.accepted = 0
        self.refused = 0
        self.retries = 0
        self.error = ""

    def wake(self) -> None:
        """There is something to send; never waits. The caller holds the lock."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="loopcast-sender", daemon=True)
            self._thread.start()
        if self._idle:
            self._idle = False
            self._open_gate()

    def hurry(self) -> None:
        """Do not linger any more: somebody waits."""
        self._hurried.set()

    def take_your_time(self) -> None:
        """Linger again."""
        if not self._stop.is_set():
            self._hurried.clear()

    def stop(self) -> None:
        """End after the request that is on its way, whatever is left."""
        self._stop.set()
        self._hurried.set()
        self._open_gate()

    def join(self, seconds: float) -> None:
        """Wait for the end of the thread."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(seconds)

    def _open_gate(self) -> None:
        with contextlib.suppress(RuntimeError):  # It is open.
            self._gate.release()

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                batch = self._next_batch()
                if batch:
                    self._deliver(batch)
                else:
                    self._gate.acquire(timeout=60)
        except Exception:
            # Without this thread everything waits for ever: say so once, loudly, whatever it is.
            log.exception("loopcast: the sender stopped; events stay where they are")
        finally:
            self._post.close()

    def _next_batch(self) -> list[bytes]:
        with self._lock:
            if not self._buffer.waiting:
                self._idle = True
                return []
            short = self._buffer.waiting < BATCH_EVENTS
        if short and not self._hurried.is_set():
            self._hurried.wait(LINGER_SECONDS)
        with self._lock:
            return self._buffer.take(BATCH_EVENTS, BATCH_BYTES)

    def _deliver(self, batch: list[bytes]) -> None:
        """Send all of `batch`, smaller parts where one of its events is at fault; what is left at the end goes back."""
        size, tries = len(batch), 0
        while batch and not self._stop.is_set():
            part = batch[:size]
            match self._post.send(part):
                case Delivered(refused, reason):
                    self._settle(part, refused, reason)
                    batch, size, tries = batch[size:], min(len(batch), size * 2), 0
                case Split(reason) if len(part) == 1:
                    self._settle(part, 1, reason)
                    batch = batch[1:]
                case Split():
                    size = max(1, len(part) // 2)
                case Again(seconds, reason):
                    self._wait(tries, seconds, reason)
                    tries += 1
        if batch:
            with self._lock:
                self._buffer.give_back(batch)

    def _settle(self, part: list[bytes], refused: int, reason: str) -> None:
        if refused:
            self._complain(f"{refused} events were refused for good: {reason}")
        with self._lock:
            self._buffer.release(part)
            self.accepted += len(part) - refused
            self.refused += refused
            self.error = reason if refused else ""
            self._lock.notify_all()

    def _wait(self, tries: int, seconds: float, reason: str) -> None:
        with self._lock:
            self.retries += 1
            self.error = reason
            waiting = len(self._buffer)
        if tries:
            self._complain(f"{waiting} events wait, the producer does not take them: {reason}")
        # Jitter against a herd, not a secret.
        self._stop.wait(pause(tries, seconds, random.random()))  # noqa: S311

    def _complain(self, sentence: str) -> None:
        if self._complaints.may_speak(time.monotonic()):
            log.warning("loopcast: %s", sentence)
