"""Lines out of bytes, however those come."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopcast.relays.lines import Counts, Line, Lines, parse_line


@given(st.lists(st.binary(max_size=30).map(lambda b: b.replace(b"\n", b"")), max_size=20), st.data())
def test_lines_are_the_same_however_they_are_cut(lines, data):
    """Chunks of any size give the same lines at the same places, and a last one without an end waits."""
    whole = b"".join(line + b"\n" for line in lines) + b"rest"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=10)))
    splitter, found = Lines(), []
    for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
        found += splitter.feed(whole[start:end])

    assert lines == [line.content for line in found]
    assert [line.end for line in found] == [len(b"\n".join(lines[: n + 1])) + 1 for n in range(len(lines))]
    assert (len(whole) - 4, 4) == (splitter.offset, splitter.waiting)


@given(st.lists(st.integers(1, 7), min_size=1, max_size=30))
def test_a_line_over_the_limit_is_skipped_and_keeps_its_place(sizes):
    """It fills no memory, and the lines around it are read."""
    whole, splitter, found = b"ok\n" + b"x" * 50 + b"\nafter\n", Lines(limit=10), []
    start = 0
    for size in [*sizes, *[7] * 10]:
        found += splitter.feed(whole[start : start + size])
        start += size
        assert sum(map(len, splitter._rest)) <= 10 + 7

    assert [Line(b"ok", 3), Line(None, 54), Line(b"after", 60)] == found


@pytest.mark.parametrize(
    ("content", "event", "counted"),
    [
        (b'{"event":"x"}', {"event": "x"}, ""),
        (b'  {"a":1}\r', {"a": 1}, ""),
        (b"", None, "blank"),
        (b" \t", None, "blank"),
        (b"[1,2]", None, "bad"),
        (b"5", None, "bad"),
        (b"{", None, "bad"),
        (b'{"a":"\xff"}', None, "bad"),
        (b"[" * 100_000, None, "bad"),
        (None, None, "oversized"),
    ],
)
def test_each_line_is_an_event_or_is_counted(content, event, counted):
    """What is no JSON object is skipped, and nothing is skipped without a count."""
    counts = Counts()

    assert event == parse_line(Line(content, 0), counts)
    assert {counted: 1} if counted else {} == {name: n for name, n in vars(counts).items() if n}


def test_counts_are_told_in_words():
    """What happened is named, and what did not is not."""
    one, two = Counts(), Counts()
    one.relayed, two.relayed, two.bad = 2, 3, 1

    assert "5 relayed, 1 bad" == str(Counts.total([one, two]))
    assert "0 relayed" == str(Counts())
    assert json.loads(json.dumps(vars(one)))["relayed"] == 2
