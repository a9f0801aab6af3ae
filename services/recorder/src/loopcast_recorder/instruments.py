"""What the recorder measures: its metrics, bound once to the values that they are counted by."""

from __future__ import annotations

from loopcast import metrics as inventory
from loopcast.metrics import Metrics
from loopcast_recorder.sinks import Written

__all__ = ["Instruments"]


class Instruments:
    """The metrics of one sink."""

    def __init__(self, metrics: Metrics, sink: str) -> None:
        self._metrics = metrics
        self._sink = sink
        self._events = metrics.counter(inventory.RECORDER_EVENTS, sink=sink)
        self._repeats = metrics.counter(inventory.RECORDER_REPEATS, sink=sink)
        self._failures = metrics.counter(inventory.RECORDER_FAILURES, sink=sink)
        self._failing = metrics.gauge(inventory.RECORDER_FAILING, sink=sink)
        self._seconds = metrics.histogram(inventory.RECORDER_WRITE_SECONDS, sink=sink)

    def wrote(self, written: Written, *, partition: int, offset: int, seconds: float) -> None:
        """A batch was kept up to `offset`."""
        self._events.inc(written.events)
        self._repeats.inc(written.repeats)
        self._seconds.observe(seconds)
        self._metrics.gauge(inventory.RECORDER_OFFSET, sink=self._sink, partition=str(partition)).set(offset)
        self._failing.set(0)

    def failed(self) -> None:
        """The sink did not take something."""
        self._failures.inc()
        self._failing.set(1)

    def recovered(self) -> None:
        """The sink takes something again."""
        self._failing.set(0)

    def gap(self, reason: str) -> None:
        """Events are missing."""
        self._metrics.counter(inventory.RECORDER_GAPS, sink=self._sink, reason=reason).inc()
