"""Halving and bisecting: every event is tried, in order, once it is settled never again."""

from hypothesis import given
from hypothesis import strategies as st

from loopcast_webhook_forwarder.splits import Splits


def run(size, poison, *, limit=10**9):
    """Work a batch at an endpoint that refuses bodies with a poisonous event, or with more than `limit` events."""
    splits, delivered, dead, calls = Splits(size), [], [], 0
    while not splits.done:
        start, stop = splits.current
        calls += 1
        if stop - start <= limit and not poison & set(range(start, stop)):
            delivered.append((start, stop))
            splits.settled()
        elif splits.alone:
            dead.append(start)
            splits.settled()
        else:
            splits.halve()
    return delivered, dead, calls


@given(st.integers(1, 300), st.sets(st.integers(0, 299), max_size=8))
def test_exactly_the_poison_is_dead_and_the_rest_delivered_in_order(size, poison):
    """400 and 422 cost an endpoint the events at fault and no other, in the order of the batch."""
    delivered, dead, _ = run(size, poison)
    good = [i for start, stop in delivered for i in range(start, stop)]

    assert dead == sorted(p for p in poison if p < size)
    assert good == [i for i in range(size) if i not in poison]


@given(st.integers(2, 1000), st.data())
def test_one_poisonous_event_is_found_in_few_requests(size, data):
    """About two requests for each doubling of the batch."""
    poison = data.draw(st.integers(0, size - 1))

    _, dead, calls = run(size, {poison})

    assert dead == [poison]
    assert calls <= 2 * size.bit_length() + 1


@given(st.integers(1, 300), st.integers(1, 50))
def test_a_body_that_is_too_large_is_halved_until_it_passes(size, limit):
    """413 loses nothing as long as one event passes."""
    delivered, dead, _ = run(size, set(), limit=limit)

    assert dead == []
    assert [i for start, stop in delivered for i in range(start, stop)] == list(range(size))


@given(st.integers(1, 100))
def test_a_probe_is_one_event_and_the_rest_follows(size):
    """Half-open tries one event, and asking twice changes nothing."""
    splits = Splits(size)
    splits.probe()
    splits.probe()

    assert splits.current == (0, 1)
    splits.settled()
    assert splits.done or splits.current == (1, size)


def test_an_empty_batch_is_done():
    """Nothing wanted, nothing sent."""
    assert Splits(0).done
    assert Splits(0).current == (0, 0)
    assert not Splits(0).alone
