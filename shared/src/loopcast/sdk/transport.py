"""
`LoopcastTransport`: takes events from a loop and gives them to a thread of its own; the loop never waits.

Satisfies little-loops' `Transport` protocol, and needs nothing of it.
"""

from __future__ import annotations

import contextlib
import os
import threading
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from loopcast.sdk.counters import Report, Stats
    from loopcast.sdk.sender import Sender
    from loopcast.sdk.spool import Spool
    from loopcast.sdk.stamping import Stamper

__all__ = ["LoopcastTransport", "Transport"]

CLOSE_SECONDS = 5.0


@runtime_checkable
class Transport(Protocol):
    """A sink of events, as little-loops knows it."""

    def send(self, event: dict[str, Any]) -> None:
        """Take one event."""
        ...

    def close(self) -> None:
        """Let go of everything."""
        ...


class LoopcastTransport:
    """
    Sends a loop's events to a producer, in the background and in order.

    An event is on disk when `send` returns, so it outlives this process however that ends: what it could not deliver is
    sent by the next process of the user that sends to the same producer.

    What is left out comes from `LOOPCAST_URL` (else the producer on this machine), `LOOPCAST_EXPERIMENT` (else the name
    of the project's folder) and `LOOPCAST_TOKEN`.

    Args:
        url: the producer's address.
        experiment: what the events are of.
        run: the run that every event is of; left out, runs are told apart by their `loop_start`.
        parent_run: the run that spawned this one.
        traceparent: the span that the events are made in (W3C Trace Context), for the traces of whoever reads them;
            with `tracestate`. Left out, both are those of the environment (`TRACEPARENT`, `TRACESTATE`), which
            OpenTelemetry hands to a child process so.
        tracestate: what tracing vendors add to it.
        token: sent as `Authorization: Bearer`.
        redact: called with each event before anything is kept of it; returns what to send, or None to drop it. Where it
            raises, the event is dropped, because an event that could not be redacted must not leave.
        max_bytes: how much may wait here (`LOOPCAST_SPOOL_MAX_BYTES`, 64 MiB).
        full: `drop_oldest` or `drop_newest`, when that is reached (`LOOPCAST_SPOOL_FULL`).
        spool: the folder where events wait (`LOOPCAST_SPOOL_DIR`, else the user's state folder); `off` keeps them in
            memory. Where the disk takes no more they wait in memory too, counted in `stats.in_memory`.
        alive: the process that the heartbeats of open runs name, None while it is not known to live; left out, it is
            this one. Called from the sending thread.

    Raises:
        ConfigurationError: the URL, the size or the policy is wrong; the sentence says how it should be.
        InvalidExperiment: the experiment or a run id breaks its grammar.
    """

    def __init__(
        self,
        url: str | None = None,
        experiment: str | None = None,
        run: str | None = None,
        *,
        parent_run: str | None = None,
        traceparent: str | None = None,
        tracestate: str | None = None,
        token: str | None = None,
        redact: Callable[[dict[str, Any]], dict[str, Any] | None] | None = None,
        max_bytes: int | None = None,
        full: str | None = None,
        spool: str | Path | None = None,
        alive: Callable[[], int | None] | None = None,
    ) -> None:
        # Here and not above, so that importing stays cheap for a program that makes no transport.
        from pathlib import Path

        from loopcast.sdk.configuration import resolve
        from loopcast.sdk.processes import enrol
        from loopcast.sdk.run_memory import RunMemory
        from loopcast.sdk.stamping import Stamper
        from loopcast.trace_context import trace_context

        settings = resolve(url, experiment, token, max_bytes, full, spool=spool, environ=os.environ, folder=Path.cwd())
        self._configuration = settings
        memory = None if settings.spool is None else RunMemory(settings.spool, settings.experiment)
        if traceparent is None:
            traceparent, tracestate = os.environ.get("TRACEPARENT"), os.environ.get("TRACESTATE")
        context = trace_context(traceparent, tracestate)
        self._stamper = Stamper(settings.experiment, run, parent_run, memory, alive=alive or os.getpid, context=context)
        self._stampers = [self._stamper]
        self._memory = memory
        self._redact = redact
        self._begin()
        enrol(self)

    def __repr__(self) -> str:
        return f"LoopcastTransport({self._configuration!r})"

    def send(self, event: dict[str, Any]) -> None:
        """Take an event. Returns in microseconds, never waits for anything outside the process, never raises."""
        try:
            with self._mutex:
                if self._inside:
                    # A signal handler or a finalizer, in the middle of another event: its turn comes after.
                    self._deferred.append(dict(event))
                    return
                self._inside = True
                try:
                    self._take(event, self._stamper)
                    while self._deferred:
                        self._take(self._deferred.pop(0), self._stamper)
                finally:
                    self._inside = False
        except Exception:  # noqa: BLE001, S110 - a loop must never end because somebody watches it; it is counted
            pass

    def source(self, *, remember: bool, **options: Any) -> Stamper:
        """
        A source of events beside this transport's own, with runs and numbers of its own; options as `Stamper` has.

        With `remember`, its runs are known to other processes, for a resume there.
        """
        from loopcast.sdk.stamping import Stamper

        stamper = Stamper(self._configuration.experiment, memory=self._memory if remember else None, **options)
        with self._lock:
            self._stampers.append(stamper)
        return stamper

    def drop_source(self, stamper: Stamper) -> None:
        """Forget a source; its events stay."""
        with self._lock:
            self._stampers.remove(stamper)
            self._coerced += stamper.coerced

    def relay(self, stamper: Stamper, event: dict[str, Any], named: dict[str, Any] | None = None) -> None:
        """Take an event of another source, which `named` says the run of where the event itself does not."""
        with self._lock, contextlib.suppress(Exception):  # It is counted.
            self._take(event, stamper, named)

    @property
    def experiment(self) -> str:
        """What the events are of."""
        return self._configuration.experiment

    @property
    def address(self) -> str:
        """Where they go."""
        return self._configuration.base

    @property
    def room(self) -> float:
        """How much of the spool is free, from 0 to 1."""
        with self._lock:
            return self._spool.room

    @property
    def is_durable(self) -> bool:
        """Whether all that waits would outlive this process."""
        with self._lock:
            return not self._spool.in_memory

    def take_over(self) -> None:
        """
        Send what dead processes left at once, and not with the next event: for who may have none.

        `flush` and `close` wait for what those left of the same experiment.
        """
        with self._lock, contextlib.suppress(RuntimeError):  # No thread can be had: the next event tries again.
            self._sender.look()

    @property
    def place(self) -> str | None:
        """The folder of this process's spool; None where there is none, or none yet."""
        with self._lock:
            return self._spool.place if self._spool.about else None

    def sends_first(self, place: str) -> bool:
        """Whether what is left in the spool that lies there is sent before whatever comes now."""
        with self._lock:
            return self._sender.sends_first(place)

    def sync(self) -> None:
        """Force what waits to the disk, where there is one that takes it."""
        with self._lock, contextlib.suppress(OSError):
            self._spool.sync()

    def flush(self, timeout: float | None = CLOSE_SECONDS) -> Report:
        """
        Wait until everything that was sent before is dealt with, `timeout` seconds at most (None: however long).

        What dead processes of the same experiment left goes before it.

        Blocks: in an asyncio program, call it in a thread.
        """
        from loopcast.sdk.counters import Report

        with self._lock:
            self._sender.hurry()
            target = self._spool.gone + len(self._spool)
            # In the middle of `send` (a signal's handler) waiting would hand a half-written state to the other thread.
            seconds = 0 if self._inside else timeout
            complete = self._lock.wait_for(
                lambda: self._spool.gone >= target and not self._sender.is_inheriting, seconds
            )
            self._sender.take_your_time()
            return Report(complete, self._stats())

    def close(self, timeout: float | None = CLOSE_SECONDS) -> Report:
        """
        Flush, then end. Safe to call again.

        What could not be delivered stays in the spool for the next process; what waited in memory, because no disk took
        it, is lost then, and counted. Events that come later are dropped and counted.
        """
        from loopcast.sdk.counters import Report
        from loopcast.sdk.processes import withdraw

        complete = self.flush(timeout).complete
        with self._lock:
            self._closed = self._unlike = True
            self._unsaved += self._spool.abandon()
            stats = self._stats()
            place = self._spool.place
        self._sender.stop()
        self._sender.join(1.0 if complete else 0.0)
        withdraw(self)
        self._say_what_is_left(stats, place)
        return Report(complete, stats)

    @property
    def stats(self) -> Stats:
        """What became of the events so far."""
        with self._lock:
            return self._stats()

    _inside: bool
    _sender: Sender
    _spool: Spool

    def _begin(self) -> None:
        """Everything that a fork's child needs new."""
        from loopcast.sdk.heart import Heart
        from loopcast.sdk.inheritance import Inheritance, make_for
        from loopcast.sdk.post import Post
        from loopcast.sdk.sender import Sender
        from loopcast.sdk.spool import Spool

        settings = self._configuration
        # The bare lock of the condition: entering a condition is a call in Python, and this is done for every event.
        self._mutex = threading.RLock()
        self._lock = threading.Condition(self._mutex)
        self._inside = False
        self._deferred: list[dict[str, Any]] = []
        self._closed = False
        self._unlike = self._redact is not None
        self._emitted = self._full = self._redacted = self._failed = self._unsaved = self._coerced = 0
        self._spool = Spool(settings.max_bytes, settings.full, make_for(settings))
        heart = Heart(settings.path, self._stampers)
        post = Post(settings)
        self._sender = Sender(
            self._spool, settings.path, self._lock, post, inheritance=Inheritance(settings), heart=heart
        )

    def _take(self, event: object, stamper: Stamper, named: dict[str, Any] | None = None) -> None:
        self._emitted += 1
        try:
            if self._unlike:
                # After `close`, or with `redact`.
                plain = self._redacted_form(event)
                if plain is None:
                    return
            else:
                plain = event if type(event) is dict else _as_dict(event)
            self._full += self._spool.append(stamper.stamp(plain, named))
        except BaseException:
            self._failed += 1
            raise
        if self._sender.idle:
            self._sender.wake()

    def _redacted_form(self, event: object) -> dict[str, Any] | None:
        """What is kept of an event, None where it is dropped, which is counted."""
        if self._closed:
            self._failed += 1
            return None
        plain: dict[str, Any] = event if type(event) is dict else _as_dict(event)
        redacted = None
        with contextlib.suppress(Exception):  # An event that could not be redacted must not leave.
            redacted = plain if self._redact is None else self._redact(plain)
        self._redacted += redacted is None
        return redacted

    def _stats(self) -> Stats:
        from loopcast.sdk.counters import Stats

        sender = self._sender
        unsaved = self._unsaved + self._spool.unreadable
        return Stats(
            emitted=self._emitted,
            accepted=sender.accepted,
            spooled=len(self._spool),
            dropped=self._full + sender.refused + self._redacted + self._failed + unsaved,
            full=self._full,
            refused=sender.refused,
            redacted=self._redacted,
            failed=self._failed,
            unsaved=unsaved,
            in_memory=self._spool.in_memory,
            inherited=sender.inherited,
            inherited_dropped=sender.inherited_dropped,
            inherited_refused=sender.inherited_refused,
            inherited_unsaved=sender.inherited_unsaved,
            coerced=self._coerced + sum(stamper.coerced for stamper in self._stampers),
            retries=sender.retries,
            error=sender.error,
        )

    def _say_what_is_left(self, stats: Stats, place: str) -> None:
        import logging

        from loopcast.sdk.counters import FULL

        log = logging.getLogger("loopcast")
        if stats.spooled:
            log.warning(
                "loopcast: %d of %d events were not delivered; the next process sends them from %s: %s",
                stats.spooled,
                stats.emitted,
                place,
                stats.error,
            )
        if stats.full:
            log.warning("loopcast: %d of %d events were dropped: %s.", stats.full, stats.emitted, FULL)
        if stats.unsaved:
            log.warning("loopcast: %d of %d events are lost: %s", stats.unsaved, stats.emitted, stats.error)

    def before_fork(self) -> None:
        """Hold still, so that a child gets a whole state. Called by the interpreter."""
        self._lock.acquire()

    def after_fork_in_parent(self) -> None:
        """Go on. Called by the interpreter."""
        self._lock.release()

    def after_fork_in_child(self) -> None:
        """Begin anew, under another emitter: what was not sent is the parent's to send. Called by the interpreter."""
        from loopcast.sdk.folder import let_go

        closed = self._closed
        self._sender.forget()
        let_go()
        self._begin()
        if closed:
            self._closed = self._unlike = True
        for stamper in self._stampers:
            stamper.renew()

    def at_exit(self, seconds: float) -> None:
        """Send what can be sent in so long. Called by the interpreter."""
        self.close(seconds)


def _as_dict(event: object) -> dict[str, Any]:
    from collections.abc import Mapping

    return dict(event) if isinstance(event, Mapping) else {"value": event}
