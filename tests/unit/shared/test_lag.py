"""How far behind a reader of the log is."""

import pytest

from loopcast.broker.interface import Delivery
from loopcast.lag import Lag, recorded_at


def delivery(**attributes):
    return Delivery(tag=1, routing_key="e.t", body=b"{}", **attributes)


def test_it_is_the_age_of_what_is_not_done():
    """It grows while nothing is done, and is what is left when something was."""
    lag = Lag(1000.0)

    assert 5.0 == lag.seconds(1005.0)
    lag.reached(400.0)
    assert 700.0 == lag.seconds(1100.0)
    lag.reached(1090.0)
    assert 10.0 == lag.seconds(1100.0)


def test_it_is_nothing_when_all_is_done():
    """And begins to grow from then, not from the last event, which may be days old."""
    lag = Lag(0.0)
    lag.reached(400.0)
    lag.idle(90_000.0)

    assert 0.0 == lag.seconds(90_000.0)
    assert 2.0 == lag.seconds(90_002.0)


def test_a_clock_that_is_ahead_makes_no_negative_lag():
    """A producer's clock is not this one."""
    lag = Lag(0.0)
    lag.reached(110.0)

    assert 0.0 == lag.seconds(100.0)


def test_an_event_without_a_time_changes_nothing():
    """What a stranger published says nothing about how far the reader is."""
    lag = Lag(100.0)
    lag.reached(None)

    assert 1.0 == lag.seconds(101.0)


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"headers": {"recorded": 1_700_000_000_500_000}, "timestamp": 1}, 1_700_000_000.5),
        ({"headers": {}, "timestamp": 1_700_000_000}, 1_700_000_000.0),
        ({"headers": {"recorded": "yesterday"}, "timestamp": 0}, None),
        ({}, None),
    ],
)
def test_when_an_event_was_taken(attributes, expected):
    """By the producer's header; a heartbeat by its timestamp; a stranger's perhaps not at all."""
    assert expected == recorded_at(delivery(**attributes))
