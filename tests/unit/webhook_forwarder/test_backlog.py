"""When a queue holds too much: by number, and by what its events weigh."""

import pytest

from loopcast.broker.interface import Delivery
from loopcast_webhook_forwarder.backlog import UNSEEN_EVENT_BYTES, Backlog
from loopcast_webhook_forwarder.batching import Parcel


def parcel(*sizes: int) -> Parcel:
    return Parcel([Delivery(tag=n, routing_key="a.b", body=b"x" * size) for n, size in enumerate(sizes)], 1, 0.0)


@pytest.mark.parametrize(("events", "over"), [(0, False), (100, False), (101, True)])
def test_the_number_is_bounded(events, over):
    """At the bound nothing happens yet; one more is too many."""
    backlog = Backlog(max_events=100, max_bytes=10**9)
    backlog.events = events

    assert over == backlog.is_over(0)


def test_bytes_are_bounded_by_what_was_seen():
    """Events of 1,000 bytes fill a bound of 50,000 with fifty; a remembered size counts only until one is seen."""
    backlog = Backlog(max_events=10**9, max_bytes=50_000)
    backlog.weigh(parcel(500, 1500))
    backlog.events = 50
    at_the_bound = backlog.is_over(9999)
    backlog.events = 51

    assert (False, True) == (at_the_bound, backlog.is_over(1))


@pytest.mark.parametrize(("remembered", "size"), [(0, UNSEEN_EVENT_BYTES), (100, 100)])
def test_before_one_is_seen_the_size_is_remembered_or_guessed(remembered, size):
    """A bound in bytes holds for an endpoint that was paused before its first event, too."""
    backlog = Backlog(max_events=10**9, max_bytes=10 * size)
    backlog.events = 10
    at_the_bound = backlog.is_over(remembered)
    backlog.events = 11

    assert (False, True) == (at_the_bound, backlog.is_over(remembered))


def test_the_last_events_count_most():
    """Events that grew are noticed within some tens of batches, and a token without a body weighs nothing."""
    backlog = Backlog(max_events=1, max_bytes=1)
    backlog.weigh(parcel(100))
    backlog.weigh(parcel(0))
    backlog.weigh(parcel())
    for _ in range(50):
        backlog.weigh(parcel(1000))

    assert 990 < backlog.event_bytes < 1000
