"""Whether a connection stands, and how often it was lost, as metrics: told where links are made and go."""

from __future__ import annotations

from loopcast import metrics as inventory
from loopcast.metrics import Metrics

__all__ = ["ConnectionMeter"]


class ConnectionMeter:
    """
    The metrics of the connection called `connection`.

    It has none until it was tried: a replica that never needs it must not look like one that lost it.
    """

    def __init__(self, metrics: Metrics, connection: str) -> None:
        self._metrics = metrics
        self._connection = connection
        self._stands = False

    def up(self) -> None:
        """It stands."""
        self._set(stands=True)

    def down(self) -> None:
        """It is gone, or could not be made."""
        lost = self._metrics.counter(inventory.BROKER_RECONNECTS, connection=self._connection)
        lost.inc(self._stands)
        self._set(stands=False)

    def unneeded(self) -> None:
        """It is not wanted any more, for now: neither there nor lost."""
        self._stands = False
        self._metrics.remove(inventory.BROKER_CONNECTED, connection=self._connection)

    def _set(self, *, stands: bool) -> None:
        self._stands = stands
        self._metrics.gauge(inventory.BROKER_CONNECTED, connection=self._connection).set(stands)
