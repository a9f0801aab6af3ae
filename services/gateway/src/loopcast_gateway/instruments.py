"""The gateway's metrics, brought up to date once a second from what its parts know."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loopcast import metrics as names
from loopcast.metrics import Metrics
from loopcast.routing import ANYWHERE

if TYPE_CHECKING:
    from loopcast_gateway.gateway import Gateway
    from loopcast_gateway.tail import Tail

__all__ = ["Instruments"]


class Instruments:
    """Reads what is a level, and adds to counters what came since the last time."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._before: dict[tuple[str, str], int] = {}

    def report(self, gateway: Gateway) -> None:
        """Bring the metrics up to date."""
        metrics = self._metrics
        gateway.tally.repeats += self._since("repeats", "", sum(tail.partition.repeats for tail in gateway.tails))
        evicted = self._since("evicted", "", sum(tail.partition.evicted for tail in gateway.tails))
        metrics.counter(names.REPEAT_KEYS_EVICTED).inc(evicted)
        missing = self._since("missing", "", sum(tail.missing for tail in gateway.tails))
        metrics.counter(names.GATEWAY_MISSING).inc(missing)
        gateway.tally.report(metrics)
        followers = dict(gateway.hub.followers())
        metrics.counter(names.GATEWAY_COALESCED).inc(self._since("coalesced", "", gateway.hub.coalesced))
        metrics.gauge(names.GATEWAY_CONNECTIONS).set(gateway.connections)
        metrics.gauge(names.GATEWAY_SUBSCRIPTIONS, kind="all").set(followers.pop(ANYWHERE, 0))
        metrics.gauge(names.GATEWAY_SUBSCRIPTIONS, kind="experiment").set(sum(followers.values()))
        metrics.gauge(names.GATEWAY_DRAINING).set(gateway.draining)
        metrics.gauge(names.GATEWAY_CONGESTED).set(len(gateway.stalls))
        metrics.gauge(names.GATEWAY_OUTBOX).set(sum(viewer.waiting_bytes for viewer in gateway.stalls))
        metrics.gauge(names.GATEWAY_READING).set(gateway.history.waiting)
        metrics.counter(names.GATEWAY_BLOCKS).inc(self._since("blocks", "", gateway.history.reads))
        for tail in gateway.tails:
            self._report_tail(tail)

    def _report_tail(self, tail: Tail) -> None:
        metrics, partition = self._metrics, tail.partition
        number = str(partition.number)
        metrics.gauge(names.GATEWAY_OFFSET, partition=number).set(partition.tail)
        metrics.gauge(names.GATEWAY_LAG, partition=number).set(tail.heartbeats.lag)
        metrics.gauge(names.GATEWAY_WHOLE, partition=number).set(partition.whole)
        metrics.gauge(names.GATEWAY_EXPERIMENTS, partition=number).set(len(partition.catalog))
        metrics.gauge(names.GATEWAY_RUNS, partition=number).set(partition.digest.runs.going)
        metrics.gauge(names.GATEWAY_CHECKPOINT_BYTES, partition=number).set(tail.checkpoints.size)
        for definition, value in (
            (names.GATEWAY_CHECKPOINTS, tail.checkpoints.written),
            (names.GATEWAY_SILENCES, tail.silences),
        ):
            metrics.counter(definition, partition=number).inc(self._since(definition.name, number, value))
        connection = f"log.{number}"
        metrics.gauge(names.BROKER_CONNECTED, connection=connection).set(tail.connected)
        lost = self._since(names.BROKER_RECONNECTS.name, number, tail.losses)
        metrics.counter(names.BROKER_RECONNECTS, connection=connection).inc(lost)

    def _since(self, name: str, label: str, value: int) -> int:
        """How much more `value` is than it was the last time."""
        before, self._before[name, label] = self._before.get((name, label), 0), value
        return value - before
