"""The meter of a connection: nothing before it was tried, then whether it stands and how often it was lost."""

from __future__ import annotations

from loopcast.broker.meter import ConnectionMeter
from loopcast.metrics import Metrics


def said(metrics: Metrics) -> list[str]:
    """The lines of the broker's connections."""
    return [line for line in metrics.render().decode().splitlines() if line.startswith("loopcast_broker_")]


def test_a_connection_that_nobody_tried_has_no_metrics() -> None:
    """A replica that stands by is no replica that lost the broker."""
    metrics = Metrics("test", "1")
    ConnectionMeter(metrics, "lease.3")

    assert [] == said(metrics)


def test_what_stood_and_went_is_a_loss_and_what_never_stood_is_none() -> None:
    """Tries that fail leave the gauge at 0 and the counter where it is."""
    metrics = Metrics("test", "1")
    meter = ConnectionMeter(metrics, "watch")
    meter.down()
    before = said(metrics)
    meter.up()
    stands = said(metrics)
    meter.down()
    meter.down()

    def lines(connected: float, lost: float) -> list[str]:
        label = '{connection="watch"}'
        return [f"loopcast_broker_reconnects_total{label} {lost}", f"loopcast_broker_connected{label} {connected}"]

    assert [lines(0.0, 0.0), lines(1.0, 0.0), lines(0.0, 1.0)] == [
        [line for line in found if "_created" not in line] for found in (before, stands, said(metrics))
    ]


def test_a_connection_that_is_no_longer_needed_is_neither_there_nor_lost() -> None:
    """A partition that went to another replica while the broker was away leaves no alert behind, and may come back."""
    metrics = Metrics("test", "1")
    meter = ConnectionMeter(metrics, "lease.3")
    meter.down()
    meter.unneeded()
    meter.unneeded()
    without = said(metrics)
    meter.up()

    assert not any("broker_connected" in line for line in without)
    assert 'loopcast_broker_connected{connection="lease.3"} 1.0' in said(metrics)
