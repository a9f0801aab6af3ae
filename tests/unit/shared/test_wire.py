"""Events as messages, and any message as an event."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopcast.broker.interface import Delivery, HeaderValue, Message
from loopcast.errors import InvalidEvent
from loopcast.events import Event, format_time, parse, slice_data
from loopcast.routing import NOWHERE, check_experiment, routing_key
from loopcast.wire import from_delivery, to_message


def event(**changes: object) -> Event:
    fields: dict[str, object] = {
        "id": "0190",
        "source": "/experiments/exp-42/runs/r1",
        "type": "state_enter",
        "experiment": "exp-42",
        "run": "r1",
        "attempt": 2,
        "recorded_time": format_time(1_760_000_000_123_456),
        "emitter": "00112233aabbccdd",
        "sequence": "00000000000000000017",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "data": msgspec.Raw(b'{"event":"state_enter","state":"plan"}'),
    }
    return Event(**{**fields, **changes})  # type: ignore[arg-type]


def delivered(message: Message) -> Delivery:
    return Delivery(
        tag=1,
        routing_key=message.routing_key,
        body=message.body,
        message_id=message.message_id,
        type=message.type,
        headers=message.headers,
        content_type=message.content_type,
        app_id=message.app_id,
        timestamp=message.timestamp,
    )


def stranger(body: bytes, **properties: object) -> Delivery:
    return Delivery(**{"tag": 1, "routing_key": "exp-42.note", "body": body, **properties})  # type: ignore[arg-type]


def data(read: Event) -> object:
    return json.loads(bytes(read.data))


def test_what_routes_or_deduplicates_stands_in_the_headers() -> None:
    """A message carries the true id, the repeat key, the partition and the filter value beside its body."""
    message = to_message(event(experiment="exp.*"), 3)

    assert "exp%2E%2A.state_enter" == message.routing_key
    assert {
        "experiment": "exp.*",
        "run": "r1",
        "attempt": 2,
        "emitter": "00112233aabbccdd",
        "sequence": 17,
        "recorded": 1_760_000_000_123_456,
        "partition": 3,
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "x-stream-filter-value": "exp%2E%2A",
    } == message.headers
    assert ("loopcast", "application/cloudevents+json", "state_enter", "0190", 1_760_000_000) == (
        message.app_id,
        message.content_type,
        message.type,
        message.message_id,
        message.timestamp,
    )


def test_what_is_not_known_has_no_header() -> None:
    """An event that nobody numbered and no producer took has neither a number nor a time in its headers."""
    bare = event(attempt=0, recorded_time=None, emitter=None, sequence=None, traceparent=None)

    assert {"experiment", "run", "partition", "x-stream-filter-value"} == set(to_message(bare, 0).headers)


@pytest.mark.parametrize("sequence", ["9" * 20, "9223372036854775808"])
def test_a_number_beyond_63_bits_is_not_half_a_repeat_key(sequence: str) -> None:
    """What a field table cannot hold is left out together with its emitter."""
    headers = to_message(event(sequence=sequence), 0).headers

    assert not {"emitter", "sequence"} & set(headers)


@pytest.mark.parametrize("id_", ["", "x" * 256, "é" * 128])
def test_an_id_that_amqp_cannot_carry_is_refused(id_: str) -> None:
    """A message id has at most 255 bytes, and an event without one could not be deduplicated."""
    with pytest.raises(InvalidEvent, match="1 to 255 bytes"):
        to_message(event(id=id_), 0)


@pytest.mark.parametrize("name", ["traceparent", "tracestate"])
def test_a_long_trace_context_stays_in_the_body_only(name: str) -> None:
    """Headers share one frame, so what is absurdly long is not among them."""
    message = to_message(event(**{"tracestate": "a=1", name: "0" * 200_000}), 0)

    assert name not in message.headers
    assert "0" * 200_000 == getattr(parse(message.body), name)


def test_a_trace_context_is_in_the_headers_and_comes_back() -> None:
    """Both halves travel beside the body, ours and a stranger's alike."""
    message = to_message(event(tracestate="rojo=00f067aa0ba902b7"), 0)
    theirs = from_delivery(stranger(b"{}", headers={**message.headers, "tracestate": "a=1"}))

    assert "rojo=00f067aa0ba902b7" == message.headers["tracestate"] == parse(message.body).tracestate
    assert (message.headers["traceparent"], "a=1") == (theirs.traceparent, theirs.tracestate)


def test_an_event_of_ours_comes_back_as_it_was() -> None:
    """What was published is what is read, the loop's own object byte for byte."""
    sent = event(subject="a loop", extra=msgspec.Raw(b'"later":"1"'))

    assert sent == from_delivery(delivered(to_message(sent, 0)))


def test_our_name_on_a_strangers_body_is_read_as_a_strangers() -> None:
    """`app_id` alone makes no envelope."""
    read = from_delivery(stranger(b"hello", app_id="loopcast"))

    assert {"text": "hello"} == data(read)


def test_a_strangers_cloudevent_is_read() -> None:
    """Structured mode needs only what CloudEvents asks for; what we do not know passes through."""
    body = {
        "specversion": "1.0",
        "id": "e1",
        "source": "/ci",
        "type": "build.done",
        "time": "2026-11-20T18:00:00+01:00",
        "later": "x",
        "data": {"ok": True},
    }

    read = from_delivery(stranger(json.dumps(body, indent=2).encode(), content_type="application/cloudevents+json"))

    assert ("e1", "/ci", "build.done", "2026-11-20T17:00:00.000000Z", "exp-42") == (
        read.id,
        read.source,
        read.type,
        read.time,
        read.experiment,
    )
    assert b'"later":"x"' == bytes(read.extra)  # type: ignore[arg-type]
    assert b'{"ok":true}' == slice_data(read.encode()).replace(b" ", b"")
    assert read == parse(read.encode())


@pytest.mark.parametrize("prefix", ["ce-", "ce_", "cloudEvents_", "cloudEvents:"])
def test_binary_mode_is_read_with_each_prefix(prefix: str) -> None:
    """Attributes in the headers and data in the body are an event, whichever custom the sender keeps."""
    headers = {f"{prefix}{n}": v for n, v in {"specversion": "1.0", "id": "e1", "source": "/ci", "type": "b.c"}.items()}

    read = from_delivery(stranger(b'{"ok":true}', headers=headers, content_type="application/json"))

    understood = prefix != "ce_"
    assert (("e1", "/ci", "b.c") == (read.id, read.source, read.type)) is understood
    assert {"ok": True} == data(read)


def test_plain_json_is_its_own_data() -> None:
    """A bare loop event names its type, its time and its experiment as the loop does."""
    body = b'{"event":"state_enter","ts":"2026-11-20T17:00:00","experiment_id":7,"state":"plan"}'

    read = from_delivery(stranger(body, routing_key="events"))

    assert ("state_enter", "2026-11-20T17:00:00.000000Z", "7") == (read.type, read.time, read.experiment)
    assert body == bytes(read.data)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"hello", {"text": "hello"}),
        (b"", {"text": ""}),
        (b"[1,2]", {"text": "[1,2]"}),
        (b"\xff\x00", {"base64": "/wA="}),
        (b'{"a":NaN}', {"text": '{"a":NaN}'}),
        (b'{"a":"\xff"}', {"base64": "eyJhIjoi/yJ9"}),
        (b"[" * 100_000, {"text": "[" * 100_000}),
    ],
)
def test_anything_else_is_its_text_or_base64(body: bytes, expected: object) -> None:
    """What is no JSON object is wrapped in one, as type `message`."""
    read = from_delivery(stranger(body))

    assert ("message", expected) == (read.type, data(read))


def test_data_that_is_no_object_is_wrapped() -> None:
    """`data` of a CloudEvent may be anything, or base64; here it is always an object."""
    envelope = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}

    plain = from_delivery(stranger(json.dumps(envelope | {"data": [1]}).encode()))
    binary = from_delivery(stranger(json.dumps(envelope | {"data_base64": "AAA="}).encode()))

    assert ({"value": [1]}, {"base64": "AAA="}) == (data(plain), data(binary))


def test_the_routing_key_says_whose_it_is() -> None:
    """A stranger who may publish to one experiment's keys cannot put an event into another experiment."""
    forged = from_delivery(stranger(b'{"experiment_id":"exp-1"}', headers={"experiment": "exp-1"}))
    escaped = from_delivery(stranger(b"{}", routing_key="exp%2E1.note"))

    assert ("exp-42", "exp.1") == (forged.experiment, escaped.experiment)


@pytest.mark.parametrize("key", ["", "noword", ".a", "~.a", "%FF.a", "%0A.a"])
def test_a_key_that_names_no_experiment_is_nowhere(key: str) -> None:
    """Without an experiment to be found, the event is seen by global viewers only."""
    assert NOWHERE == from_delivery(stranger(b"{}", routing_key=key)).experiment


def test_a_hashed_word_is_known_by_its_header() -> None:
    """An id too long for its word is read from the header, if the word is really its own."""
    long = "é" * 120
    key = routing_key(long, "note")

    assert long == from_delivery(stranger(b"{}", routing_key=key, headers={"experiment": long})).experiment
    assert long != from_delivery(stranger(b"{}", routing_key=key, headers={"experiment": "x" + long})).experiment


def test_a_stranger_has_no_number() -> None:
    """A forged repeat key would make readers drop somebody else's events."""
    body = event().encode()

    read = from_delivery(stranger(body))

    assert (None, None) == (read.emitter, read.sequence)


def test_the_same_message_is_the_same_event_for_every_reader() -> None:
    """An id that has to be made up comes from the message and its place alone."""
    first, again, later = (from_delivery(stranger(b"hello", offset=n)) for n in (1, 1, 2))

    assert first == again
    assert first.id != later.id


scalars: st.SearchStrategy[HeaderValue] = st.none() | st.booleans() | st.integers() | st.text(max_size=20)
names = st.sampled_from(
    [p + a for p in ("ce-", "cloudEvents_", "cloudEvents:", "") for a in (
        "specversion", "id", "source", "type", "time", "subject", "experimentid", "runid", "parentrunid", "traceparent",
        "data", "later", "experiment", "run", "sequence", "emitter", "recordedtime",
    )]
) | st.text(max_size=10)  # fmt: skip
json_values = st.recursive(
    scalars | st.floats(allow_nan=False, allow_infinity=False), lambda v: st.lists(v) | st.dictionaries(names, v)
)
bodies = st.binary() | json_values.map(lambda v: json.dumps(v, indent=1).encode("utf-8", "surrogatepass"))
text = st.text(max_size=40)


@given(
    st.builds(
        Delivery,
        tag=st.just(1),
        routing_key=text | st.sampled_from(["exp.note", "a%2Eb.c", "~.x", "%.x"]),
        body=bodies,
        message_id=text,
        type=text,
        headers=st.dictionaries(names, scalars),
        content_type=text | st.just("application/cloudevents+json"),
        app_id=st.sampled_from(["", "loopcast", "x"]),
        timestamp=st.integers(0, 2**64 - 1),
        offset=st.integers(-1, 2**40),
    )
)
@settings(max_examples=500)
def test_any_message_is_an_event(delivery: Delivery) -> None:
    """Whatever a stranger publishes becomes an event of the grammar, on one line, with an object as its data."""
    read = from_delivery(delivery)

    encoded = read.encode()
    assert b"\n" not in encoded
    assert isinstance(json.loads(encoded), dict)
    if delivery.app_id != "loopcast":
        assert isinstance(data(read), dict)
        assert "%" in read.type or read == parse(encoded)
    assert read.experiment in (NOWHERE, check_experiment(read.experiment))
    assert read.type.isascii()
    to_message(read, 0)
