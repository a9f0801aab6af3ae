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

from loopcast.sdk.batch import Batch
from loopcast.sdk.counters import FULL, Complaints
from loopcast.sdk.heart import Heart
from loopcast.sdk.inheritance import Inheritance
from loopcast.sdk.post import Post
from loopcast.sdk.spool import Spool
from loopcast.sdk.verdicts import Again, Delivered, Split, Verdict, pause

__all__ = ["BATCH_EVENTS", "Sender"]

log = logging.getLogger("loopcast")

BATCH_EVENTS = 500
BATCH_BYTES = 512 * 1024
LINGER_SECONDS = 0.01
"""How long the first event of a batch waits for company."""
FAULT_SECONDS = 1.0
SYNC_SECONDS = 0.5
"""What waits for longer is forced to the disk."""


class Sender:
    """
    Sends what is in `spool`, and before that what dead processes of the same experiment left. One for a process.

    Args:
        spool: guarded by `lock`.
        path: where its events are posted.
        lock: a condition, notified whenever something was dealt with.
        post: used by this thread alone.
        inheritance: the spools of dead processes.
        heart: says which runs live.
    """

    def __init__(
        self,
        spool: Spool,
        path: str,
        lock: threading.Condition,
        post: Post,
        *,
        inheritance: Inheritance,
        heart: Heart,
    ) -> None:
        self._own = spool
        self._path = path
        self._lock = lock
        self._post = post
        self._inheritance = inheritance
        self._heart = heart
        self._inherited: list[tuple[str, Spool]] = []
        """In hand: one of this experiment and one of another at most."""
        self._is_asked = False
        """Whether it is to look now, also in the middle of tries in vain."""
        self._asking = False
        """Whether there may be one more of this experiment."""
        self._is_heir: bool | None = None
        """Whether there is one of this experiment, None before the first look. Guarded by the lock."""
        self._most = BATCH_EVENTS
        """How many go in one request: fewer where a request takes long, until it does not."""
        self._complaints = Complaints()
        self._thread: threading.Thread | None = None
        self.idle = True
        """Whether it must be woken: it was not started, or it waits for something to send. Guarded by the lock."""
        # A bare lock and not an Event: a signal handler may call send in the middle of send, and would wait for ever
        # for the lock inside an Event that its own thread holds.
        self._gate = threading.Lock()
        self._stop = threading.Event()
        self._hurried = threading.Event()
        self.accepted = 0
        self.refused = 0
        self.inherited = 0
        self.inherited_dropped = 0
        self.inherited_refused = 0
        self.inherited_unsaved = 0
        self._told = 0
        """How many dropped events the log knows of."""
        self.retries = 0
        self.error = ""

    def wake(self) -> None:
        """There is something to send; never waits. The caller holds the lock."""
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="loopcast-sender", daemon=True)
            # Where the system has no thread to give, the next event tries again.
            thread.start()
            self._thread = thread
        if self.idle:
            self.idle = False
            self._open_gate()

    def look(self) -> None:
        """Look for spools that others left now, and send those before anything else. The caller holds the lock."""
        self._inheritance.hasten()
        self._is_asked = True
        self.wake()

    def sends_first(self, place: str) -> bool:
        """Whether the spool that lies there goes before whatever is sent from now on."""
        return any(spool.place == place for spool in (self._own, *(spool for _, spool in list(self._inherited))))

    @property
    def is_inheriting(self) -> bool:
        """Whether events of a dead process of this experiment come first, as far as is known."""
        if self._thread is None or not self._thread.is_alive():
            return False
        return self._is_heir is not False

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
        if self._thread is None:
            self._close()
        elif self._thread is not threading.current_thread():
            self._thread.join(seconds)
        if losses := self._complaints.losses():
            log.warning("loopcast: %s", " ".join(losses))

    def forget(self) -> None:
        """Close what a fork's child inherited: it is its parent's."""
        for _, spool in [("", self._own), *self._inherited]:
            spool.forget()
        self._post.close()

    def _open_gate(self) -> None:
        with contextlib.suppress(RuntimeError):  # It is open.
            self._gate.release()

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                try:
                    self._step()
                except Exception:
                    # Without this thread everything waits for ever, whatever it is that went wrong.
                    if self._complaints.may_speak(time.monotonic()):
                        log.exception("loopcast: sending failed; it is tried again")
                    self._stop.wait(FAULT_SECONDS)
        finally:
            self._close()

    def _step(self) -> None:
        self._look_for_inheritance()
        if self._own.error or self._own.dropped > self._told or self._complaints.has_losses:
            self._complain()
        path, spool = next((s for s in self._inherited if s[0] == self._path), (self._path, self._own))
        batch = self._next_batch(spool)
        if batch is not None:
            self._deliver(path, spool, batch)
        elif spool is not self._own:
            self._finish(path, spool)
        elif self._inherited or self._inherit(self._inheritance.other()):
            self._send_for_others()
        else:
            self._rest()
        self._heart.beat(self._lock, self._post)

    def _look_for_inheritance(self) -> None:
        """Take over the next spool of this experiment, where there is one and none is in hand."""
        self._is_asked = False
        self._asking = self._inheritance.look(time.monotonic()) or self._asking
        if not self._asking or any(path == self._path for path, _ in self._inherited):
            return
        self._asking = self._inherit(self._inheritance.own())
        with self._lock:
            self._is_heir = self._asking
            self._lock.notify_all()

    def _inherit(self, found: tuple[str, Spool] | None) -> bool:
        if self._inheritance.fault:
            self._complain(f"What a dead process left is kept and tried later, {self._inheritance.fault}.")
            self._inheritance.fault = ""
        if found is not None:
            self._inherited.append(found)
        return found is not None

    def _send_for_others(self) -> None:
        """One batch of another experiment, while this one has nothing to send; given up until later where it fails."""
        path, spool = self._inherited[0]
        batch = self._next_batch(spool)
        if batch is None:
            self._finish(path, spool)
        elif self._deliver(path, spool, batch, patient=False):
            self._inheritance.went_well(path)
        else:
            self._inheritance.put_off(path)
            self._finish(path, spool)

    def _finish(self, path: str, spool: Spool) -> None:
        self._inherited.remove((path, spool))
        # With what is left in it the spool stays, and so does its count.
        if not len(spool):
            self._lost(spool.damaged, "bytes of what a dead process left were damaged")
            self._lost(spool.unreadable, "events of a dead process at least are lost, its disk does not give them back")
            self._lost(spool.dropped, f"events of a dead process were dropped: {FULL}")
            with self._lock:
                self.inherited_dropped += spool.dropped
                self.inherited_unsaved += spool.unreadable
        spool.close()

    def _rest(self) -> None:
        with self._lock:
            self.idle = not self._own.waiting
            if not self.idle:
                return
        now = time.monotonic()
        self._gate.acquire(timeout=min(self._heart.until(now), self._inheritance.until(now)))

    def _next_batch(self, spool: Spool) -> Batch | None:
        with self._lock:
            if spool.batch is not None or not spool.waiting:
                return spool.batch
            short = spool is self._own and spool.waiting < BATCH_EVENTS
        if short and not self._hurried.is_set():
            self._hurried.wait(LINGER_SECONDS)
        for _ in range(3):
            with self._lock:
                plan = spool.plan()
            if plan is None:
                return None
            try:
                batch, damaged = spool.load(plan, BATCH_EVENTS, BATCH_BYTES)
            except OSError:
                with self._lock:
                    spool.stumble(plan)
                raise
            with self._lock:
                if spool.take(plan, batch, damaged):
                    return spool.batch
        # The oldest are dropped faster than they can be read: then nothing else happens meanwhile.
        with self._lock:
            plan = spool.plan()
            if plan is None:
                return None
            batch, damaged = spool.load(plan, BATCH_EVENTS, BATCH_BYTES)
            return spool.batch if spool.take(plan, batch, damaged) else None

    def _deliver(self, path: str, spool: Spool, batch: Batch, *, patient: bool = True) -> bool:
        """
        Send all of `batch`, smaller parts where one of its events is at fault; whether all of it is dealt with.

        What is not stays taken, and comes first the next time.
        """
        records = batch.records
        size, tries = len(records), 0
        while records and not self._stop.is_set():
            part = records[: min(size, self._most)]
            match self._send(path, part):
                case Delivered(refused, reason):
                    self._settle(path, spool, part, refused, reason)
                    records, size, tries = records[len(part) :], min(len(records), size * 2), 0
                case Split(reason) if len(part) == 1:
                    self._settle(path, spool, part, 1, reason)
                    records = records[1:]
                case Split():
                    size = max(1, len(part) // 2)
                case Again(seconds, reason, wants_help):
                    # What only the user can mend is said at once; a producer that starts anew is back in a moment.
                    self._wait(path, spool, tries, seconds if patient else 0.0, reason, says=wants_help or tries > 0)
                    if not patient or (spool is self._own and self._is_asked):
                        return False
                    tries += 1
        return not records

    def _send(self, path: str, part: list[bytes]) -> Verdict:
        """
        Send `part`, and learn from it how much the next request may have.

        A slow producer or line gets all of a batch in time only in pieces. Half as much goes where it took long and
        failed, whatever says so (no answer, 408, a proxy's 504), twice as much where all that may go had ample time.
        """
        began = time.monotonic()
        verdict = self._post.send(path, part)
        took_long = time.monotonic() - began >= self._post.patience / 4
        if took_long and isinstance(verdict, Again):
            self._most = max(1, len(part) // 2)
        elif isinstance(verdict, Delivered) and not took_long and len(part) == self._most:
            self._most = min(BATCH_EVENTS, self._most * 2)
        return verdict

    def _settle(self, path: str, spool: Spool, part: list[bytes], refused: int, reason: str) -> None:
        self._lost(refused, f"events were refused for good: {reason}")
        with self._lock:
            if not spool.settle(len(part)):  # It was abandoned meanwhile, and they are counted as unsaved.
                return
            if spool is self._own:
                self.accepted += len(part) - refused
                self.refused += refused
            else:
                self.inherited += len(part) - refused
                self.inherited_refused += refused
            if path == self._path:
                self.error = reason if refused else ""
            self._lock.notify_all()

    def _wait(self, path: str, spool: Spool, tries: int, seconds: float, reason: str, *, says: bool) -> None:
        mine = path == self._path
        with self._lock:
            self.retries += 1
            if mine:
                self.error = reason
            waiting = len(spool)
        if says:
            where = f"{self._post.address} (LOOPCAST_URL)"
            whose = "" if mine else f" that a dead process left for {path}"
            self._complain(f"{waiting} events{whose} wait, {where} does not take them: {reason}.")
        # Jitter against a herd, not a secret.
        wait = pause(tries, seconds, random.random())  # noqa: S311
        if wait > SYNC_SECONDS:
            self._sync()
        self._stop.wait(wait)

    def _alone(self) -> str:
        waiting, error = self._in_memory(), self._own.error
        return f"{waiting} events wait in memory alone, the spool (LOOPCAST_SPOOL_DIR) does not take them: {error}."

    def _sync(self) -> None:
        with contextlib.suppress(OSError):  # It is in the page cache, which outlives the process at least.
            self._own.sync()

    def _in_memory(self) -> int:
        with self._lock:
            return self._own.in_memory

    def _lost(self, count: int, what: str) -> None:
        """Say so, now or when the next line may be logged, at the end at the latest."""
        if count:
            self._complaints.note(count, what)
            self._complain()

    def _complain(self, *sentences: str) -> None:
        """Say `sentences`, and what else is wrong, unless something was said a moment ago."""
        if not self._complaints.may_speak(time.monotonic()):
            return
        sentences = self._complaints.losses() + sentences
        if self._own.error:
            sentences += (self._alone(),)
        if (dropped := self._own.dropped) > self._told:
            self._told = dropped
            sentences += (f"{dropped} events were dropped: {FULL}.",)
        log.warning("loopcast: %s", " ".join(sentences))

    def _close(self) -> None:
        self._post.close()
        with self._lock:
            for _, spool in [("", self._own), *self._inherited]:
                spool.close()
            self._inherited.clear()
