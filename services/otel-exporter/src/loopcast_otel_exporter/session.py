"""
One holder's time with one partition: read, fold, export, checkpoint, in this order, until it is told to stop.

A crash between any two of these repeats what came after the last checkpoint and changes nothing: the same events fold
into the same bytes under the same ids.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from functools import partial

import structlog

from loopcast.broker.interface import Delivery
from loopcast.broker.log import LogReader
from loopcast.checkpoint.lease import Lease
from loopcast.checkpoint.record import Record
from loopcast.lag import Lag
from loopcast.position import Position
from loopcast.topology import HEARTBEAT, OTEL_DEAD
from loopcast_otel_exporter.answers import Taken
from loopcast_otel_exporter.encoding_metrics import metrics_request
from loopcast_otel_exporter.fold import Fold
from loopcast_otel_exporter.inbox import Inbox
from loopcast_otel_exporter.intake import event_of, follow, is_unbroken
from loopcast_otel_exporter.ordering import Ordering
from loopcast_otel_exporter.pipeline import After
from loopcast_otel_exporter.setup import Setup
from loopcast_otel_exporter.state import FORMAT, State
from loopcast_otel_exporter.transport import Signal

__all__ = ["Session"]

log = structlog.get_logger(__name__)

SLICE = 250
"""Events that are folded before anything else may run."""

MAX_REASON = 500
REPORT_SECONDS = 1.0
QUIET_SECONDS = 10.0
"""After how long without a record nothing is left to be done: longer than the log takes to answer."""
IDLE_SECONDS = 6.0
"""How long the log may be silent before it is told the time, where an event waits for others."""


class Session:
    """Made with the record that a take-over gave; :meth:`run` works until :meth:`stop`, or until the lease is lost."""

    def __init__(self, setup: Setup, lease: Lease, record: Record, *, partition: int, stream: str) -> None:
        self._setup = setup
        self._lease = lease
        self._partition = partition
        self._stream = stream
        self._epoch = record.epoch
        self._position = record.position
        self._written = record.position
        self._fold = _fold_of(setup, record)
        self._pipeline = setup.pipeline(self._bury)
        self._inbox = Inbox()
        self._stopping = False
        now = time.monotonic()
        self._flush_due = now
        self._checkpoint_due = now + setup.settings.otel_checkpoint_seconds
        self._metrics_due = now + setup.settings.otel_metrics_seconds
        self._beat_due = now + IDLE_SECONDS
        self._report_due = 0.0
        self._recorded: float | None = None
        self._lag = Lag(time.time())
        self._reader: LogReader | None = None
        self._read_at = now
        self._ordered = (0, 0, 0)

    @property
    def is_failing(self) -> bool:
        """Whether the backend did not take what it was sent last."""
        return self._pipeline.is_failing

    def lag(self) -> float:
        """How old the oldest event is that the backend does not have, in seconds."""
        now, tick, pipeline = time.time(), time.monotonic(), self._pipeline
        at_hand = not (self._inbox.is_empty and pipeline.is_empty and pipeline.is_settled)
        if self._reader is None or not self._reader.connected:
            # What came meanwhile is not known before the log has had its time to say so.
            self._read_at = tick
        elif not at_hand:
            # What was read since the last request needed none: it opened spans, or was a heartbeat.
            self._lag.reached(self._recorded)
            if tick - self._read_at >= QUIET_SECONDS:
                self._lag.idle(now)
        return self._lag.seconds(now)

    def stop(self) -> None:
        """Let :meth:`run` deliver what it has, write a checkpoint and return."""
        self._stopping = True
        self._inbox.wake()

    async def run(self) -> None:
        """
        Work.

        Raises:
            BrokerError: a checkpoint could not be written; begin again with a take-over.
        """
        self._setup.instruments.reading(self._partition, self.lag)
        reading = asyncio.create_task(self._read())
        reading.add_done_callback(lambda _: self._inbox.wake())
        try:
            while not self._stopping:
                batch = await self._inbox.take(max(0.0, self._flush_due - time.monotonic()))
                for start in range(0, len(batch), SLICE):
                    self._take(batch[start : start + SLICE])
                    await asyncio.sleep(0)
                await self._move_on()
                if reading.done():
                    reading.result()
            await self._pipeline.flush(self._checkpoint())
            await self._pipeline.settle()
        finally:
            reading.cancel()
            await asyncio.wait([reading])
            await self._pipeline.close()
            self._setup.instruments.left(self._partition)

    async def _read(self) -> None:
        setup = self._setup
        url, stream, name = setup.settings.amqp_url, self._stream, setup.name
        batches = follow(setup.client, url, stream, self._position, name=name, on_reader=self._reads_with)
        async with contextlib.aclosing(batches):
            async for batch in batches:
                await self._inbox.put(batch)

    def _reads_with(self, reader: LogReader) -> None:
        self._reader = reader

    def _take(self, deliveries: Sequence[Delivery]) -> None:
        if not is_unbroken(self._position, deliveries):
            self._fold.ordering.doubt()
        with self._setup.telemetry.reading(self._stream, deliveries):
            events = self._apply(deliveries)
        last = deliveries[-1]
        self._position = Position.of(self._partition, last.offset, last.message_id)
        self._recorded = self._fold.ordering.now / 1e6 or None
        self._read_at = time.monotonic()
        self._pipeline.add(self._fold.take())
        self._setup.instruments.read(events)
        self._beat_due = time.monotonic() + IDLE_SECONDS

    def _apply(self, deliveries: Sequence[Delivery]) -> int:
        """Fold; how many of them were events."""
        fold, events = self._fold, 0
        for delivery in deliveries:
            if delivery.type == HEARTBEAT:
                fold.tick(delivery.timestamp * 1_000_000)
            elif (event := event_of(delivery)) is not None:
                fold.apply(event)
                events += 1
        return events

    async def _move_on(self) -> None:
        """Do what is due."""
        now = time.monotonic()
        if not self._pipeline.is_full and now < self._flush_due:
            return
        settings = self._setup.settings
        self._flush_due = now + settings.otel_flush_seconds
        due = now >= self._checkpoint_due and self._position != self._written
        if due or not self._pipeline.is_empty:
            await self._pipeline.flush(self._checkpoint() if due else partial(self._report, self._recorded))
        if due:
            self._checkpoint_due = now + settings.otel_checkpoint_seconds
        if now >= self._metrics_due and self._position == self._written:
            await self._pipeline.settle()
            await self._send_metrics(self._metrics())
        if now >= self._beat_due and self._fold.ordering.waiting:
            self._beat_due = now + IDLE_SECONDS
            await self._lease.beat(self._stream, int(time.time()))

    def _checkpoint(self) -> After:
        """What to do behind the batch that is cut now: write this state down, then tell its counts."""
        position, fold, recorded = self._position, self._fold, self._recorded
        parts = {"state": fold.state.dump(), "ordering": fold.ordering.dump()}
        record = Record(self._epoch, "" if position is None else str(position), FORMAT, parts)
        metrics = self._metrics() if time.monotonic() >= self._metrics_due else b""
        self._written = position

        async def write() -> None:
            try:
                await self._lease.write(record)
            except ValueError as error:
                log.warning("checkpoint_too_large", partition=self._partition, reason=str(error))
            else:
                self._setup.instruments.checkpointed(sum(map(len, parts.values())))
            await self._report(recorded)
            await self._send_metrics(metrics)

        return write

    async def _report(self, recorded: float | None) -> None:
        """The backend has all that was recorded up to then."""
        self._lag.reached(recorded)
        ordering, instruments = self._fold.ordering, self._setup.instruments
        now = (ordering.repeats.dropped, ordering.repeats.evicted, ordering.counts.missing)
        repeats, evicted, missing = (after - before for before, after in zip(self._ordered, now, strict=True))
        instruments.ordered(repeats=repeats, evicted=evicted, missing=missing)
        self._ordered = now
        if time.monotonic() < self._report_due:
            return
        self._report_due = time.monotonic() + REPORT_SECONDS
        open_spans = self._fold.state.open_spans
        instruments.folded(self._partition, open_spans=open_spans, waiting=ordering.waiting)

    def _metrics(self) -> bytes:
        resource = self._setup.resource_of_metrics(self._partition)
        return metrics_request(resource, self._fold.state.measurements, time.time_ns())

    async def _send_metrics(self, request: bytes) -> None:
        """Once: what is lost of a cumulative count, the next request has."""
        if not request or not self._setup.sends(Signal.METRICS):
            return
        self._metrics_due = time.monotonic() + self._setup.settings.otel_metrics_seconds
        started = time.perf_counter()
        answer = await self._setup.transport.export(Signal.METRICS, request)
        self._setup.instruments.answered(Signal.METRICS, answer, time.perf_counter() - started)
        if not isinstance(answer, Taken):
            log.warning("metrics_not_taken", reason=answer.reason)

    async def _bury(self, signal: Signal, request: bytes, reason: str, rejected: int) -> None:
        headers: dict[str, str | int] = {
            "signal": str(signal),
            "reader": self._setup.settings.otel_reader,
            "reason": reason[:MAX_REASON],
            "rejected": rejected,
        }
        await self._lease.dead_letter(OTEL_DEAD, request, headers)


def _fold_of(setup: Setup, record: Record) -> Fold:
    """The fold as the record has it, else one that begins with the log."""
    try:
        if record.parts:
            state, ordering = State.load(record.parts["state"]), Ordering.load(record.parts["ordering"])
            return Fold(setup.options, state, ordering)
    except (KeyError, ValueError) as error:
        log.warning("checkpoint_unreadable", reason=str(error))
    return Fold(setup.options)
