"""The exporter's own metrics, by what happens."""

from __future__ import annotations

from collections.abc import Callable

from loopcast import metrics as defined
from loopcast.broker.meter import ConnectionMeter
from loopcast.metrics import Metrics
from loopcast_otel_exporter.answers import Again, Answer, Taken
from loopcast_otel_exporter.transport import Signal

__all__ = ["Instruments"]


class Instruments:
    """Names of happenings instead of names of metrics."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._events = metrics.counter(defined.OTEL_EVENTS)
        self._checkpoints = metrics.counter(defined.OTEL_CHECKPOINTS)
        self._checkpoint_bytes = metrics.gauge(defined.OTEL_CHECKPOINT_BYTES)

    def read(self, events: int) -> None:
        """Events were read."""
        self._events.inc(events)

    def folded(self, partition: int, *, open_spans: int, waiting: int) -> None:
        """What a partition's state holds now."""
        label = str(partition)
        self._metrics.gauge(defined.OTEL_OPEN_SPANS, partition=label).set(open_spans)
        self._metrics.gauge(defined.OTEL_WAITING, partition=label).set(waiting)

    def ordered(self, *, repeats: int, evicted: int, missing: int) -> None:
        """Repeats were dropped, emitters forgotten, and numbers given up."""
        self._metrics.counter(defined.OTEL_REPEATS).inc(repeats)
        self._metrics.counter(defined.REPEAT_KEYS_EVICTED).inc(evicted)
        self._metrics.counter(defined.OTEL_MISSING).inc(missing)

    def exported(self, signal: Signal, items: int) -> None:
        """The backend took items."""
        self._metrics.counter(defined.OTEL_EXPORTED, signal=signal).inc(items)

    def buried(self, signal: Signal, items: int) -> None:
        """The backend refused items for good."""
        self._metrics.counter(defined.OTEL_DEAD_ITEMS, signal=signal).inc(items)

    def answered(self, signal: Signal, answer: Answer, seconds: float) -> None:
        """A request was answered, or was not."""
        status = "taken" if isinstance(answer, Taken) else "again" if isinstance(answer, Again) else "never"
        self._metrics.counter(defined.OTEL_REQUESTS, signal=signal, status=status).inc()
        self._metrics.histogram(defined.OTEL_EXPORT_SECONDS).observe(seconds)

    def held(self, partition: int, *, held: bool) -> None:
        """A lease was taken or lost."""
        self._metrics.gauge(defined.OTEL_LEASE, partition=str(partition)).set(held)

    def reading(self, partition: int, lag: Callable[[], float]) -> None:
        """A partition is read from now on; `lag` is asked whenever somebody looks."""
        self._metrics.gauge(defined.OTEL_LAG, partition=str(partition)).set_function(lag)

    def left(self, partition: int) -> None:
        """It is another replica's: a figure that no longer moves would be taken for one of today."""
        for definition in (defined.OTEL_LAG, defined.OTEL_OPEN_SPANS, defined.OTEL_WAITING):
            self._metrics.gauge(definition).remove(str(partition))

    def connection(self, partition: int) -> ConnectionMeter:
        """Of the connection by which a partition's lease is held, or asked for."""
        return ConnectionMeter(self._metrics, f"lease.{partition}")

    def recovered(self, source: str) -> None:
        """A partition was taken over, from a `checkpoint` or from the `log`."""
        self._metrics.counter(defined.OTEL_RECOVERIES, source=source).inc()

    def checkpointed(self, size: int) -> None:
        """A checkpoint was written."""
        self._checkpoints.inc()
        self._checkpoint_bytes.set(size)
