"""Rings: what they give is all there is, or they say that they do not know."""

from hypothesis import given
from hypothesis import strategies as st

from loopcast_gateway.entry import Entry
from loopcast_gateway.ring import ALL_FACTOR, Recent, Ring


def entry(experiment, offset, size=10):
    return Entry(
        partition=0,
        offset=offset,
        id=str(offset),
        experiment=experiment,
        type="t",
        recorded=0,
        envelope=b"x" * size,
    )


pushes = st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 3), st.integers(0, 900)), max_size=60)


@given(pushes, st.integers(1, 8), st.integers(1, 4000), st.integers(1, 9000), st.integers(-1, 10))
def test_what_is_given_is_all_there_is(steps, events, size, total, floor):
    """Behind any offset, each ring gives exactly what was pushed, or None; and the bounds hold at all times."""
    recent, pushed, offset = Recent(floor, events=events, size=size, total=total), [], floor
    for experiment, gap, length in steps:
        offset += gap
        pushed.append(entry(experiment, offset, length))
        recent.push(pushed[-1])
        kept = recent.sizes()
        assert all(count <= events for count in kept.values())
        assert sum(ring.size for ring in recent._rings.values()) <= total
        assert len(recent.all.entries) <= events * ALL_FACTOR
    for behind in range(floor - 1, offset + 2):
        for experiment in (None, "a", "b", "never"):
            found = recent.since(experiment, behind)
            wanted = [e for e in pushed if e.offset > behind and experiment in (None, e.experiment)]
            assert found in (None, wanted)
    assert recent.since(None, floor - 1) is None
    assert [] == recent.since("a", offset)


def test_recent_events_are_known():
    """A ring that had no reason to forget gives what came, so that it is not for nothing."""
    recent = Recent(-1, events=10, size=10**6, total=10**6)
    entries = [entry("ab"[n % 2], n) for n in range(10)]
    for one in entries:
        recent.push(one)

    assert entries[3:] == recent.since(None, 2)
    assert entries[4::2] == recent.since("a", 2)
    assert [] == recent.since("never", -1)
    assert {"a": 5, "b": 5} == recent.sizes()


def test_the_wide_ring_helps_a_narrow_one():
    """Where an experiment's ring is too short, the ring of all may still reach."""
    recent = Recent(-1, events=2, size=10**6, total=10**6)
    entries = [entry("a", n) for n in range(2 * ALL_FACTOR)]
    for one in entries:
        recent.push(one)

    assert entries[1:] == recent.since("a", 0)


def test_the_silent_are_forgotten_first():
    """When all rings together have too much, the experiment that was silent longest goes."""
    recent = Recent(-1, events=10, size=10**6, total=3 * entry("a", 0).size)
    for offset, experiment in enumerate("abca"):
        recent.push(entry(experiment, offset))

    assert {"c": 1, "a": 2} == recent.sizes()


def test_one_entry_is_found_by_its_offset():
    """An anchor is looked up by offset; between entries there is none."""
    ring = Ring(-1)
    for offset in (1, 4, 9):
        ring.push(entry("a", offset), events=10, size=10**6)

    assert [None, 1, None, 4, None, 9, None] == [
        found.offset if (found := ring.at(offset)) else None for offset in (0, 1, 2, 4, 5, 9, 10)
    ]
