"""
From the bytes of the broker to what they say (AMQP 0-9-1, 2.3.5 and 4.2): the incremental parser, without any I/O.

Three things come by the thousand and have a short way: a delivery whose frames lie whole in the buffer, and the
broker's acknowledgements. Everything else goes frame by frame, and methods through pamqp.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

from pamqp import base

from loopcast.amqp.delivering import decode_delivery, decode_return
from loopcast.amqp.faults import CHANNEL_ERROR, FRAME_ERROR, SYNTAX_ERROR, UNEXPECTED_FRAME, Fault
from loopcast.amqp.methods import CHANNEL, FRAME_OVERHEAD, decode_method
from loopcast.broker.interface import Delivery

__all__ = ["Acknowledged", "Item", "Method", "Parser", "Returned"]

_FRAME = struct.Struct(">BHI")
_CONTENT = struct.Struct(">HHQ")
_ACK = struct.Struct(">QB")

_BASIC: Final = 60
_METHOD: Final = 1
_HEADER: Final = 2
_BODY: Final = 3
_HEARTBEAT: Final = 8
_END: Final = 0xCE
_CONTENT_HEADER: Final = (_HEADER, CHANNEL, _BASIC)

_DELIVER: Final = b"\x00\x3c\x00\x3c"
_RETURN: Final = b"\x00\x3c\x00\x32"
_ACKS: Final = (b"\x00\x3c\x00\x50", b"\x00\x3c\x00\x78")
_ACCEPTED: Final = 0x50

FIRST_FRAME_MAX = 131072
"""The bound before the peers have agreed on one (`connection.tune`); RabbitMQ's default."""


class Acknowledged(NamedTuple):
    """The broker's `basic.ack` or `basic.nack` of what was published."""

    tag: int
    multiple: bool
    accepted: bool


class Returned(NamedTuple):
    """A message that was routed nowhere (`basic.return`)."""

    code: int
    text: str
    exchange: str
    routing_key: str
    message_id: str


class Method(NamedTuple):
    """Any other method."""

    channel: int
    method: base.Frame


Item = list[Delivery] | Acknowledged | Returned | Method


class _Content:
    """A delivery or return of which not all frames are there yet."""

    __slots__ = ("chunks", "header", "left", "method")

    def __init__(self, method: bytes) -> None:
        self.method = method
        self.header = b""
        self.left = 0
        self.chunks: list[bytes] = []

    def take_header(self, payload: bytes) -> None:
        if self.header:
            raise Fault(UNEXPECTED_FRAME, "a content has two headers")
        if len(payload) < 14:
            raise Fault(SYNTAX_ERROR, "a content header ends too early")
        class_id, _, self.left = _CONTENT.unpack_from(payload)
        if class_id != _BASIC:
            raise Fault(SYNTAX_ERROR, f"a content is of class {class_id}, and only basic has contents")
        self.header = payload

    def take_body(self, payload: bytes) -> None:
        if not self.header:
            raise Fault(UNEXPECTED_FRAME, "a content has no header")
        if len(payload) > self.left:
            raise Fault(FRAME_ERROR, "a content is longer than its header said")
        self.chunks.append(payload)
        self.left -= len(payload)


class Parser:
    """Takes bytes, cut anywhere, and gives items in the order of the wire, until a fault."""

    def __init__(self) -> None:
        self.fault: Fault | None = None
        """Where the peer broke the protocol; nothing behind that is read."""
        self._payload_max = FIRST_FRAME_MAX - FRAME_OVERHEAD
        self._chunks: list[bytes] = []
        self._size = 0
        self._needed = FRAME_OVERHEAD
        self._content: _Content | None = None
        self._items: list[Item] = []
        self._deliveries: list[Delivery] = []

    def limit(self, frame_max: int) -> None:
        """Hold the peer to frames of `frame_max` bytes from here on."""
        self._payload_max = frame_max - FRAME_OVERHEAD

    def feed(self, data: bytes) -> Sequence[Item]:
        """Read what `data` completes. All deliveries in it come as one item, in the place of the first."""
        if self.fault is not None:
            return ()
        self._chunks.append(data)
        self._size += len(data)
        # A large frame comes in many reads: joining them at each would copy it as many times.
        if self._size < self._needed:
            return ()
        buffer = data if len(self._chunks) == 1 else b"".join(self._chunks)
        self._items, self._deliveries = [], []
        try:
            rest = buffer[self._parse(buffer) :]
        except Fault as fault:
            self.fault = fault
            rest = b""
        self._chunks = [rest] if rest else []
        self._size = len(rest)
        return self._items

    def _parse(self, buffer: bytes) -> int:
        """Read all whole frames of `buffer`, and return where the first begins that is not whole."""
        position, length = 0, len(buffer)
        self._needed = FRAME_OVERHEAD
        while position + FRAME_OVERHEAD <= length:
            kind, channel, size = _FRAME.unpack_from(buffer, position)
            start, end = position + 7, position + 7 + size
            if end >= length or channel > CHANNEL or size > self._payload_max or buffer[end] != _END:
                self._check(buffer, position, end)
                self._needed = size + FRAME_OVERHEAD
                break
            position = end + 1
            if kind != _METHOD:
                self._other(kind, channel, buffer[start:end])
            elif channel and self._content is None and buffer.startswith(_DELIVER, start):
                position = self._deliver(buffer, start, end)
            elif buffer.startswith(_ACKS, start):
                self._acknowledged(channel, buffer[start:end])
            else:
                self._method(channel, buffer[start:end])
        return position

    def _check(self, buffer: bytes, position: int, end: int) -> None:
        """Find the fault of a frame that is not whole, or unlike a frame, as soon as it can be known."""
        kind, channel, size = _FRAME.unpack_from(buffer, position)
        if kind not in (_METHOD, _HEADER, _BODY, _HEARTBEAT):
            if buffer.startswith(b"AMQP", position):
                raise Fault(FRAME_ERROR, "the peer speaks another version of AMQP")
            raise Fault(FRAME_ERROR, f"frames of type {kind} do not exist")
        if channel > CHANNEL:
            raise Fault(CHANNEL_ERROR, f"channel {channel} is not open")
        if size > self._payload_max:
            limit = self._payload_max + FRAME_OVERHEAD
            raise Fault(FRAME_ERROR, f"a frame has {size + FRAME_OVERHEAD} bytes, and {limit} were agreed on")
        if end < len(buffer):
            raise Fault(FRAME_ERROR, "a frame has no end mark")

    def _deliver(self, buffer: bytes, start: int, end: int) -> int:
        """
        Read a delivery whose method lies between `start` and `end`, and return where the next frame begins.

        Where the content is not whole, or not in one body frame, or anything about it is odd, only the method is read:
        what comes then goes frame by frame.
        """
        method = buffer[start:end]
        header = end + 8
        if header + 12 <= len(buffer):
            kind, channel, size = _FRAME.unpack_from(buffer, end + 1)
            left: int
            class_id, _, left = _CONTENT.unpack_from(buffer, header)
            body: int = header + size + 8
            stop = body + left
            if (
                0 < left <= self._payload_max
                and size <= self._payload_max
                and stop < len(buffer)
                and (kind, channel, class_id) == _CONTENT_HEADER
                and buffer[body - 8] == _END
                and buffer[stop] == _END
                and _FRAME.unpack_from(buffer, body - 7) == (_BODY, CHANNEL, left)
            ):
                self._delivered(decode_delivery(method, buffer[header : body - 8], buffer[body:stop]))
                return stop + 1
        self._content = _Content(method)
        return end + 1

    def _delivered(self, delivery: Delivery) -> None:
        if not self._deliveries:
            self._items.append(self._deliveries)
        self._deliveries.append(delivery)

    def _acknowledged(self, channel: int, payload: bytes) -> None:
        if len(payload) != 13:
            raise Fault(SYNTAX_ERROR, "an acknowledgement has the wrong length")
        if not channel or self._content is not None:
            raise Fault(UNEXPECTED_FRAME, "an acknowledgement came in the wrong place")
        tag, bits = _ACK.unpack_from(payload, 4)
        self._items.append(Acknowledged(tag, bits & 1 != 0, payload[3] == _ACCEPTED))

    def _method(self, channel: int, payload: bytes) -> None:
        if channel and self._content is not None:
            raise Fault(UNEXPECTED_FRAME, "a method came inside a content")
        if payload.startswith((_DELIVER, _RETURN)):
            if not channel:
                raise Fault(UNEXPECTED_FRAME, "a content was announced outside the channel")
            self._content = _Content(payload)
        else:
            self._items.append(Method(channel, decode_method(payload)))

    def _other(self, kind: int, channel: int, payload: bytes) -> None:
        """Read what is no method: a heartbeat, or a part of a content."""
        if kind == _HEARTBEAT:
            if channel or payload:
                raise Fault(FRAME_ERROR, "a heartbeat has a channel or a payload")
            return
        if kind not in (_HEADER, _BODY):
            raise Fault(FRAME_ERROR, f"frames of type {kind} do not exist")
        content = self._content
        if content is None or not channel:
            raise Fault(UNEXPECTED_FRAME, "a content came that nothing announced")
        if kind == _HEADER:
            content.take_header(payload)
        else:
            content.take_body(payload)
        if not content.left:
            self._complete(content)

    def _complete(self, content: _Content) -> None:
        self._content = None
        if content.method.startswith(_DELIVER):
            self._delivered(decode_delivery(content.method, content.header, b"".join(content.chunks)))
        else:
            self._items.append(Returned(*decode_return(content.method, content.header)))
