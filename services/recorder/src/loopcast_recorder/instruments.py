"""What the recorder measures: its metrics, bound once to the values that they are counted by."""

from __future__ import annotations

from collections.abc import Callable

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
        self._missing = metrics.counter(inventory.RECORDER_MISSING, sink=sink)
        self._failures = metrics.counter(inventory.RECORDER_FAILURES, sink=sink)
        self._failing = metrics.gauge(inventory.RECORDER_FAILING, sink=sink)
        self._seconds = metrics.histogram(inventory.RECORDER_WRITE_SECONDS, sink=sink)

    def wrote(self, written: Written, *, partition: int, offset: int, seconds: float) -> None:
        """A batch was kept up to `offset`."""
        self._events.inc(written.events)
        self._repeats.inc(written.repeats)
        self._missing.inc(sum(hole.events for hole in written.holes))
        self._seconds.observe(seconds)
        self._metrics.gauge(inventory.RECORDER_OFFSET, sink=self._sink, partition=str(partition)).set(offset)
        self._failing.set(0)

    def reading(self, partition: int, lag: Callable[[], float]) -> None:
        """A partition is read from now on; `lag` is asked whenever somebody looks."""
        self._metrics.gauge(inventory.RECORDER_LAG, sink=self._sink, partition=str(partition)).set_function(lag)

    def left(self, partition: int) -> None:
        """It is another replica's, or nobody's: a figure that no longer moves would be taken for one of today."""
        for definition in (inventory.RECORDER_LAG, inventory.RECORDER_OFFSET):
            self._metrics.gauge(definition).remove(self._sink, str(partition))

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
