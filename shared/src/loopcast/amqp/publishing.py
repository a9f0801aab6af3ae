"""
From messages to the bytes that publish them: `basic.publish`, content header and content body (AMQP 0-9-1, 4.2.6).

What messages have in common is encoded once and kept: the method for each exchange and routing key, the properties
around the headers for each content type, type and application. What is left for a message is its headers, its id and a
copy of its body.
"""

from __future__ import annotations

import struct

from loopcast.amqp.fields import encode_table, short_string
from loopcast.amqp.methods import CHANNEL, FRAME_OVERHEAD
from loopcast.broker.interface import Message

__all__ = ["Encoder"]

_FRAME = struct.Struct(">BHI")
_HEADER = struct.Struct(">BHIHHQH")
_BODY_AFTER = struct.Struct(">cBHI")
_TIME = struct.Struct(">Q")
_END = b"\xce"

_PUBLISH = b"\x00\x3c\x00\x28\x00\x00"
_MANDATORY = b"\x01"
_PERSISTENT = 2

# Which properties are there, in the order in which they stand (4.2.6.1; the fields of class basic).
_CONTENT_TYPE = 0x8000
_HEADERS = 0x2000
_DELIVERY_MODE = 0x1000
_MESSAGE_ID = 0x0080
_TIMESTAMP = 0x0040
_TYPE = 0x0020
_APP_ID = 0x0008

_KEPT = 8192


class Encoder:
    """Encodes for one connection, whose `frame_max` bounds the frames."""

    def __init__(self, frame_max: int) -> None:
        self._payload_max = frame_max - FRAME_OVERHEAD
        self._methods: dict[tuple[str, str], bytes] = {}
        self._shapes: dict[tuple[str, str, str], tuple[int, bytes, bytes]] = {}

    def encode(self, message: Message) -> list[bytes]:
        """
        Return the frames that publish `message`, in pieces.

        Raises:
            ValueError: a name, a text or the headers are longer than the protocol allows, or are no UTF-8.
            TypeError: a header's value is none that it may hold.
        """
        route = (message.exchange, message.routing_key)
        method = self._methods.get(route) or self._method(route)
        kind = (message.content_type, message.type, message.app_id)
        flags, head, tail = self._shapes.get(kind) or self._shape(kind)
        table = encode_table(message.headers)
        middle = bytes((_PERSISTENT,)) + short_string(message.message_id)
        if message.timestamp:
            flags |= _TIMESTAMP
            middle += _TIME.pack(message.timestamp)
        size = 14 + len(head) + len(table) + len(middle) + len(tail)
        if size > self._payload_max:
            raise ValueError(f"The headers have {size} bytes; a frame has room for {self._payload_max}.")
        body = message.body
        header = _HEADER.pack(2, CHANNEL, size, 60, 0, len(body), flags)
        if not body:
            return [method, header, head, table, middle, tail, _END]
        if len(body) <= self._payload_max:
            after = _BODY_AFTER.pack(_END, 3, CHANNEL, len(body))
            return [method, header, head, table, middle, tail, after, body, _END]
        return [method, header, head, table, middle, tail, _END, *self._split(body)]

    def _split(self, body: bytes) -> list[bytes]:
        parts: list[bytes] = []
        for start in range(0, len(body), self._payload_max):
            chunk = body[start : start + self._payload_max]
            parts += (_FRAME.pack(3, CHANNEL, len(chunk)), chunk, _END)
        return parts

    def _method(self, route: tuple[str, str]) -> bytes:
        exchange, routing_key = route
        payload = b"".join((_PUBLISH, short_string(exchange), short_string(routing_key), _MANDATORY))
        method = b"".join((_FRAME.pack(1, CHANNEL, len(payload)), payload, _END))
        if len(self._methods) >= _KEPT:
            self._methods.clear()
        self._methods[route] = method
        return method

    def _shape(self, kind: tuple[str, str, str]) -> tuple[int, bytes, bytes]:
        """Which properties a message of this kind has, and those before its headers and behind its timestamp."""
        content_type, type_, app_id = kind
        flags, head, tail = _HEADERS | _DELIVERY_MODE | _MESSAGE_ID, b"", b""
        if content_type:
            flags, head = flags | _CONTENT_TYPE, short_string(content_type)
        if type_:
            flags, tail = flags | _TYPE, short_string(type_)
        if app_id:
            flags, tail = flags | _APP_ID, tail + short_string(app_id)
        if len(self._shapes) >= _KEPT:
            self._shapes.clear()
        self._shapes[kind] = shape = (flags, head, tail)
        return shape
