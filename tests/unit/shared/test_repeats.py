"""The class that drops repeats."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopcast.repeats import Repeats

keys = st.tuples(st.sampled_from("rs"), st.sampled_from("ef"))
logs = st.lists(st.tuples(keys, st.integers(0, 9)), max_size=60)


def first_copies(log: list[tuple[tuple[str, str], int]]) -> list[tuple[tuple[str, str], int]]:
    """A log in which first copies stand in order, as an ordered window publishes them."""
    counts: dict[tuple[str, str], int] = {}
    ordered = []
    for key, back in log:
        number = max(0, counts.get(key, 0) - back) if back else counts.get(key, 0)
        counts[key] = max(counts.get(key, 0), number + 1)
        ordered.append((key, number))
    return ordered


def read(table: Repeats, log: list[tuple[tuple[str, str], int]]) -> list[tuple[tuple[str, str], int]]:
    """What a reader delivers."""
    return [(key, n) for key, n in log if not table.seen(*key, n, f"{key}{n}")]


@given(logs)
def test_each_once(log: list[tuple[tuple[str, str], int]]) -> None:
    """Of a log with repeats anywhere, each event comes out once, in the order of first copies."""
    ordered = first_copies(log)
    table = Repeats()

    assert list(dict.fromkeys(ordered)) == read(table, ordered)
    assert len(ordered) - len(set(ordered)) == table.dropped


@given(logs, st.integers(0, 60), st.integers(0, 60))
def test_lead_in(log: list[tuple[tuple[str, str], int]], place: int, lead: int) -> None:
    """A reader warmed by a lead-in delivers nothing that stands in the lead-in, and the rest once."""
    ordered = first_copies(log)
    warmed = Repeats()
    before = ordered[max(0, place - lead) : place]
    read(warmed, before)
    after = read(warmed, ordered[place:])

    assert len(after) == len(set(after))
    assert not set(after) & set(before)
    assert set(ordered[place:]) - set(ordered[:place]) <= set(after)


@given(logs, st.integers(0, 60))
def test_checkpoint(log: list[tuple[tuple[str, str], int]], place: int) -> None:
    """A reader that goes on from its checkpoint delivers what one that never stopped does."""
    ordered = first_copies(log)
    whole, stopped = Repeats(), Repeats()
    expected = read(whole, ordered)
    first = read(stopped, ordered[:place])
    second = read(Repeats.load(stopped.dump()), ordered[place:])

    assert expected == first + second


@given(logs, st.sets(st.integers(0, 60)))
def test_holes_are_counted_exactly(log: list[tuple[tuple[str, str], int]], dropped: set[int]) -> None:
    """
    Whatever was dropped, and however repeats and emitters are mixed: the holes are the numbers that never came.

    Of each emitter those between the first and the last that came, each told once, by the event behind the hole.
    """
    ordered = first_copies(log)
    first = {event: place for place, event in reversed(list(enumerate(ordered)))}
    came = [event for event in ordered if first[event] not in dropped]
    expected = {
        key: set(range(min(numbers), max(numbers))) - numbers
        for key in {key for key, _ in came}
        if (numbers := {n for k, n in came if k == key})
    }
    table, found = Repeats(), dict.fromkeys(expected, 0)
    for key, n in came:
        if not table.seen(*key, n, ""):
            found[key] += table.hole(1)

    assert {key: len(numbers) for key, numbers in expected.items()} == found


@given(logs, st.integers(0, 60))
def test_holes_over_a_checkpoint(log: list[tuple[tuple[str, str], int]], place: int) -> None:
    """A hole that a restart lies in is told by who goes on, as one that never stopped would."""
    jumping = [(key, n * 3) for key, n in first_copies(log)]
    whole, stopped = Repeats(), Repeats()
    read(whole, jumping[:place])
    read(stopped, jumping[:place])
    loaded = Repeats.load(stopped.dump())

    for key, n in jumping[place:]:
        repeated = whole.seen(*key, n, "")
        assert repeated == loaded.seen(*key, n, "")
        # Of a repeat nothing is said: what is asked for then is about the event before it.
        assert repeated or whole.hole(1) == loaded.hole(1)


def test_what_a_producer_numbered_has_no_holes() -> None:
    """Without an attempt a jump is a retry under another number, and nothing is missing."""
    table = Repeats()
    table.seen("r", "e", 1, "")
    table.seen("r", "e", 9, "")

    assert (7, 0, 0) == (table.hole(1), table.hole(None), table.hole(0))


def test_what_nobody_numbered_has_no_holes() -> None:
    """The hole before a numbered event is not told again by one that came behind it without a number."""
    table = Repeats()
    for number in (1, 9, None):
        table.seen("r", "e", number, "x")

    assert 0 == table.hole(1)


def test_zero_is_a_number() -> None:
    """The first number may be 0, and a gap is no repeat."""
    table = Repeats()

    assert [False, True, False, True, True] == [table.seen("r", "e", n, "") for n in (0, 0, 7, 3, 7)]


def test_keys_are_apart() -> None:
    """One emitter's number in another run, or another's in the same run, is no repeat."""
    table = Repeats()

    assert [False] * 4 == [table.seen(run, emitter, 1, "") for run in "rs" for emitter in "ef"]


@pytest.mark.parametrize(("emitter", "sequence"), [(None, None), ("e", None), (None, 1)])
def test_without_number(emitter: str | None, sequence: int | None) -> None:
    """An event that nobody numbered is known by its id."""
    table = Repeats()

    assert [False, False, True] == [table.seen("r", emitter, sequence, id_) for id_ in "aba"]


def test_window_of_ids() -> None:
    """The window forgets the oldest id, and counts it."""
    table = Repeats(ids=2)

    assert [False, False, False, True, False] == [table.seen("r", None, None, id_) for id_ in "abcba"]
    assert (1, 2, 2) == (table.dropped, table.evicted, len(table))


def test_least_recently_used_goes() -> None:
    """A full table forgets the pair that was not used for longest, and counts it."""
    table = Repeats(pairs=2)
    for run, number in (("a", 1), ("b", 1), ("a", 2), ("c", 1)):
        table.seen(run, "e", number, "")

    assert 1 == table.evicted
    assert table.seen("a", "e", 2, "")
    assert table.seen("c", "e", 1, "")
    assert not table.seen("b", "e", 1, "")


def test_order_survives_checkpoint() -> None:
    """What was used last is kept last also after a checkpoint, and a smaller table keeps that."""
    table = Repeats()
    for run, number in (("a", 1), ("b", 1), ("a", 2)):
        table.seen(run, "e", number, "")
    table.seen("r", None, None, "x")
    table.seen("r", None, None, "y")
    smaller = Repeats.load(table.dump(), pairs=1, ids=1)

    assert 2 == smaller.evicted
    assert smaller.seen("a", "e", 2, "")
    assert smaller.seen("r", None, None, "y")
    assert not smaller.seen("b", "e", 1, "")


def test_merge() -> None:
    """A merged table knows what both did, and its bounds hold."""
    one, other = Repeats(pairs=2, ids=2), Repeats()
    one.seen("a", "e", 5, "")
    one.seen("r", None, None, "x")
    for run, number in (("a", 3), ("b", 9), ("c", 1)):
        other.seen(run, "e", number, "")
    for id_ in "xyz":
        other.seen("r", None, None, id_)
    one.merge(other)

    assert (4, 2) == (len(one), one.evicted)
    assert one.seen("b", "e", 9, "")
    assert one.seen("c", "e", 1, "")
    assert one.seen("r", None, None, "z")


def test_merge_keeps_the_higher_number() -> None:
    """Of two numbers of a pair the higher one counts, whichever table has it."""
    low, high = Repeats(), Repeats()
    low.seen("r", "e", 3, "")
    high.seen("r", "e", 5, "")
    high.merge(low)
    low.merge(high)

    assert [True, False] == [low.seen("r", "e", n, "") for n in (5, 6)]
    assert [True, False] == [high.seen("r", "e", n, "") for n in (5, 6)]


@pytest.mark.parametrize("record", [b"", b"\xc1", b"junk", msgspec.msgpack.encode({"a": 1})])
def test_bad_record(record: bytes) -> None:
    """A record that is none is refused, so that the reader can start from another."""
    with pytest.raises(ValueError, match="no table of repeats"):
        Repeats.load(record)


def test_later_version() -> None:
    """A record of a later version is refused rather than misread."""
    with pytest.raises(ValueError, match="version 2"):
        Repeats.load(msgspec.msgpack.encode([2, [], []]))


def test_compact() -> None:
    """A full table fits a checkpoint with room to spare."""
    table = Repeats()
    for n in range(10_000):
        table.seen(f"20261120T173828Z-demo-parent-{n:06x}", f"{n:016x}", n, "")
        table.seen("r", None, None, f"0193c1f2-7f4e-7000-8000-{n:012x}")

    assert len(table.dump()) < 2 * 1024 * 1024
