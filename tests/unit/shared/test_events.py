"""The envelope: encoding, parsing, slicing, splicing, and times."""

import datetime as dt
import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from loopcast import events
from loopcast.errors import InvalidEvent, InvalidExperiment, InvalidType
from loopcast.events import Event

NASTY = [
    '","data":',
    ',"data":{',
    '\\","data":1,"x":"',
    "\\",
    '"',
    "\\\\",
    "é界\u2028",
    "\x00\n",
    '"data":',
    "x,",
    ',"data',
]

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.sampled_from(NASTY)
ids = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=40) | st.sampled_from(
    ['","data":', "a,", '\\"']
)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
known_names = {field.encode_name for field in msgspec.structs.fields(Event)} - {"extra"} | {"specversion"}
extras = st.dictionaries(
    texts.filter(lambda n: n not in known_names), st.booleans() | st.integers() | texts, max_size=3
)


def raw(value: object) -> msgspec.Raw:
    """A value as data has it."""
    return msgspec.Raw(json.dumps(value).encode())


made = st.builds(
    Event,
    id=ids,
    source=ids,
    type=st.from_regex(r"[A-Za-z0-9_-]{1,9}(\.[A-Za-z0-9_-]{1,9}){0,2}", fullmatch=True),
    subject=st.none() | texts,
    time=st.none() | st.integers(0, 2**50).map(events.format_time),
    experiment=ids,
    run=ids,
    attempt=st.integers(0, 2**31 - 1),
    parent_run=st.none() | texts,
    recorded_time=st.none() | st.integers(0, 2**50).map(events.format_time),
    emitter=st.none() | ids,
    sequence=st.none() | st.integers(0, 2**63 - 1).map(lambda n: f"{n:020}"),
    traceparent=st.none() | texts,
    extra=st.just(msgspec.UNSET) | extras.filter(bool).map(lambda e: msgspec.Raw(json.dumps(e)[1:-1].encode())),
    data=plain.map(raw),
)

BASE: dict[str, Any] = {
    "specversion": "1.0",
    "id": "0193c1f2-7f4e-7000-8000-000000000000",
    "source": "/experiments/e/runs/r",
    "type": "state_enter",
    "experimentid": "e",
    "runid": "r",
    "data": {"event": "state_enter"},
}


def body(**members: object) -> bytes:
    """A good event with some members changed or added."""
    return json.dumps({**BASE, **members}).encode()


def body_without(name: str) -> bytes:
    """A good event that lacks one member."""
    return json.dumps({n: v for n, v in BASE.items() if n != name}).encode()


def body_with_data(data: bytes) -> bytes:
    """A good event around these bytes."""
    return body_without("data")[:-1] + b', "data": ' + data + b"}"


@given(made)
def test_encode_agrees_with_a_parser(event: Event) -> None:
    """What is encoded is JSON with the attributes that were given and `data` byte for byte at the end."""
    encoded = event.encode()
    members = json.loads(encoded)

    assert encoded.startswith(b'{"specversion":"1.0",')
    assert encoded.endswith(b',"data":' + bytes(event.data) + b"}")
    assert "data" == list(members)[-1]
    assert (event.id, event.source, event.type) == (members["id"], members["source"], members["type"])
    assert (event.experiment, event.run) == (members["experimentid"], members["runid"])
    assert (event.subject, event.emitter) == (members.get("subject"), members.get("emitter"))
    assert "extra" not in members or b'"extra":' in bytes(event.extra or b"")


@given(made)
def test_slice_agrees_with_a_parser(event: Event) -> None:
    """The data sliced out is the member itself, whatever the attributes before it say."""
    encoded = event.encode()

    assert bytes(event.data) == events.slice_data(encoded)
    assert json.loads(encoded)["data"] == json.loads(events.slice_data(encoded))


@given(made, texts)
def test_splice_agrees_with_a_parser(event: Event, value: str) -> None:
    """A member spliced in is there, everything else is as it was, and `data` is the last still."""
    encoded = event.encode()
    spliced = events.splice(encoded, b'"pos":' + json.dumps(value).encode() + b',"n":1')
    expected = {**json.loads(encoded), "pos": value, "n": 1}

    assert expected == json.loads(spliced)
    assert bytes(event.data) == events.slice_data(spliced)


@given(made)
def test_round_trip(event: Event) -> None:
    """What was encoded is read back as it was, and encodes to the same again."""
    encoded = event.encode()
    parsed = events.parse(encoded)

    assert parsed.encode() == events.parse(parsed.encode()).encode()
    assert json.loads(encoded) == json.loads(parsed.encode())
    # Strangers' names may be escaped in more than one way, so that extra is compared through a JSON parser above.
    assert msgspec.structs.replace(event, extra=msgspec.UNSET) == msgspec.structs.replace(parsed, extra=msgspec.UNSET)


def test_defaults_are_not_on_the_wire() -> None:
    """An event with what must be there has nothing else."""
    event = Event(id="i", source="/s", type="t", experiment="e", run="r", data=msgspec.Raw(b"{}"))
    expected = b'{"specversion":"1.0","id":"i","source":"/s","type":"t","experimentid":"e","runid":"r","data":{}}'

    assert expected == event.encode()
    assert expected == msgspec.structs.replace(event, extra=msgspec.Raw(b"")).encode()


def test_data_with_a_data_of_its_own() -> None:
    """A member of the object's own that is called data is not taken for the envelope's."""
    data = b'{"a":1,"data":{"b":2,"data":3}}'
    encoded = events.parse(body_with_data(data)).encode()

    assert data == events.slice_data(encoded)
    assert data == events.slice_data(events.splice(encoded, b'"pos":"x"'))


def test_unknown_attributes_are_kept() -> None:
    """Attributes of a later version or of strangers stay, in front of the data."""
    event = events.parse(body(later='","data":[', flag=True, extra=7))
    members = json.loads(event.encode())

    assert ('","data":[', True, 7) == (members["later"], members["flag"], members["extra"])
    assert b'{"event": "state_enter"}' == events.slice_data(event.encode())


@pytest.mark.parametrize("value", [{}, [], {"a": 1}])
def test_nested_attribute(value: object) -> None:
    """An attribute that is an object or an array is refused: behind it, `data` could not be found without parsing."""
    with pytest.raises(InvalidEvent, match="later"):
        events.parse(body(later=value))


@pytest.mark.parametrize(
    ("members", "part"),
    [
        ({"specversion": "0.3"}, "specversion"),
        ({"specversion": 1.0}, "specversion"),
        ({"id": ""}, "event id"),
        ({"id": 7}, "id"),
        ({"id": "x" * 256}, "event id"),
        ({"id": "a\nb"}, "event id"),
        ({"source": ""}, "source"),
        ({"emitter": ""}, "emitter"),
        ({"emitter": "x" * 256}, "emitter"),
        ({"attempt": -1}, "attempt"),
        ({"attempt": 2**31}, "attempt"),
        ({"attempt": 10**400}, "attempt|range"),
        ({"attempt": "1"}, "attempt"),
        ({"attempt": True}, "attempt"),
        ({"sequence": ""}, "sequence"),
        ({"sequence": "-1"}, "sequence"),
        ({"sequence": "1e3"}, "sequence"),
        ({"sequence": "٣"}, "sequence"),
        ({"sequence": "0" * 21}, "sequence"),
        ({"sequence": "1" * 5000}, "sequence"),
        ({"sequence": "9223372036854775808"}, "sequence"),
        ({"sequence": 7}, "sequence"),
        ({"time": "yesterday"}, "time"),
        ({"time": "2026-13-01T00:00:00Z"}, "time"),
        ({"recordedtime": "2026-11-20T10:00:00"}, "time"),
        ({"recordedtime": "9999-12-31T23:59:59-23:00"}, "time"),
        ({"recordedtime": ""}, "time"),
    ],
)
def test_bad_attribute(members: dict[str, object], part: str) -> None:
    """An attribute that is wrong is refused in a sentence that names it."""
    with pytest.raises(InvalidEvent, match=part):
        events.parse(body(**members))


@pytest.mark.parametrize("name", ["id", "source", "type", "experimentid", "runid", "data", "specversion"])
def test_missing(name: str) -> None:
    """An event that lacks what it must have is refused by the name of that."""
    with pytest.raises(InvalidEvent, match=name):
        events.parse(body_without(name))


def test_grammar() -> None:
    """An experiment, run or type that breaks its grammar is refused as such."""
    with pytest.raises(InvalidExperiment, match="experiment id is empty"):
        events.parse(body(experimentid=""))
    with pytest.raises(InvalidExperiment, match="run id has a control"):
        events.parse(body(runid="a\tb"))
    with pytest.raises(InvalidType):
        events.parse(body(type="a b"))


def test_coerced_type() -> None:
    """A type that a producer had to escape is read back: our own log must not be refused."""
    assert "a%20b" == events.parse(body(type="a%20b")).type


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"NaN",
        b"01",
        b"1.",
        b"{'a':1}",
        b'"\xff"',
        b'"\x01"',
        b'"\\q"',
        b"[1,]",
        b"[" * 100_000 + b"]" * 100_000,
        b"[\n" * 100_000 + b"]" * 100_000,
        b'{"a":' * 100_000,
    ],
)
def test_bad_data(data: bytes) -> None:
    """Data that is no JSON in UTF-8, or nests without end, is refused: it would go to others as it is."""
    with pytest.raises(InvalidEvent):
        events.parse(body_with_data(data))


@pytest.mark.parametrize("bad", [b"", b"[]", b"1", b"{", b"\xff", b"\xef\xbb\xbf{}", b"\x00", b"{}" * 2])
def test_bad_body(bad: bytes) -> None:
    """What is no JSON object is refused."""
    with pytest.raises(InvalidEvent, match="This is no CloudEvent"):
        events.parse(bad)


@given(st.binary(max_size=60) | plain.map(lambda p: json.dumps(p).encode()))
@example(b'{"specversion":"1.0"}')
def test_any_body(anything: bytes) -> None:
    """No body raises anything but the error of this tree."""
    with pytest.raises(InvalidEvent):
        events.parse(anything)


@pytest.mark.parametrize(
    "data",
    [b"null", b"0", b'"\\u0041\\/"', b"1.0E5", b"1e999", b"9" * 6000, b'{"a" : 1}', b'{"a":1,"a":2}', "[\u2028]"],
)
def test_data_is_untouched(data: bytes | str) -> None:
    """Data in one line stays byte for byte, also where a parser would read and write it otherwise."""
    raw_data = data if isinstance(data, bytes) else b'"\xe2\x80\xa8"'

    assert raw_data == events.slice_data(events.parse(body_with_data(raw_data)).encode())


def test_line_breaks() -> None:
    """Line breaks between tokens go, with the white space around, and nothing else changes."""
    event = events.parse(body_with_data(b'{"a":\r\n 1.0E5,\n"b": "x\\ny \\u0041", "c":12345678901234567890123}'))

    assert b'{"a":1.0E5,"b":"x\\ny \\u0041","c":12345678901234567890123}' == bytes(event.data)


def test_null_is_absent() -> None:
    """A known attribute that is null is one that is not there, as CloudEvents has it; null data is data."""
    event = events.parse(body(subject=None, attempt=None, sequence=None, data=None))

    assert (None, 0, None) == (event.subject, event.attempt, event.number)
    assert b"null" == bytes(event.data)


def test_version_may_be_escaped() -> None:
    """The version counts by its meaning, not by how its text is written."""
    assert "e" == events.parse(body().replace(b'"1.0"', b'"1\\u002e0"')).experiment


@pytest.mark.parametrize(
    ("given_time", "kept"),
    [
        ("2026-11-20T17:38:28Z", "2026-11-20T17:38:28Z"),
        ("2026-11-20T17:38:28.123456789Z", "2026-11-20T17:38:28.123456789Z"),
        ("2026-11-20T18:38:28.5+01:00", "2026-11-20T17:38:28.500000Z"),
        ("2026-11-20T17:38:28", "2026-11-20T17:38:28.000000Z"),
    ],
)
def test_time_in_utc(given_time: str, kept: str) -> None:
    """A time comes out in UTC, and as it was where it is already."""
    assert kept == events.parse(body(time=given_time)).time


def test_recorded_time() -> None:
    """A recorded time is written with six digits, in UTC, so that it sorts as text."""
    event = events.parse(body(recordedtime="2026-11-20T18:38:28+01:00", sequence="0042"))

    assert "2026-11-20T17:38:28.000000Z" == event.recorded_time
    assert (1_795_196_308_000_000, 42) == (event.recorded, event.number)


@pytest.mark.parametrize("cut", [events.slice_data, lambda b: events.splice(b, b'"a":1')])
def test_no_data_member(cut: Any) -> None:
    """A body without data can be neither sliced nor spliced."""
    with pytest.raises(InvalidEvent, match="no data member"):
        cut(b'{"specversion":"1.0"}')


@pytest.mark.parametrize(
    ("data", "type_"),
    [
        ({"event": "evaluate", "type": "exit_code"}, "evaluate"),
        ({"type": "score"}, "score"),
        ({"event": "", "type": "score"}, "score"),
        ({"event": 7}, "message"),
        ({}, "message"),
    ],
)
def test_event_type(data: dict[str, object], type_: str) -> None:
    """An object is named by its `event`, else its `type`, else `message`."""
    assert type_ == events.event_type(data)


def test_source() -> None:
    """The source has both ids percent-encoded whole."""
    assert "/experiments/a%2Fb%20%C3%A9/runs/%7Br%7D" == events.source_of("a/b é", "{r}")


BERLIN = dt.timezone(dt.timedelta(hours=1))


@pytest.mark.parametrize(
    ("ts", "time"),
    [
        ("2026-11-20T17:38:28.606955+00:00", "2026-11-20T17:38:28.606955Z"),
        ("2026-11-20T17:38:28Z", "2026-11-20T17:38:28.000000Z"),
        ("2026-11-20T18:38:28+01:00", "2026-11-20T17:38:28.000000Z"),
        ("2026-11-20T17:38:28", "2026-11-20T17:38:28.000000Z"),
        (0, "1970-01-01T00:00:00.000000Z"),
        (1.5, "1970-01-01T00:00:01.500000Z"),
        (dt.datetime(2026, 11, 20, 18, 0, tzinfo=BERLIN), "2026-11-20T17:00:00.000000Z"),
        (dt.datetime(2026, 11, 20, 18, 0), "2026-11-20T18:00:00.000000Z"),  # noqa: DTZ001 - that is the case
        (True, None),
        (None, None),
        ("", None),
        ("now", None),
        ("\ud800", None),
        (float("nan"), None),
        (float("inf"), None),
        (10**400, None),
        (1_795_196_308_000, None),
        ("0001-01-01T00:00:00+23:00", None),
        ([], None),
    ],
)
def test_normalize_time(ts: object, time: str | None) -> None:
    """An event's own time in any usual form becomes UTC with Z; what is no time becomes none."""
    assert time == events.normalize_time(ts)


@given(st.integers(-(2**55), 2**57))
def test_microseconds(microseconds: int) -> None:
    """Microseconds survive their text."""
    assert microseconds == events.to_microseconds(events.format_time(microseconds))


@given(st.lists(st.integers(0, 2**57)))
def test_times_sort_as_text(moments: list[int]) -> None:
    """Written times sort as the moments do."""
    expected = [events.format_time(m) for m in sorted(moments)]

    assert expected == sorted(events.format_time(m) for m in moments)
