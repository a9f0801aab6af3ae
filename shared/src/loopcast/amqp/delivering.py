"""
From the frames of a delivery to a :class:`~loopcast.broker.interface.Delivery` (AMQP 0-9-1, 4.2.6 and class basic).

The properties of our own messages are always the same seven, so they are read in one straight line; whatever a stranger
sends is read by the table of the fields. Text that is no UTF-8 reads with replacement characters: a stranger's message
must not end the connection of everybody who reads.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final

from loopcast.amqp.faults import SYNTAX_ERROR, Fault
from loopcast.amqp.fields import Headers, decode_table
from loopcast.broker.interface import Delivery, HeaderValue

__all__ = ["Properties", "decode_delivery", "decode_properties", "decode_return"]

_TAG = struct.Struct(">QB")
_U16 = struct.Struct(">H")
_U32 = struct.Struct(">I")
_U64 = struct.Struct(">Q")
_I64 = struct.Struct(">q")

_OURS: Final = b"\xb0\xe8"
"""Flags: content type, headers, delivery mode, message id, timestamp, type, app id."""

# RabbitMQ puts the offset behind the publisher's headers, on 3.10 and 4.x alike.
_OFFSET_NAME: Final = b"x-stream-offset"
_OFFSET: Final = b"\x0f" + _OFFSET_NAME + b"l"
_OFFSET_BYTES: Final = len(_OFFSET) + 8

_KEPT = 16384
_texts: dict[bytes, str] = {}
_routing_keys: dict[bytes, str] = {}

Properties = tuple[str, bytes, str, int, str, str]
"""Content type, raw headers, message id, timestamp, type, app id."""


def decode_delivery(method: bytes, header: bytes, body: bytes) -> Delivery:
    """
    Make a delivery of the payloads of its frames.

    Raises:
        Fault: a field reaches over the end of its frame.
    """
    try:
        start = 5 + method[4]
        tag, redelivered = _TAG.unpack_from(method, start)
        start += 9
        routing_key = _routing_keys.get(method[start:]) or _routing_key(method[start:])
    except (IndexError, struct.error):
        raise Fault(SYNTAX_ERROR, "a basic.deliver ends too early") from None
    content_type, table, message_id, timestamp, type_, app_id = decode_properties(header)
    headers: Mapping[str, HeaderValue]
    if table[-_OFFSET_BYTES:-8] == _OFFSET:
        offset: int = _I64.unpack_from(table, len(table) - 8)[0]
        headers = Headers(table[:-_OFFSET_BYTES])
    elif _OFFSET_NAME in table:
        offset, headers = _search_offset(table)
    else:
        offset, headers = -1, Headers(table)
    return Delivery(
        tag=tag,
        routing_key=routing_key,
        body=body,
        message_id=message_id,
        type=type_,
        headers=headers,
        content_type=content_type,
        app_id=app_id,
        timestamp=timestamp,
        redelivered=redelivered != 0,
        offset=offset,
    )


def _search_offset(table: bytes) -> tuple[int, Mapping[str, HeaderValue]]:
    headers = decode_table(table)
    offset = headers.pop("x-stream-offset", None)
    return offset if isinstance(offset, int) else -1, headers


def decode_return(method: bytes, header: bytes) -> tuple[int, str, str, str, str]:
    """
    Read a `basic.return`: reply code, reply text, exchange, routing key, message id.

    Raises:
        Fault: a field reaches over the end of its frame.
    """
    try:
        code: int = _U16.unpack_from(method, 4)[0]
        texts = []
        position = 6
        for _ in range(3):
            start = position + 1
            position = start + method[position]
            texts.append(method[start:position].decode("utf-8", "replace"))
    except (IndexError, struct.error):
        raise Fault(SYNTAX_ERROR, "a basic.return ends too early") from None
    if position != len(method):
        raise Fault(SYNTAX_ERROR, "a basic.return has the wrong length")
    reply, exchange, routing_key = texts
    return code, reply, exchange, routing_key, decode_properties(header)[2]


def decode_properties(header: bytes) -> Properties:
    """
    Read the payload of a content header.

    Raises:
        Fault: a field reaches over the end of the frame, or something is left behind the last.
    """
    try:
        if header[12:14] == _OURS:
            properties, end = _decode_ours(header)
        else:
            properties, end = _decode_any(header)
    except (IndexError, struct.error):
        raise Fault(SYNTAX_ERROR, "a content header ends too early") from None
    if end != len(header):
        raise Fault(SYNTAX_ERROR, "a content header has the wrong length")
    return properties


def _decode_ours(header: bytes) -> tuple[Properties, int]:
    end = 15 + header[14]
    content_type = header[15:end]
    start = end + 4
    end = start + _U32.unpack_from(header, end)[0]
    table = header[start:end]
    start = end + 2
    end = start + header[end + 1]
    message_id = header[start:end]
    timestamp: int = _U64.unpack_from(header, end)[0]
    start = end + 9
    end = start + header[end + 8]
    type_ = header[start:end]
    start = end + 1
    end = start + header[end]
    app_id = header[start:end]
    return (
        _texts.get(content_type) or _text(content_type),
        table,
        message_id.decode("utf-8", "replace"),
        timestamp,
        _texts.get(type_) or _text(type_),
        _texts.get(app_id) or _text(app_id),
    ), end


# The fields of class basic, in their order: the flag and how the value is laid out.
_FIELDS = (
    (0x8000, "text"),  # content type
    (0x4000, "text"),  # content encoding
    (0x2000, "table"),  # headers
    (0x1000, "octet"),  # delivery mode
    (0x0800, "octet"),  # priority
    (0x0400, "text"),  # correlation id
    (0x0200, "text"),  # reply to
    (0x0100, "text"),  # expiration
    (0x0080, "text"),  # message id
    (0x0040, "time"),  # timestamp
    (0x0020, "text"),  # type
    (0x0010, "text"),  # user id
    (0x0008, "text"),  # app id
    (0x0004, "text"),  # cluster id
)


def _decode_any(header: bytes) -> tuple[Properties, int]:
    flags: int = _U16.unpack_from(header, 12)[0]
    if flags & 3:
        raise Fault(SYNTAX_ERROR, "a content header has properties that class basic does not have")
    position = 14
    raw: dict[int, bytes] = {}
    for flag, layout in _FIELDS:
        if not flags & flag:
            continue
        start, end = _bounds(header, position, layout)
        raw[flag] = header[start:end]
        position = end
    stamp = raw.get(0x0040, b"")
    return (
        _text(raw.get(0x8000, b"")),
        raw.get(0x2000, b""),
        raw.get(0x0080, b"").decode("utf-8", "replace"),
        int.from_bytes(stamp, "big"),
        _text(raw.get(0x0020, b"")),
        _text(raw.get(0x0008, b"")),
    ), position


def _bounds(header: bytes, position: int, layout: str) -> tuple[int, int]:
    """Where the value at `position` begins and ends."""
    match layout:
        case "text":
            return position + 1, position + 1 + header[position]
        case "table":
            size: int = _U32.unpack_from(header, position)[0]
            return position + 4, position + 4 + size
        case "time":
            return position, position + 8
        case _:
            return position, position + 1


def _text(raw: bytes) -> str:
    return _keep(_texts, raw, raw)


def _routing_key(raw: bytes) -> str:
    """Read the routing key behind the exchange; both together are what is remembered."""
    start = raw[0] + 2
    end = start + raw[start - 1]
    if end != len(raw):
        raise IndexError
    return _keep(_routing_keys, raw, raw[start:end])


def _keep(kept: dict[bytes, str], raw: bytes, part: bytes) -> str:
    """Remember a text that is likely to come again; forget all when that turns out to be wrong."""
    text = part.decode("utf-8", "replace")
    if len(kept) >= _KEPT:
        kept.clear()
    kept[raw] = text
    return text
