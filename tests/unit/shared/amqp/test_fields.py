"""Headers on the wire: what we write is what any AMQP client reads, and what anybody writes does no harm."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import decode, encode

from loopcast.amqp.fields import Headers, decode_table, encode_table, short_string

NAMES = st.text(st.characters(codec="utf-8"), max_size=60)
VALUES = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(st.characters(codec="utf-8"))


def entry(name, value):
    return bytes((len(name),)) + name + value


def test_golden_table():
    """The bytes of each kind that we write."""
    table = encode_table(
        {"experiment": "exp-42", "partition": 0, "sequence": -2, "live": True, "old": False, "x": None}
    )

    assert (
        b"\x00\x00\x00\x4b"
        b"\x0aexperimentS\x00\x00\x00\x06exp-42"
        b"\x09partitionl\x00\x00\x00\x00\x00\x00\x00\x00"
        b"\x08sequencel\xff\xff\xff\xff\xff\xff\xff\xfe"
        b"\x04livet\x01"
        b"\x03oldt\x00"
        b"\x01xV"
    ) == table


@given(st.dictionaries(NAMES, VALUES, max_size=8))
def test_what_is_written_is_read(headers):
    """Any headers survive our own way there and back, each with its type."""
    back = decode_table(encode_table(headers)[4:])

    assert headers == back
    assert [type(v) for v in headers.values()] == [type(v) for v in back.values()]


@given(st.dictionaries(NAMES, VALUES, max_size=8))
def test_another_library_reads_what_we_write(headers):
    """The library pamqp reads the same headers from our bytes."""
    assert headers == decode.field_table(encode_table(headers))[1]


@given(st.dictionaries(st.text("abcxyz-", min_size=1, max_size=20), VALUES, max_size=8))
def test_we_read_what_another_library_writes(headers):
    """We read the same headers from pamqp's bytes, whichever of its kinds of numbers it takes."""
    assert headers == decode_table(encode.field_table(headers)[4:])


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (b"b", b"\xfd", -3),
        (b"B", b"\xfd", 253),
        (b"s", b"\xff\xfe", -2),
        (b"u", b"\xff\xfe", 65534),
        (b"I", b"\xff\xff\xff\xff", -1),
        (b"i", b"\xff\xff\xff\xff", 2**32 - 1),
        (b"L", b"\xff" * 8, 2**64 - 1),
        (b"\x00", b"", None),
    ],
)
def test_every_kind_of_number(kind, value, expected):
    """All of RabbitMQ's kinds of whole numbers are read, and what stands behind them."""
    raw = entry(b"n", kind + value) + entry(b"after", b"t\x01")

    assert {"n": expected, "after": True} == decode_table(raw)


@pytest.mark.parametrize(
    "value",
    [
        b"T" + struct.pack(">Q", 1760000000),
        b"f" + struct.pack(">f", 1.5),
        b"d" + struct.pack(">d", 1.5),
        b"D\x02\x00\x00\x01\x00",
        b"x\x00\x00\x00\x03abc",
        b"A\x00\x00\x00\x02t\x01",
        b"F\x00\x00\x00\x04\x01at\x01",
    ],
)
def test_what_a_header_may_not_hold_is_left_out(value):
    """Times, fractions, bytes, arrays and tables are skipped, and what stands behind them is read."""
    raw = entry(b"odd", value) + entry(b"after", b"t\x01")

    assert {"after": True} == decode_table(raw)


@given(st.binary(max_size=200))
def test_no_bytes_fail(raw):
    """Reading never raises, whatever a stranger sent."""
    decode_table(raw)


def test_a_broken_table_reads_as_what_is_whole():
    """Every cut through a table leaves the entries before the cut."""
    headers = {"a": "one", "b": 2, "c": True, "d": "four"}
    raw = encode_table(headers)[4:]

    for cut in range(len(raw)):
        read = decode_table(raw[:cut])
        assert read == dict(list(headers.items())[: len(read)])


def test_an_unknown_kind_ends_the_table():
    """Nothing can be read behind a kind whose length nobody knows."""
    raw = entry(b"a", b"t\x01") + entry(b"b", b"?xx") + entry(b"c", b"t\x01")

    assert {"a": True} == decode_table(raw)


def test_text_that_is_no_utf_8_reads_with_marks():
    """A stranger's bytes do not end the connection."""
    raw = entry(b"\xff", b"S\x00\x00\x00\x02\xff\xfe")

    assert {"�": "��"} == decode_table(raw)


def test_lazy_headers_are_a_mapping():
    """Everything that a mapping does, a delivery's headers do."""
    headers = Headers(encode_table({"a": "one", "b": 2})[4:])

    assert "one" == headers["a"]
    assert 2 == headers.get("b")
    assert headers.get("c") is None
    assert 7 == headers.get("c", 7)
    assert ["a", "b"] == list(headers)
    assert 2 == len(headers)
    assert "a" in headers
    assert {"a": "one", "b": 2} == headers
    assert "{'a': 'one', 'b': 2}" == repr(headers)
    with pytest.raises(KeyError):
        headers["c"]
    assert {} == Headers(b"")


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ({"n": 2**63}, ValueError),
        ({"n": -(2**63) - 1}, ValueError),
        ({"n" * 256: "x"}, ValueError),
        ({"n": "\ud800"}, ValueError),
        ({"n": 1.5}, TypeError),
        ({"n": b"x"}, TypeError),
    ],
)
def test_what_cannot_be_written_is_refused(headers, error):
    """A value that AMQP, or a header, has no place for raises, and nothing is cut."""
    with pytest.raises(error):
        encode_table(headers)


def test_subclasses_of_text_and_numbers_are_written_as_such():
    """An enumeration's member is its text or number."""
    text, number = type("Text", (str,), {}), type("Number", (int,), {})

    assert encode_table({"a": "x", "b": 3}) == encode_table({"a": text("x"), "b": number(3)})


def test_short_strings_have_255_bytes_at_most():
    """The limit is in bytes of UTF-8, not in characters."""
    assert b"\xff" + b"a" * 255 == short_string("a" * 255)
    with pytest.raises(ValueError, match="255"):
        short_string("ä" * 128)


def test_names_without_end_are_not_kept():
    """Strangers invent header names; what is remembered of them is bounded."""
    for n in range(3000):
        name = f"stranger-{n}"
        assert {name: n} == decode_table(encode_table({name: n})[4:])
