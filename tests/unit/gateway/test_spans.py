"""The sparse index: nothing of an experiment is ever outside of its spans, and little of others' inside."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from loopcast.position import Position
from loopcast_gateway.catalog import Catalog
from loopcast_gateway.entry import Entry
from loopcast_gateway.spans import GAP, STEP, Trail, total


def entry(experiment, offset, recorded=None):
    return Entry(
        partition=0,
        offset=offset,
        id=str(offset),
        experiment=experiment,
        type="t",
        recorded=offset if recorded is None else recorded,
        envelope=b"",
    )


steps = st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 3 * GAP)), min_size=1, max_size=60)


def logged(steps):
    offset, found = 0, []
    for experiment, step in steps:
        offset += step
        found.append(entry(experiment, offset))
    return found


def covered(segments, offset):
    return any(segment.behind < offset <= segment.until for segment in segments)


@given(steps, st.integers(-1, 10**5), st.integers(0, 10**5), st.integers(0, 3))
def test_segments_have_every_event(steps, behind, until, thinned):
    """Whatever stretch is asked for, each of its events is in a segment, thinned out or not."""
    log, catalog = logged(steps), Catalog()
    for one in log:
        catalog.add(one)
    for _ in range(thinned):
        for name in (None, *"abc"):
            if (trail := catalog.trail(name)) is not None:
                trail.thin()
    for name in (None, *"abc"):
        segments = catalog.segments(name, 0, behind, until, 0)

        mine = [one.offset for one in log if name in (None, one.experiment) and behind < one.offset <= until]
        assert all(covered(segments, offset) for offset in mine)
        assert all(behind <= segment.behind < segment.until <= until for segment in segments)
        assert segments == sorted(segments, key=lambda segment: segment.behind)
        for segment in segments:
            if segment.first is not None:
                assert Position.of(0, segment.behind + 1, str(segment.behind + 1)) == segment.first


@given(steps, st.integers(0, 70), st.integers(0, 10**5), st.integers(0, 3))
def test_the_newest_are_above_the_place(steps, count, until, thinned):
    """Above the offset that is named there are as many events as were asked for, or all of them."""
    catalog, log = Catalog(), logged(steps)
    for one in log:
        catalog.add(one)
    trail = catalog.trail(None)
    for _ in range(thinned):
        trail.thin()
    behind = trail.behind_newest(count, until)
    mine = [one.offset for one in log if one.offset <= until]

    assert len([offset for offset in mine if offset > behind]) >= min(count, len(mine))


@given(steps, st.integers(0, 10**5))
def test_a_time_leaves_out_only_what_is_earlier(steps, since):
    """With a time, each event of that time or later is in a segment."""
    catalog, log = Catalog(), logged(steps)
    for one in log:
        catalog.add(one)
    segments = catalog.segments("a", 0, -1, 10**6, since)

    assert all(covered(segments, one.offset) for one in log if one.experiment == "a" and one.recorded >= since)


def test_a_replay_reads_little_of_others():
    """An experiment that was active twice in a long log costs its own stretches, not all that is between."""
    catalog = Catalog()
    for offset in range(200_000):
        name = "mine" if offset // 1000 in (3, 150) else "noise"
        catalog.add(entry(name, offset))
    segments = catalog.segments("mine", 0, -1, 199_999, 0)

    assert 2000 == total(segments)
    assert 2999 == segments[0].behind
    assert 149_999 <= catalog.trail("mine").behind_newest(500, 199_999)
    assert [] == catalog.segments("nobody", 0, -1, 199_999, 0)


def test_the_index_is_bounded():
    """Beyond its limit the index becomes coarser; nothing falls out of it."""
    catalog = Catalog(max_spans=100)
    for offset in range(0, 400_000, 2 * GAP):
        catalog.add(entry("ab"[offset % 4000 // 2000], offset))
    trails = [catalog.trail(name) for name in (None, "a", "b")]

    assert sum(len(trail.spans) for trail in trails) <= 100
    assert [200, 100, 100] == [sum(span.events for span in trail.spans) for trail in trails]


def test_retention_takes_spans_away():
    """What the log has no more is forgotten, an experiment of which nothing is left as well."""
    catalog = Catalog()
    for offset in range(3 * STEP):
        catalog.add(entry("old" if offset < STEP else "new", offset))
    catalog.cut(STEP + 10, 7)

    assert ["new"] == [one.experiment_id for one in catalog.listing(0)]
    assert None is catalog.trail("old")
    assert STEP <= catalog.trail(None).spans[0].first


def test_what_was_lost_is_known_by_experiment_and_time():
    """After retention, what may be missing is what stood before the first message that is left, and nothing else."""
    catalog = Catalog(limit=4)
    for offset in range(3000):
        catalog.add(entry("gone" if offset < 1000 else "cut" if offset < 2000 else "whole", offset))
    kept = [catalog.lost(experiment, 0) for experiment in ("gone", "cut", "whole", None)]
    catalog.cut(1500, 1500)
    again = Catalog()
    again.load(catalog.dump())

    assert [False] * 4 == kept
    for known in (catalog, again):
        assert [True, True, False, True] == [known.lost(e, 1499) for e in ("gone", "cut", "whole", None)]
        assert [False] * 4 == [known.lost(e, 1500) for e in ("gone", "cut", "whole", None)]
        assert not known.lost("never", 0)
    for n in range(5):
        catalog.add(entry(f"brief-{n}", 3000 + n))
    catalog.cut(4000, 4000)
    assert catalog.lost("never", 0)


def test_a_log_that_was_cut_before_it_was_read_is_no_whole_one():
    """Who reads a log that begins late cannot know whose events are gone; one that begins at 0 has lost nothing."""
    late, whole = Catalog(), Catalog()
    late.begin(700, 5_000)
    whole.begin(0, 5_000)

    assert [True, False] == [late.lost("any", 4_999), late.lost("any", 5_000)]
    assert not whole.lost("any", 0)


def test_checkpoints_of_the_version_before_are_read():
    """A catalogue that has no marks of what was lost is read as if nothing was."""
    catalog, again = Catalog(), Catalog()
    for offset in range(10):
        catalog.add(entry("a", offset))
    catalog.cut(3, 3)
    record = msgspec.msgpack.decode(catalog.dump())
    before = [*record[:4]]
    before[1], before[2] = record[1][:-1], [[name, trail[:-1]] for name, trail in record[2]]
    again.load(msgspec.msgpack.encode(before))

    assert catalog.listing(0) == again.listing(0)
    assert [True, False] == [known.lost("a", 0) for known in (catalog, again)]


@given(steps)
def test_what_was_dumped_is_loaded(steps):
    """A catalogue that was written down lists the same and finds the same."""
    catalog, again = Catalog(), Catalog()
    for one in logged(steps):
        catalog.add(one)
    again.load(catalog.dump())

    assert catalog.listing(0) == again.listing(0)
    assert catalog.segments("a", 0, -1, 10**6, 0) == again.segments("a", 0, -1, 10**6, 0)
    assert isinstance(again.trail(None), Trail)
