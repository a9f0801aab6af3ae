"""What goes out for a message: the bytes themselves, and what another library reads of them."""

import datetime as dt

import pytest
from pamqp import frame
from pamqp.body import ContentBody

from loopcast.amqp.publishing import Encoder
from loopcast.broker.interface import Message


def message(**changes):
    return Message(
        **{
            "exchange": "loopcast.events",
            "routing_key": "exp-42.state_enter",
            "body": b"hello",
            "message_id": "0190-1",
            "type": "state_enter",
            "headers": {"experiment": "exp-42", "sequence": 7},
            "content_type": "application/cloudevents+json",
            "app_id": "loopcast",
            "timestamp": 1760000000,
            **changes,
        }
    )


def encoded(message, frame_max=131072):
    return b"".join(Encoder(frame_max).encode(message))


def frames(raw):
    """What pamqp reads."""
    found = []
    while raw:
        size, channel, value = frame.unmarshal(raw)
        assert 1 == channel
        found.append(value)
        raw = raw[size:]
    return found


def test_golden_publish():
    """The three frames of a message, byte for byte (AMQP 0-9-1, 4.2.3, 4.2.6 and class basic)."""
    assert (
        # basic.publish: exchange, routing key, mandatory
        b"\x01\x00\x01\x00\x00\x00\x2a\x00\x3c\x00\x28\x00\x00\x0floopcast.events\x12exp-42.state_enter\x01\xce"
        # the header: body size, which properties, content type, headers, persistent, id, time, type, application
        b"\x02\x00\x01\x00\x00\x00\x7c\x00\x3c\x00\x00\x00\x00\x00\x00\x00\x00\x00\x05\xb0\xe8"
        b"\x1capplication/cloudevents+json"
        b"\x00\x00\x00\x28\x0aexperimentS\x00\x00\x00\x06exp-42\x08sequencel\x00\x00\x00\x00\x00\x00\x00\x07"
        b"\x02\x060190-1\x00\x00\x00\x00\x68\xe7\x78\x00\x0bstate_enter\x08loopcast\xce"
        # the body
        b"\x03\x00\x01\x00\x00\x00\x05hello\xce"
    ) == encoded(message())


def test_another_library_reads_it():
    """The library pamqp finds every property where it belongs."""
    publish, header, body = frames(encoded(message()))

    assert ("loopcast.events", "exp-42.state_enter", True, False) == (
        publish.exchange,
        publish.routing_key,
        publish.mandatory,
        publish.immediate,
    )
    properties = header.properties
    assert 5 == header.body_size
    assert "application/cloudevents+json" == properties.content_type
    assert {"experiment": "exp-42", "sequence": 7} == properties.headers
    assert 2 == properties.delivery_mode
    assert "0190-1" == properties.message_id
    assert dt.datetime.fromtimestamp(1760000000, dt.UTC) == properties.timestamp
    assert "state_enter" == properties.message_type
    assert "loopcast" == properties.app_id
    assert b"hello" == body.value


def test_what_a_message_does_not_have_is_left_out():
    """An empty property is absent, not empty: consumers of others see no content type ``''``."""
    _, header, _ = frames(encoded(message(type="", content_type="", app_id="", timestamp=0, headers=None)))

    assert header.properties.content_type is None
    assert header.properties.timestamp is None
    assert header.properties.message_type is None
    assert header.properties.app_id is None
    assert {} == header.properties.headers
    assert "0190-1" == header.properties.message_id


def test_an_empty_body_has_no_frame():
    """A content of 0 bytes ends with its header (AMQP 0-9-1, 4.2.6.1)."""
    assert 2 == len(frames(encoded(message(body=b""))))


@pytest.mark.parametrize("size", [4088, 4089, 8176, 8177, 20000])
def test_a_body_is_split_over_frame_max(size):
    """No frame is larger than was agreed on, and the parts are the body."""
    body = bytes(n % 251 for n in range(size))

    _, header, *parts = frames(encoded(message(body=body), frame_max=4096))

    assert size == header.body_size
    assert all(isinstance(part, ContentBody) and len(part.value) <= 4088 for part in parts)
    assert body == b"".join(part.value for part in parts)
    assert -(-size // 4088) == len(parts)


def test_what_is_kept_between_messages_does_not_leak_into_others():
    """Every combination of route and properties comes out as if it were the first."""
    encoder = Encoder(131072)
    messages = [
        message(routing_key=key, exchange=exchange, type=type_, app_id=app_id, timestamp=timestamp)
        for key in ("a.b", "a.c")
        for exchange in ("", "x")
        for type_ in ("", "b", "loopcast")
        for app_id in ("", "b", "loopcast")
        for timestamp in (0, 5)
    ]

    for again in range(2):
        for m in messages:
            assert encoded(m) == b"".join(encoder.encode(m)), again


def test_what_is_kept_is_bounded():
    """Routing keys and types come from outside, so they must not fill the memory."""
    encoder = Encoder(131072)
    for n in range(20000):
        encoder.encode(message(routing_key=f"e.{n}", type=f"t{n}"))

    assert len(encoder._methods) <= 8192
    assert len(encoder._shapes) <= 8192


@pytest.mark.parametrize(
    "changes",
    [
        {"routing_key": "k" * 256},
        {"exchange": "x" * 256},
        {"message_id": "i" * 256},
        {"type": "t" * 256},
        {"content_type": "c" * 256},
        {"message_id": "\ud800"},
        {"headers": {"h": "x" * 140000}},
        {"headers": {"h": 2**64}},
    ],
)
def test_what_does_not_fit_is_refused(changes):
    """A message that AMQP cannot carry raises before anything of it is written."""
    with pytest.raises(ValueError, match=r".+"):
        encoded(message(**changes))
