"""A body's shape, its unpacking and its splitting."""

import gzip
import json
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopcast_producer import bodies
from loopcast_producer.bodies import Gunzip, Lines, OverlongLine, Shape, is_gzip, shape_of, single_or_array, split_array
from loopcast_producer.problems import Refusal

CHUNKS = st.lists(st.binary(max_size=20), max_size=20)
LINE = st.binary(min_size=1, max_size=12).map(lambda b: b.replace(b"\n", b"x").replace(b"\r", b"y"))


def refused(status, function, *arguments):
    with pytest.raises(Refusal) as caught:
        function(*arguments)
    assert status == caught.value.problem.status
    return caught.value.problem.detail


@pytest.mark.parametrize(
    ("content_type", "shape"),
    [
        ("application/json", Shape.JSON),
        ("Application/JSON; charset=UTF-8", Shape.JSON),
        ("", Shape.JSON),
        ("application/x-ndjson", Shape.NDJSON),
        ("application/jsonl", Shape.NDJSON),
        ("application/cloudevents+json; charset=utf-8", Shape.CLOUDEVENT),
        ("application/cloudevents-batch+json", Shape.CLOUDEVENTS),
    ],
)
def test_content_types(content_type, shape):
    """Each content type says its shape, whatever its case and parameters; without one it is JSON."""
    assert shape == shape_of(content_type)


@pytest.mark.parametrize("content_type", ["text/plain", "application/xml", "application/json; charset=utf-16", "x"])
def test_other_content_types_are_named(content_type):
    """415 repeats what was sent and lists what may be."""
    detail = refused(415, shape_of, content_type)

    assert repr(content_type) in detail
    assert "application/x-ndjson" in detail


def test_curls_own_content_type_gets_a_hint():
    """What curl sends unasked is the commonest mistake, so the answer says which option helps."""
    assert "-H 'Content-Type: application/json'" in refused(415, shape_of, "application/x-www-form-urlencoded")


def test_content_encodings():
    """Of content encodings, gzip is taken and nothing else."""
    assert [False, False, True, True] == [is_gzip(name) for name in ("", "identity", "gzip", "X-GZip")]
    assert "'br'" in refused(415, is_gzip, "br")


@given(st.binary(max_size=3000), st.integers(1, 50))
def test_gunzip_gives_back_what_was_packed(data, size):
    """Whatever the pieces in which it arrives, several members included, the content comes out."""
    packed = gzip.compress(data[: len(data) // 2]) + gzip.compress(data[len(data) // 2 :])
    gunzip = Gunzip(None)

    pieces = [p for start in range(0, len(packed), size) for p in gunzip.feed(packed[start : start + size])]
    gunzip.finish()

    assert data == b"".join(pieces)


def test_gunzip_pieces_are_bounded():
    """A small input never becomes one large piece."""
    packed = gzip.compress(b"\0" * 900_000)

    assert max(map(len, Gunzip(None).feed(packed))) <= bodies.STEP_BYTES


def test_members_larger_than_a_piece_follow_each_other():
    """
    A body of several members, each more than a piece, unpacks whole and ends.

    Regression: zlib goes on showing a tail that was consumed, so that the second member was never reached.
    """
    member = b"\0" * (bodies.STEP_BYTES + 1)

    pieces = list(Gunzip(None).feed(gzip.compress(member) * 3))

    assert member * 3 == b"".join(pieces)


def test_a_bomb_is_refused_before_it_unpacks():
    """What unpacks to more than events ever do is refused, with little of it in memory."""
    bomb = gzip.compress(b"\0" * 50_000_000)
    seen = 0
    gunzip = Gunzip(None)

    with pytest.raises(Refusal) as caught:
        for piece in gunzip.feed(bomb):
            seen += len(piece)

    assert 413 == caught.value.problem.status
    assert "unpacks to more than" in caught.value.problem.detail
    assert seen <= max(bodies.FREE_BYTES, bodies.MAX_RATIO * len(bomb))


def test_the_limit_counts_unpacked_bytes():
    """A body under the ratio and over the limit is refused."""
    packed = gzip.compress(b"0123456789" * 1000)

    assert "1,000 bytes" in refused(413, lambda: list(Gunzip(1000).feed(packed)))


@pytest.mark.parametrize("rest", [b"not gzip at all", b"\x1f\x8b\x08garbage"])
def test_what_is_no_gzip_is_said_to_be_none(rest):
    """A wrong Content-Encoding is 400, with the reason."""
    assert "not gzip" in refused(400, lambda: list(Gunzip(None).feed(rest)))


def test_a_cut_off_gzip_is_refused():
    """The end of the body in the middle of the packed data is 400: nothing was lost silently."""
    gunzip = Gunzip(None)
    list(gunzip.feed(gzip.compress(b"x" * 1000)[:-9]))

    assert "cut off" in refused(400, gunzip.finish)


@given(st.lists(LINE, max_size=20), st.data())
def test_lines_are_the_same_however_they_arrive(lines, data):
    """Splitting does not depend on where the network cuts."""
    text = b"\n".join(lines)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    splitter = Lines(100)

    found = [
        line
        for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)
        for line in splitter.feed(text[start:end])
    ]
    found += splitter.finish()

    expected = [stripped for line in lines if (stripped := line.strip(bodies.WHITE))]
    if expected:
        expected[0] = expected[0].removeprefix(bodies.BOM) if lines[0].strip(bodies.WHITE) else expected[0]
    assert expected == found


def test_an_overlong_line_costs_no_memory_and_no_other_line():
    """A line over the limit is one refused item, its bytes thrown away as they come."""
    splitter = Lines(10)
    found = splitter.feed(b"a\n")
    for _ in range(1000):
        found += splitter.feed(b"x" * 1000)
        assert sum(map(len, splitter._rest)) <= 10
    found += splitter.feed(b"\nb\n")

    assert [b"a", b"b"] == [found[0], found[2]]
    assert isinstance(found[1], OverlongLine)


def test_a_line_in_crumbs_takes_its_own_size():
    """However small the pieces in which a line trickles in, it takes the memory of its bytes, not of its pieces."""
    lines = Lines(1_000_000)
    tracemalloc.start()
    for _ in range(250_000):
        lines.feed(bytes([65, 66]))
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()

    assert [500_000] == [len(line) for line in lines.finish()]
    assert held < 750_000


def test_windows_lines_and_empty_lines():
    """CRLF and blank lines are no items of their own, and a byte order mark is no part of the first."""
    splitter = Lines(100)

    assert [b"{}", b"[]"] == splitter.feed(b"\xef\xbb\xbf{}\r\n\r\n  \n[]\r\n")
    assert [] == splitter.finish()


def test_an_array_keeps_its_items_bytes():
    """Items are the bytes that were sent, numbers and white space included."""
    assert [b'{"n": 1e999,\n"m":0.10}', b"5", b'"x"'] == split_array(b'[ {"n": 1e999,\n"m":0.10} , 5,"x"]')


@pytest.mark.parametrize("body", [b"[1,", b"[1 2]", b"{}", b"[NaN]", b"[" * 100_000])
def test_what_is_no_array_is_400(body):
    """Broken JSON is refused as a whole: where an item ends is unknown."""
    refused(400, split_array, body)


def test_too_many_items_are_refused_before_they_take_memory(monkeypatch):
    """The number of events in one array is bounded, and so is the number of commas."""
    monkeypatch.setattr(bodies, "MAX_ITEMS", 3)
    monkeypatch.setattr(bodies, "MAX_COMMAS", 10)

    assert "3 events" in refused(413, split_array, b"[1,2,3,4]")
    assert "application/x-ndjson" in refused(413, split_array, b"[" + b"1," * 11 + b"1]")


@pytest.mark.parametrize(
    ("body", "shape", "expected"),
    [
        (b' {"a":1}\n', Shape.JSON, b'{"a":1}'),
        (b"\xef\xbb\xbf[{}]", Shape.JSON, [b"{}"]),
        (b"[{}]", Shape.CLOUDEVENTS, [b"{}"]),
        (b"[{}]", Shape.CLOUDEVENT, b"[{}]"),
        (b"[]", Shape.JSON, []),
    ],
)
def test_single_or_array(body, shape, expected):
    """Plain JSON says by its first character what it is; CloudEvents say it by their type."""
    assert expected == single_or_array(body, shape)


@pytest.mark.parametrize("body", [b"", b" \n", b"\xef\xbb\xbf"])
def test_an_empty_body_is_said_to_be_empty(body):
    """400 with an example, and not a parser's complaint."""
    assert "empty" in refused(400, single_or_array, body, Shape.JSON)


def test_a_refusal_is_problem_details():
    """The body of a refusal is what RFC 9457 says, under a type that programs can tell apart."""
    with pytest.raises(Refusal) as caught:
        is_gzip("zstd")

    problem = json.loads(caught.value.problem.encode())

    assert {"type", "title", "status", "detail"} == set(problem)
    assert ("urn:loopcast:problem:unsupported-encoding", 415) == (problem["type"], problem["status"])
    assert ((b"accept-encoding", b"gzip"),) == caught.value.headers


def test_zlib_without_a_header_is_no_gzip():
    """A raw deflate stream, which some clients call gzip, is refused in words."""
    refused(400, lambda: list(Gunzip(None).feed(zlib.compress(b"x"))))
