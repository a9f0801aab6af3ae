"""Batches: full by number, bytes or time, in order, nothing left behind."""

from hypothesis import given
from hypothesis import strategies as st

from loopcast.broker.interface import Delivery
from loopcast_webhook_forwarder.batching import Collector


def delivery(tag: int, size: int = 10, key: str = "exp.a") -> Delivery:
    return Delivery(tag=tag, routing_key=key, body=b"x" * size, message_id=f"m{tag}")


def collector(**limits) -> Collector:
    given_limits = {"max_events": 3, "max_bytes": 1000, "max_seconds": 1.0, **limits}
    return Collector(**given_limits, wanted=lambda d: d.routing_key != "exp.dropped")


def test_a_batch_is_due_when_it_is_full_or_its_first_event_has_waited():
    """An event waits for company no longer than it was said."""
    c = collector()
    assert c.due(0.0) is None
    c.add([delivery(1)], now=10.0)
    assert c.due(10.25) == 0.75
    c.add([delivery(2)], now=10.5)
    assert c.due(10.5) == 0.5
    assert c.due(12.0) == 0.0
    c.add([delivery(3)], now=10.6)
    assert c.due(10.6) == 0.0


def test_bytes_make_a_batch_full_too():
    """Three events of 400 bytes are over 1,000, so two go together."""
    c = collector(max_events=100)
    c.add([delivery(n, 400) for n in (1, 2, 3)], now=0.0)

    assert c.due(0.0) == 0.0
    assert [e.tag for e in c.cut().events] == [1, 2]


def test_one_event_over_the_bytes_is_a_batch_of_its_own():
    """A large event is delivered, not stuck."""
    c = collector()
    c.add([delivery(1, 5000), delivery(2)], now=0.0)

    assert [[e.tag for e in c.cut().events] for _ in range(2)] == [[1], [2]]


def test_what_nobody_wants_any_more_is_settled_with_its_neighbours():
    """An event that matches no binding is in no request, and its tag is in the acknowledgement."""
    c = collector()
    c.add([delivery(1), delivery(2, key="exp.dropped"), delivery(3), delivery(4, key="exp.dropped")], now=0.0)
    parcel = c.cut()

    assert [e.tag for e in parcel.events] == [1, 3]
    assert parcel.unwanted == 2
    assert parcel.tag_through(1) == 1
    assert parcel.tag_through(2) == 4


def test_a_batch_of_nothing_wanted_is_still_acknowledged():
    """Unwanted events do not stay for ever."""
    c = collector()
    c.add([delivery(n, key="exp.dropped") for n in (1, 2)], now=0.0)
    parcel = c.cut()

    assert (parcel.events, parcel.tag_through(0)) == ([], 2)


@given(
    st.lists(st.tuples(st.integers(0, 600), st.booleans()), min_size=1, max_size=60),
    st.integers(1, 10),
    st.integers(100, 900),
)
def test_nothing_is_lost_reordered_or_over_the_limits(messages, max_events, max_bytes):
    """Whatever comes is cut into batches that are the sequence that came."""
    c = collector(max_events=max_events, max_bytes=max_bytes)
    c.add([delivery(n + 1, size, "exp.a" if ok else "exp.dropped") for n, (size, ok) in enumerate(messages)], 0.0)
    parcels = []
    while len(c):
        parcels.append(c.cut())

    assert [e.tag for p in parcels for e in p.events] == [n + 1 for n, (_, ok) in enumerate(messages) if ok]
    assert sum(p.unwanted for p in parcels) == sum(not ok for _, ok in messages)
    assert parcels[-1].last_tag == len(messages)
    for parcel in parcels:
        assert len(parcel.events) <= max_events
        assert len(parcel.events) == 1 or sum(len(e.body) + 1 for e in parcel.events) <= max_bytes
    assert c.due(0.0) is None


def test_what_is_alone_is_a_parcel_of_its_own_in_its_place():
    """What came before it goes before it, what came after it after."""
    c = Collector(
        max_events=10, max_bytes=1000, max_seconds=1, wanted=lambda _: True, alone=lambda d: d.routing_key == "token"
    )
    c.add([delivery(1), delivery(2), delivery(3, key="token"), delivery(4)], now=0.0)

    assert [[e.tag for e in c.cut().events] for _ in range(3)] == [[1, 2], [3], [4]]
