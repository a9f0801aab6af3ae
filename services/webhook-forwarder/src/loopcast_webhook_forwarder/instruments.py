"""What the forwarder measures of one endpoint: its metrics, bound once to the values that they are counted by."""

from __future__ import annotations

from typing import get_args

from loopcast import metrics as inventory
from loopcast.metrics import Metrics
from loopcast_webhook_forwarder.state import Phase, State

__all__ = ["Instruments"]

EVENTS = ("delivered", "dead", "unwanted")
CALLS = ("delivered", "retry", "slowly", "refused", "gone")
PHASES = (*get_args(Phase), "paused", "stopped")


class Instruments:
    """The metrics of one endpoint."""

    def __init__(self, metrics: Metrics, endpoint: str) -> None:
        self._metrics = metrics
        self._endpoint = endpoint
        self._events = {r: metrics.counter(inventory.WEBHOOK_EVENTS, endpoint=endpoint, result=r) for r in EVENTS}
        self._calls = {r: metrics.counter(inventory.WEBHOOK_CALLS, endpoint=endpoint, result=r) for r in CALLS}
        self._phases = {p: metrics.gauge(inventory.WEBHOOK_PHASE, endpoint=endpoint, phase=p) for p in PHASES}
        self._call_seconds = metrics.histogram(inventory.WEBHOOK_CALL_SECONDS, endpoint=endpoint)
        self._delivery_seconds = metrics.histogram(inventory.WEBHOOK_DELIVERY_SECONDS, endpoint=endpoint)
        self._failing = metrics.gauge(inventory.WEBHOOK_FAILING, endpoint=endpoint)
        self._spilled = metrics.gauge(inventory.WEBHOOK_SPILLED, endpoint=endpoint)
        self._queue = metrics.gauge(inventory.WEBHOOK_QUEUE, endpoint=endpoint)
        self._dead = metrics.gauge(inventory.WEBHOOK_DEAD, endpoint=endpoint)
        self._lost = metrics.counter(inventory.WEBHOOK_LOST, endpoint=endpoint)

    def forget(self) -> None:
        """The endpoint is gone, and its last levels would stand for ever: an alert on them could never end."""
        for phase in PHASES:
            self._metrics.remove(inventory.WEBHOOK_PHASE, endpoint=self._endpoint, phase=phase)
        for level in (
            inventory.WEBHOOK_FAILING,
            inventory.WEBHOOK_SPILLED,
            inventory.WEBHOOK_QUEUE,
            inventory.WEBHOOK_DEAD,
        ):
            self._metrics.remove(level, endpoint=self._endpoint)

    def called(self, result: str, seconds: float) -> None:
        """A call was answered, or was not."""
        self._calls[result].inc()
        self._call_seconds.observe(seconds)

    def events(self, result: str, count: int = 1) -> None:
        """Events left the queue."""
        self._events[result].inc(count)

    def delivered_after(self, seconds: float) -> None:
        """How old the first event of a batch was when it was delivered."""
        self._delivery_seconds.observe(max(0.0, seconds))

    def depth(self, queue: int, dead: int) -> None:
        """What the broker holds."""
        self._queue.set(queue)
        self._dead.set(dead)

    def lost(self, count: int) -> None:
        """Retention was faster."""
        self._lost.inc(count)

    def state(self, state: State, now: float) -> None:
        """What the endpoint is."""
        mode = state.control.mode
        phase = state.progress.phase if mode == "running" else mode
        for name, gauge in self._phases.items():
            gauge.set(name == phase)
        since = state.progress.failing_since
        self._failing.set(0 if since is None else max(0.0, now - since))
        self._spilled.set(state.progress.spill is not None)
