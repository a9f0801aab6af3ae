"""What the producer measures: its metrics, bound once to the values that they are counted by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from loopcast import metrics as inventory
from loopcast.broker.publisher import Publisher
from loopcast.metrics import Metrics

__all__ = ["Instruments", "RedisInstruments"]

EVENT_STATUSES = ("accepted", "duplicate", "invalid", "refused")


class Instruments:
    """The producer's metrics."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._events = {status: metrics.counter(inventory.PRODUCER_EVENTS, status=status) for status in EVENT_STATUSES}
        self._requests = {202: metrics.counter(inventory.PRODUCER_REQUESTS, status="202")}
        self._confirm = metrics.histogram(inventory.PRODUCER_CONFIRM_SECONDS)
        self._not_read = metrics.counter(inventory.PRODUCER_NOT_READ)

    def watch(self, publishers: Sequence[Publisher]) -> None:
        """Read the publishers' state whenever somebody scrapes."""
        self._metrics.gauge(inventory.PRODUCER_UNCONFIRMED_BYTES).set_function(
            lambda: sum(publisher.unconfirmed_bytes for publisher in publishers)
        )
        self._metrics.gauge(inventory.PRODUCER_BLOCKED).set_function(
            lambda: any(publisher.blocked is not None for publisher in publishers)
        )

    def published(self, counts: Mapping[str, int], seconds: float) -> None:
        """Events were published, or refused."""
        for status, count in counts.items():
            self._events[status].inc(count)
        self._confirm.observe(seconds)

    def invalid(self) -> None:
        """A request's one event is none."""
        self._events["invalid"].inc()

    def not_read(self) -> None:
        """A client did not take its answer."""
        self._not_read.inc()

    def answered(self, status: int) -> None:
        """A request was answered."""
        counter = self._requests.get(status)
        if counter is None:
            counter = self._requests[status] = self._metrics.counter(inventory.PRODUCER_REQUESTS, status=str(status))
        counter.inc()


class RedisInstruments:
    """The metrics of a Redis channel."""

    def __init__(self, metrics: Metrics) -> None:
        self._messages = {
            result: metrics.counter(inventory.PRODUCER_REDIS_MESSAGES, result=result)
            for result in ("accepted", "invalid", "dropped")
        }
        self._connected = metrics.gauge(inventory.PRODUCER_REDIS_CONNECTED)
        self._active = metrics.gauge(inventory.PRODUCER_REDIS_ACTIVE)
        self._losses = metrics.counter(inventory.PRODUCER_REDIS_LOSSES)

    def heard(self, result: str, count: int = 1) -> None:
        """Something became of messages."""
        self._messages[result].inc(count)

    def connected(self, connected: bool) -> None:
        """Whether Redis is there."""
        self._connected.set(connected)

    def active(self, active: bool) -> None:
        """Whether it is this replica that publishes."""
        self._active.set(active)

    def lost(self) -> None:
        """A connection was lost."""
        self._losses.inc()
