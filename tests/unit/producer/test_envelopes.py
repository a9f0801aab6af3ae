"""What is an event, whose, and of which run."""

import json
import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopcast.errors import EventTooLarge, InvalidEvent, InvalidExperiment, InvalidType
from loopcast.events import parse, slice_data
from loopcast.routing import MAX_EXPERIMENT_BYTES, check_experiment, routing_key
from loopcast.runs import source_run
from loopcast_producer.envelopes import MAX_DEPTH, NotJson, Origin, _depth, cloudevent, coerce_experiment, loop_event

STREAMS = Path(__file__).parents[2] / "fixtures" / "streams"
MIB = 1024 * 1024
ID = "0192f0c1-0000-7000-8000-000000000001"
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
HERE = Origin(experiment="exp-42", run="r1")
ANYWHERE = Origin()


def plain(raw, origin=HERE, index=0):
    return loop_event(raw if isinstance(raw, bytes) else json.dumps(raw).encode(), origin, index, max_bytes=MIB)


def structured(origin=HERE, **attributes):
    event = {"specversion": "1.0", "id": ID, "source": "urn:x", "type": "t", "data": {"a": 1}, **attributes}
    present = {name: value for name, value in event.items() if value is not ...}
    return cloudevent(json.dumps(present).encode(), origin, max_bytes=MIB)


@pytest.mark.parametrize("path", sorted(STREAMS.glob("*.jsonl")), ids=lambda path: path.stem)
def test_recorded_streams_keep_their_bytes(path):
    """Every event of the recorded streams comes out of its envelope byte for byte."""
    for line in path.read_bytes().splitlines():
        event = plain(line)

        assert line == slice_data(event.encode())
        assert json.loads(line)["event"] == event.type
        assert ("exp-42", "r1", "/experiments/exp-42/runs/r1") == (event.experiment, event.run, event.source)
        assert json.loads(line).get("loop") == event.subject
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:]{8}\.\d{6}Z", event.time)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"n": 1e999, "m": 123456789012345678901234567890, "z": 0.1000000000000000055511151231257827, "a":-0}',
        b'{ "event" : "a" , "s":"\\u00e9\\ud83d\\ude00\\/" }',
        '{"event":"a","text":"日本語 😀"}'.encode(),
        b'{"event":"a","event":"b"}',
    ],
)
def test_numbers_and_text_of_any_kind_survive(raw):
    """What is not looked at is not touched: numbers of any size, escapes, white space, repeated names."""
    assert raw == slice_data(plain(raw).encode())


def test_only_line_breaks_are_taken_out():
    """A pretty-printed event becomes one line with the same meaning and the same digits."""
    raw = b'{\r\n  "event": "a",\n  "n": 1.50\n}'

    assert b'{"event":"a","n":1.50}' == bytes(plain(raw).data)


@pytest.mark.parametrize(
    ("raw", "type_"),
    [
        ({"event": "a.b", "type": "c"}, "a.b"),
        ({"type": "c"}, "c"),
        ({"event": "", "type": ""}, "message"),
        ({"event": 5, "type": "c"}, "c"),
        ({"event": {"name": "x"}}, "message"),
        ({"event": None}, "message"),
        ({}, "message"),
    ],
)
def test_types(raw, type_):
    """The type is `event`, else `type`, else `message`; what is no text is no type."""
    assert type_ == plain(raw).type


@pytest.mark.parametrize(
    ("ts", "time"),
    [
        ("2026-11-20T17:38:28.606955+00:00", "2026-11-20T17:38:28.606955Z"),
        ("2026-11-20T18:38:28+01:00", "2026-11-20T17:38:28.000000Z"),
        ("2026-11-20T17:38:28", "2026-11-20T17:38:28.000000Z"),
        (1795196308.5, "2026-11-20T17:38:28.500000Z"),
        ("yesterday", None),
        ({"no": "time"}, None),
        (True, None),
    ],
)
def test_times(ts, time):
    """The event's own time comes out in UTC; what is no time is left for the producer's clock."""
    assert time == plain({"ts": ts}).time


def test_an_odd_member_does_not_hide_the_others():
    """An event that uses one of our names for something else is still read as far as it goes."""
    event = plain(b'{"event":"a","loop":["x"],"timestamp":1e999,"ts":"2026-11-20T17:38:28Z"}')

    assert ("a", None, "2026-11-20T17:38:28.000000Z") == (event.type, event.subject, event.time)


@pytest.mark.parametrize(
    ("raw", "error", "words"),
    [
        (b"42", InvalidEvent, "JSON object"),
        (b'"text"', InvalidEvent, "JSON object"),
        (b"[1]", InvalidEvent, "JSON object"),
        (b"null", InvalidEvent, "JSON object"),
        (b'{"a":', NotJson, "ends in the middle"),
        (b"{'a':1}", NotJson, "not JSON"),
        (b'{"a":NaN}', NotJson, "not JSON"),
        (b'{"a":1}{"b":2}', NotJson, "not JSON"),
        (b'{"a":"\\ud800"}', NotJson, "surrogate"),
        (b'{"a":"\xff"}', NotJson, "UTF-8"),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", NotJson, "deeper than 200"),
        # The same behind a member that the first look stops at, because its type is another.
        (b'{"event":1,"a":', NotJson, "ends in the middle"),
        (b'{"event":1,"a":NaN}', NotJson, "not JSON"),
        (b'{"event":1,"a":"\xff"}', NotJson, "UTF-8"),
        (b'{"event":1,"a":"\\ud800"}', NotJson, "surrogate"),
        (b'{"event":1,"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", NotJson, "deeper than 200"),
        (b'{"event":"a b"}', InvalidType, "joined by dots"),
        (b'{"event":"' + b"x" * 121 + b'"}', InvalidType, "at most 120"),
        (b'{"a":"' + b"x" * MIB + b'"}', EventTooLarge, "more than 1,048,576 bytes"),
    ],
)
def test_what_is_no_event_is_refused_in_words(raw, error, words):
    """Each fault has an error of its own and a sentence that names it."""
    with pytest.raises(error, match=words):
        plain(raw)


@given(st.integers(1, 2 * MAX_DEPTH), st.booleans())
def test_depth_is_counted_exactly(depth, objects):
    """Up to the limit everything is taken, whatever brackets stand in its strings."""
    inner = b'{"a":' * depth + b"1" + b"}" * depth if objects else b"[" * depth + b"]" * depth
    raw = b'{"text":"' + b'[{\\"[{' * MAX_DEPTH + b'","deep":' + inner + b"}"

    if depth + 1 <= MAX_DEPTH:
        assert raw == bytes(plain(raw).data)
    else:
        with pytest.raises(NotJson, match="deeper"):
            plain(raw)


DIGITS = b"7" * 4300


@pytest.mark.parametrize(
    "number",
    [
        DIGITS,
        b"-" + DIGITS,
        b"0." + DIGITS * 2,
        DIGITS * 2 + b".5",
        DIGITS + b"1e5",
        b"1e-" + DIGITS * 2,
        b"1E" + DIGITS * 2,
        b'"' + DIGITS * 2 + b'"',
        b'"\\",' + DIGITS * 2 + b'"',
        b"[" + b",".join([b"123456789"] * 2000) + b"]",
    ],
)
def test_what_python_parses_is_taken(number):
    """Integers up to the bound, fractions, exponents and strings of any length are events that readers can read."""
    raw = b'{"text":"a","n":' + number + b',"m":1}'
    json.loads(raw)

    assert raw == bytes(plain(raw).data)
    assert b'{"n":' + number + b"}" == bytes(structured_data(b'{"n":' + number + b"}").data)


@pytest.mark.parametrize("number", [DIGITS + b"1", b"-" + DIGITS + b"1", b"[1.5, " + DIGITS * 3 + b"]"])
@pytest.mark.parametrize("before", range(0, 1100, 90))
def test_an_integer_too_long_for_readers_is_refused(number, before):
    """Wherever it stands: json.loads of a reader would refuse the whole event."""
    raw = b'{"text":"' + b"x" * before + b'","n":' + number + b"}"
    with pytest.raises(ValueError, match="digits"):
        json.loads(raw)

    for take in (plain, structured_data):
        with pytest.raises(NotJson, match="more than 4,300 digits"):
            take(raw)


def structured_data(data):
    """A CloudEvent of `data`, bytes as they are."""
    return cloudevent(
        b'{"specversion":"1.0","id":"1","source":"s","type":"t","data":' + data + b"}", HERE, max_bytes=MIB
    )


def depth_of(value):
    """What a parser has open at the most."""
    if not isinstance(value, dict | list):
        return 0
    return 1 + max(map(depth_of, value.values() if isinstance(value, dict) else value), default=0)


@given(
    st.recursive(
        st.text('[]{}"\\,:aé', max_size=6) | st.integers(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('[]{}"\\', max_size=3), inner, max_size=3),
    )
)
def test_no_text_is_taken_for_a_bracket(value):
    """Quotes, escapes and brackets in names and strings make nothing deeper."""
    assert depth_of(value) == _depth(json.dumps(value, ensure_ascii=False).encode())


def test_ids_are_new_without_a_key_and_the_same_with_one():
    """An Idempotency-Key makes the ids of plain events repeatable, each item's its own; without it each is new."""
    keyed = Origin(experiment="exp-42", key="k")

    assert plain({}).id != plain({}).id
    assert plain({}, keyed, 3).id == plain({"other": "content"}, keyed, 3).id
    others = [Origin(experiment="exp-43", key="k"), Origin(experiment="exp-42", key="k", source="s")]
    ids = {plain({}, keyed, 0).id, plain({}, keyed, 1).id, *(plain({}, other).id for other in others)}
    assert 4 == len(ids)
    assert all(re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", id_) for id_ in ids)


def test_experiments_may_use_the_same_keys():
    """Where each event names its experiment, that is part of its id: another's event under the key is another event."""
    keyed = Origin(key="2026-11-21")
    ids = [plain({"experiment_id": experiment}, keyed).id for experiment in ("a", "b", "a", None)]

    assert ids[0] == ids[2]
    assert 3 == len(set(ids))
    assert ids[0] == plain({}, Origin(experiment="a", key="2026-11-21")).id


def test_the_run_is_derived_from_the_source():
    """Without Loopcast-Run all events of a source are one run, whoever of the producers takes them."""
    origin = Origin(experiment="exp-42", source="machine-1")

    assert source_run("exp-42", "machine-1") == plain({}, origin).run
    assert plain({}, origin).run != plain({}, Origin(experiment="exp-42", source="machine-2")).run


@pytest.mark.parametrize(
    ("named", "experiment", "type_"),
    [
        ({"experiment_id": "exp-7", "type": "run.started"}, "exp-7", "run.started"),
        ({"experiment_id": 42}, "42", "message"),
        ({"experiment_id": 4.5}, "4.5", "message"),
        ({"experiment_id": None}, "~", "message"),
        ({"experiment_id": ["x"]}, "~", "message"),
        ({}, "~", "message"),
        ({"experiment_id": ""}, "~", "message"),
        ({"experiment_id": "a\nb", "type": "new best!"}, "a%0Ab", "new%20best%21"),
    ],
)
def test_events_that_name_their_own_experiment(named, experiment, type_):
    """Where nobody hears a refusal everything is made to fit, and what names no experiment gets the reserved one."""
    event = plain(named, ANYWHERE)

    assert (experiment, type_) == (event.experiment, event.type)
    assert routing_key(event.experiment, event.type)


@given(st.text(st.characters(exclude_categories=()), max_size=400))
def test_any_text_becomes_an_experiment_id(text):
    """Coercion gives a legal id, and leaves a legal one as it is."""
    coerced = coerce_experiment(text)

    check_experiment(coerced)
    try:
        check_experiment(text)
    except InvalidExperiment:
        assert coerced != text
    else:
        assert coerced == text


def test_two_long_experiment_ids_stay_two():
    """What is cut off is kept apart by a hash."""
    long = "é" * MAX_EXPERIMENT_BYTES

    assert coerce_experiment(long + "a") != coerce_experiment(long + "b")


@pytest.mark.parametrize(
    ("origin", "words"),
    [
        (Origin(experiment=""), "empty"),
        (Origin(experiment="x" * 256), "at most 255"),
        (Origin(experiment="a\tb"), "control character"),
        (Origin(experiment="~"), "reserved"),
        (Origin(experiment="e", run="\x00"), "Loopcast-Run"),
        (Origin(experiment="e", run="r\udcff"), "lone surrogate"),
    ],
)
def test_a_bad_origin_is_refused_in_words(origin, words):
    """The experiment in the path and the run in the header keep the grammar."""
    with pytest.raises(InvalidExperiment, match=words):
        origin.checked()


def test_the_trace_context_of_the_request_is_each_event_s():
    """Both halves of it (W3C Trace Context, 3)."""
    event = plain({}, Origin(experiment="e", traceparent=CALLER, tracestate="a=1"))

    assert (CALLER, "a=1") == (event.traceparent, event.tracestate)


def test_a_cloudevent_of_our_sdk_is_kept_as_it_is():
    """An envelope that has everything comes out as it went in."""
    event = structured(
        source="/experiments/exp-42/runs/r9",
        type="state_enter",
        time="2026-11-20T17:38:28.606955Z",
        experimentid="exp-42",
        runid="r9",
        attempt=2,
        parentrunid="r8",
        emitter="0123456789abcdef",
        sequence="00000000000000000007",
        resumed=True,
    )

    again = parse(event.encode())

    assert ("r9", 2, "r8", "0123456789abcdef", 7) == (
        again.run, again.attempt, again.parent_run, again.emitter, again.number,
    )  # fmt: skip
    assert b'"resumed":true' in event.encode()


def test_a_strangers_cloudevent_gets_what_it_lacks():
    """Experiment and run are filled in from the request, and everything of its own is kept."""
    event = structured(HERE, subject="s", dataschema="urn:schema", data=...)

    assert (ID, "urn:x", "exp-42", "r1", "s", b"null") == (
        event.id, event.source, event.experiment, event.run, event.subject, bytes(event.data),
    )  # fmt: skip
    assert b'"dataschema":"urn:schema"' in event.encode()
    assert event.emitter is event.sequence is None


def test_a_strangers_run_comes_from_its_source():
    """Without a run, events of one CloudEvents source are one run."""
    assert source_run("e", "urn:x") == structured(Origin(experiment="e")).run
    assert source_run("e", "header") == structured(Origin(experiment="e", source="header")).run


def test_cloudevents_that_name_their_own_experiment():
    """On /v1/events a CloudEvent's own experiment counts, made to fit, else the reserved one."""
    assert "exp-7" == structured(ANYWHERE, experimentid="exp-7").experiment
    assert ("a%0Ab", "x%20y") == (
        (event := structured(ANYWHERE, experimentid="a\nb", type="x y")).experiment,
        event.type,
    )
    assert "~" == structured(ANYWHERE, experimentid=None).experiment


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"specversion": "0.3"}, "specversion"),
        ({"specversion": ...}, "specversion"),
        ({"id": ...}, "id"),
        ({"id": ""}, "event id is empty"),
        ({"id": "x" * 256}, "at most 255"),
        ({"id": 5}, "str"),
        ({"source": ""}, "source"),
        ({"type": "x y"}, "joined by dots"),
        ({"time": "yesterday"}, "time"),
        ({"experimentid": "other"}, "was sent to 'exp-42'"),
        ({"runid": ""}, "run id is empty"),
        ({"emitter": "me", "sequence": "1"}, "16 hexadecimal digits"),
        ({"sequence": "first"}, "digits"),
        ({"attempt": -1}, "attempt"),
        ({"data_base64": "AAAA"}, "data_base64"),
        ({"loop_name": "x"}, "lower-case letters and digits"),
        ({"extension": {"an": "object"}}, "object or array"),
        ({"data": {"s": "x" * MIB}}, "more than 1,048,576 bytes"),
    ],
)
def test_what_is_no_cloudevent_is_refused_in_words(attributes, words):
    """Each fault of a CloudEvent has a sentence that names it."""
    with pytest.raises(InvalidEvent, match=words):
        structured(**attributes)


def test_an_id_that_is_no_uuid_is_made_unique():
    """Ids that only their source keeps apart become different, the same at every retry, and are still to be seen."""
    first, again = structured(id="1", dataschema="urn:s"), structured(id="1")
    others = [structured(id="2"), structured(id="1", source="urn:y"), structured(Origin(experiment="e"), id="1")]

    assert first.id == again.id
    assert 4 == len({first.id, *(other.id for other in others)})
    assert b'"dataschema":"urn:s","originalid":"1","data"' in first.encode()
    assert b"originalid" not in structured().encode()


@pytest.mark.parametrize(
    "raw", [b"42", b"[]", b"{", b'{"a":"\xff"}', b'{"data":' + b"[" * 100_000 + b"]" * 100_000 + b"}"]
)
def test_what_is_no_object_is_no_cloudevent(raw):
    """Broken bytes are refused as broken, whatever they were said to be."""
    with pytest.raises(InvalidEvent):
        cloudevent(raw, HERE, max_bytes=MIB)


def test_the_trace_context_of_the_event_counts_first():
    """The request's trace context is for events that have none."""
    own, other = (f"00-{digit * 32}-{digit * 16}-01" for digit in "ab")
    origin = Origin(experiment="exp-42", traceparent=other, tracestate="a=1")
    without, having = structured(origin), structured(origin, traceparent=own)

    assert (other, "a=1") == (without.traceparent, without.tracestate)
    assert (own, None) == (having.traceparent, having.tracestate)


@given(
    st.dictionaries(
        st.text(max_size=8), st.recursive(st.none() | st.integers() | st.text(max_size=5), st.lists, max_leaves=5)
    )
)
def test_any_object_is_an_event(data):
    """On /v1/events any JSON object is taken, and means the same afterwards."""
    event = plain(msgspec.json.encode(data), ANYWHERE)

    assert data == json.loads(slice_data(parse(event.encode()).encode()))
