"""What a broker says, in bytes: captured from RabbitMQ 3.10.8 and 4.0.5 (the same from both), or made alike."""

import struct

import pytest
from pamqp import commands, frame

from loopcast.amqp.fields import encode_table

CAPTURED = (
    b"\x01\x00\x01\x00\x00\x00-\x00<\x00<\x02ct\x00\x00\x00\x00\x00\x00\x00\x01\x00\tamq.topic\x12exp-42.state_enter\xce"
    b"\x02\x00\x01\x00\x00\x01-\x00<\x00\x00\x00\x00\x00\x00\x00\x00\x00\x05\xb0\xe8\x1capplication/cloudevents+json"
    b"\x00\x00\x00\xd9\x07attemptb\x01\x01bt\x01\x03bigl\x00\x00\x01\x00\x00\x00\x00\x00\x07emitterS\x00\x00\x00\x10"
    b"00ff00ff00ff00ff\nexperimentS\x00\x00\x00\x06exp-42\x03negb\xfd\tpartitionb\x00\x08recordedl\x00\x06@\xb5\xee"
    b"\xce\x00\x00\x03runS\x00\x00\x00\x02r1\x08sequenceS\x00\x00\x00\x1400000000000000000007\x15x-stream-filter-value"
    b"S\x00\x00\x00\x06exp-42\x0fx-stream-offsetl\x00\x00\x00\x00\x00\x00\x00\x07\x02\x060190-0\x00\x00\x00\x00k\x00"
    b"\xab\x88\x0bstate_enter\x08loopcast\xce"
    b"\x03\x00\x01\x00\x00\x00\x05hello\xce"
)

CAPTURED_HEADERS = {
    "attempt": 1,
    "b": True,
    "big": 2**40,
    "emitter": "00ff00ff00ff00ff",
    "experiment": "exp-42",
    "neg": -3,
    "partition": 0,
    "recorded": 1760000000000000,
    "run": "r1",
    "sequence": "00000000000000000007",
    "x-stream-filter-value": "exp-42",
}

CAPTURED_RETURN = (
    b"\x01\x00\x01\x00\x00\x00#\x00<\x002\x018\x08NO_ROUTE\tamq.topic\tnowhere.x\xce"
    b"\x02\x00\x01\x00\x00\x00(\x00<\x00\x00\x00\x00\x00\x00\x00\x00\x00\x05\xa0\x80\x04a/bc"
    b"\x00\x00\x00\x0d\x0aexperimentt\x01\x03ret\xce"
    b"\x03\x00\x01\x00\x00\x00\x05hello\xce"
)


def short(raw):
    return bytes((len(raw),)) + raw


class Says:
    """The broker's words."""

    captured = CAPTURED
    """A delivery from a stream, offset 7, of an event with `captured_headers`."""
    captured_headers = CAPTURED_HEADERS
    captured_return = CAPTURED_RETURN
    heartbeat = b"\x08\x00\x00\x00\x00\x00\x00\xce"
    blocked = frame.marshal(commands.Connection.Blocked("low on memory"), 0)

    def method(self, method, channel=1):
        return frame.marshal(method, channel)

    def frame(self, kind, channel, payload):
        return struct.pack(">BHI", kind, channel, len(payload)) + payload + b"\xce"

    def ack(self, tag, multiple=False):
        return self.frame(1, 1, struct.pack(">HHQB", 60, 80, tag, multiple))

    def nack(self, tag, multiple=False):
        return self.frame(1, 1, struct.pack(">HHQB", 60, 120, tag, 2 | multiple))

    def deliver(self, tag, routing_key=b"a.b", redelivered=False):
        """The method alone."""
        payload = b"\x00\x3c\x00\x3c" + short(b"loopcast") + struct.pack(">QB", tag, redelivered)
        return self.frame(1, 1, payload + short(b"loopcast.events") + short(routing_key))

    def header(self, flags, properties, size=0):
        return self.frame(2, 1, struct.pack(">HHQH", 60, 0, size, flags) + properties)

    def content(self, body, *, message_id=b"id", headers=None, offset=None, frame_max=131072):
        table = encode_table({} if headers is None else headers)[4:]
        if offset is not None:
            table += b"\x0fx-stream-offsetl" + struct.pack(">q", offset)
        properties = struct.pack(">I", len(table)) + table + short(message_id)
        size = frame_max - 8
        parts = [self.frame(3, 1, body[n : n + size]) for n in range(0, len(body), size)]
        return self.header(0x2080, properties, len(body)) + b"".join(parts)

    def delivery(self, tag, body=b"hello", *, routing_key=b"a.b", redelivered=False, **rest):
        return self.deliver(tag, routing_key, redelivered) + self.content(body, **rest)

    def returned(self, message_id, *, exchange=b"loopcast.events", routing_key=b"a.b", body=b"hello"):
        payload = b"\x00\x3c\x00\x32" + struct.pack(">H", 312) + short(b"NO_ROUTE")
        return self.frame(1, 1, payload + short(exchange) + short(routing_key)) + self.content(
            body, message_id=message_id
        )


@pytest.fixture(scope="session")
def says():
    """What the broker says."""
    return Says()
