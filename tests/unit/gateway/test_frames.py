"""Bytes on the wire, read back by an independent WebSocket library."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Close, Opcode
from websockets.protocol import CLIENT, OPEN
from websockets.protocol import Protocol as Parser

from loopcast_gateway import close_codes
from loopcast_gateway.close_codes import CLOSE_CODES, CloseCode, reconnects
from loopcast_gateway.frames import CHUNK_BYTES, close_frame, event_frame, join, text_frame


def received(data):
    """The frames that a client reads out of `data`."""
    parser = Parser(CLIENT, state=OPEN, max_size=None)
    parser.receive_data(data)
    assert parser.parser_exc is None
    return parser.events_received()


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 70000])
def test_a_text_frame_of_any_size_is_read_back(size):
    """At each border of RFC 6455's three lengths, a client reads what was sent."""
    [frame] = received(text_frame(b"x" * size))

    assert (Opcode.TEXT, True, b"x" * size) == (frame.opcode, frame.fin, bytes(frame.data))


@given(
    st.binary(max_size=300).map(lambda b: json.dumps(b.hex()).encode()), st.booleans(), st.none() | st.integers(0, 254)
)
def test_an_event_frame_is_json_around_the_same_bytes(data, replay, partition):
    """The envelope stands in the frame byte for byte, and the frame is an object with its position and marks."""
    envelope = b'{"id":"1","data":' + data + b"}"
    [frame] = received(event_frame("0" * 26, envelope, replay=replay, partition=partition))
    text = bytes(frame.data)
    found = json.loads(text)

    assert text.endswith(b',"event":' + envelope + b"}")
    assert ("event", "0" * 26) == (found["type"], found["pos"])
    assert (replay, partition) == (found.get("replay", False), found.get("p"))


@given(st.lists(st.integers(0, CHUNK_BYTES + 10), max_size=12))
def test_joined_frames_are_the_same_bytes_in_bounded_chunks(sizes):
    """Joining changes nothing but the cuts: no chunk is over the bound unless it is one frame."""
    frames = [bytes([n % 256]) * size for n, size in enumerate(sizes)]
    chunks = join(frames)

    assert b"".join(frames) == b"".join(chunks)
    assert all(len(chunk) <= CHUNK_BYTES or chunk in frames for chunk in chunks)
    assert len(chunks) <= len(frames)


@pytest.mark.parametrize("code", CLOSE_CODES.values(), ids=str)
def test_each_close_code_can_be_sent(code):
    """Every code of the registry makes a close frame that a client reads, code and reason."""
    [frame] = received(close_frame(code))

    assert Close(code.code, code.reason) == Close.parse(bytes(frame.data))


def test_a_long_reason_is_cut_to_a_control_frame():
    """A control frame has 125 bytes at most (RFC 6455, 5.5)."""
    [frame] = received(close_frame(CloseCode(4000, "x" * 200, "")))

    assert 125 == len(bytes(frame.data))


def test_the_ranges_say_who_comes_back():
    """4000-4499 come back and 4500-4999 do not, so does the restart, and a client that closed itself stays away."""
    named = {name: code for name, code in vars(close_codes).items() if isinstance(code, CloseCode)}

    assert {code.code for code in named.values()} == set(CLOSE_CODES)
    assert all(reconnects(code) for code in (4000, 4008, 4499, 1001, 1006, 1011, 1012, 1013))
    assert not any(reconnects(code) for code in (4500, 4509, 4999, 1000, 1002, 1007, 1008, 1009))
