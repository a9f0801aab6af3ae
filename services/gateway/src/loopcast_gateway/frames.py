"""
Bytes on the wire: WebSocket frames as a server sends them, and the event frame spliced from its parts.

A server's frames are not masked (RFC 6455, 5.1) and nothing is compressed, so the same bytes serve every viewer: a
frame is built once however many there are. The envelope comes from the log as it is and is never parsed on the way.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from loopcast_gateway.close_codes import CloseCode

__all__ = ["CHUNK_BYTES", "close_frame", "event_frame", "event_text", "join", "join_lines", "text_frame"]

CHUNK_BYTES = 64 * 1024
"""Frames are joined up to this size; a larger frame stands alone."""

_FIN_TEXT = 0x81
_FIN_CLOSE = 0x88
_MAX_CONTROL_BYTES = 125
_SHORT = struct.Struct(">BB")
_MEDIUM = struct.Struct(">BBH")
_LONG = struct.Struct(">BBQ")


def text_frame(payload: bytes) -> bytes:
    """`payload` (UTF-8) as one text frame (RFC 6455, 5.2)."""
    return _header(_FIN_TEXT, len(payload)) + payload


def close_frame(code: CloseCode) -> bytes:
    """A close frame (RFC 6455, 5.5.1); a reason that does not fit into a control frame is cut."""
    payload = (struct.pack(">H", code.code) + code.reason.encode())[:_MAX_CONTROL_BYTES]
    return _header(_FIN_CLOSE, len(payload)) + payload


def event_text(
    pos: str, envelope: bytes, *, replay: bool = False, partition: int | None = None, answers: bytes = b""
) -> bytes:
    """
    `{"type":"event","pos":…,"event":…}` around an encoded envelope; `partition` where the log has several.

    `answers` is the id, as JSON, of the command that asked for it.
    """
    marks = f'","p":{partition}' if partition is not None else '"'
    return b"".join(
        (
            b'{"type":"event","id":' + answers + b',"pos":"' if answers else b'{"type":"event","pos":"',
            pos.encode("ascii"),
            marks.encode("ascii"),
            b',"replay":true,"event":' if replay else b',"event":',
            envelope,
            b"}",
        )
    )


def event_frame(pos: str, envelope: bytes, *, replay: bool = False, partition: int | None = None) -> bytes:
    """The event as one WebSocket frame."""
    return text_frame(event_text(pos, envelope, replay=replay, partition=partition))


def join(frames: Iterable[bytes]) -> list[bytes]:
    """`frames` in their order, joined into chunks of at most :data:`CHUNK_BYTES` where more than one fits."""
    return _join(frames, b"")


def join_lines(lines: Iterable[bytes]) -> list[bytes]:
    """As :func:`join`, with line breaks between them."""
    return _join(lines, b"\n")


def _join(parts: Iterable[bytes], between: bytes) -> list[bytes]:
    chunks: list[bytes] = []
    held: list[bytes] = []
    size = 0
    for part in parts:
        if held and size + len(part) > CHUNK_BYTES:
            chunks.append(between.join(held))
            held, size = [], 0
        held.append(part)
        size += len(part) + len(between)
    if held:
        chunks.append(held[0] if len(held) == 1 else between.join(held))
    return chunks


def _header(first: int, size: int) -> bytes:
    if size <= _MAX_CONTROL_BYTES:
        return _SHORT.pack(first, size)
    if size < 1 << 16:
        return _MEDIUM.pack(first, 126, size)
    return _LONG.pack(first, 127, size)
