"""
How records lie in a segment of the spool: framed and checksummed, one behind the other. Pure.

A frame is a mark, the length and the CRC-32 of the record, little-endian, then the record. A process can die in the
middle of a write and a disk can rot, so a reader believes a frame only when its checksum holds, and behind a damaged
stretch it goes on with the next frame that does.
"""

from __future__ import annotations

import struct
from typing import NamedTuple
from zlib import crc32

__all__ = ["HEAD_BYTES", "MAX_RECORD_BYTES", "Found", "frame", "unframe"]

MARK = b"\xa5\x4c"
_HEAD = struct.Struct("<2sII")
HEAD_BYTES = _HEAD.size
"""What a record costs besides its own bytes."""

MAX_RECORD_BYTES = 256 * 1024 * 1024
"""A length beyond this is damage, whatever follows."""

_pack = _HEAD.pack


class Found(NamedTuple):
    """What a stretch of a segment holds."""

    records: list[bytes]
    ends: list[int]
    """Where each of them ends, counted from the beginning of the stretch."""
    read: int
    """How far it was read: behind the last record, and behind damage that a whole record follows."""
    damaged: int
    """Bytes that belong to no whole record, and that whole ones follow."""
    lost: int
    """How many records those were at least; with those at the end that are damaged, and not torn."""
    wanted: int
    """How many bytes the record at `read` needs at least, when it is cut off by the end of the stretch; else 0."""


def frame(record: bytes) -> bytes:
    """`record` as it lies in a segment."""
    return _pack(MARK, len(record), crc32(record)) + record


def unframe(stretch: bytes, records: int, *, last: bool) -> Found:
    """
    The first whole records of `stretch`, at most `records` of them.

    Args:
        stretch: begins where a frame does.
        records: how many at most.
        last: whether nothing comes behind the stretch; then a frame that its end cuts off is torn, and damage.
    """
    found: list[bytes] = []
    ends: list[int] = []
    at = damaged = lost = wanted = 0
    while len(found) < records and at < len(stretch):
        end = _end(stretch, at)
        if end > len(stretch) and not last:
            wanted = end - at
            break
        if end <= len(stretch) and end > at:
            found.append(stretch[at + HEAD_BYTES : end])
            ends.append(end)
            at = end
            continue
        after = _next(stretch, at + 1)
        if after < 0:
            lost += _heads(stretch, at, len(stretch))
            break
        damaged += after - at
        lost += max(1, _heads(stretch, at, after))
        at = after
    return Found(found, ends, at, damaged, lost, wanted)


def _end(stretch: bytes, at: int) -> int:
    """Where the frame at `at` ends; `at` itself where there is none; beyond the stretch where that cuts it off."""
    if len(stretch) - at < HEAD_BYTES:
        return at + HEAD_BYTES
    mark, length, checksum = _HEAD.unpack_from(stretch, at)
    if mark != MARK or length > MAX_RECORD_BYTES:
        return at
    end: int = at + HEAD_BYTES + length
    if end > len(stretch):
        return end
    return end if crc32(stretch[at + HEAD_BYTES : end]) == checksum else at


def _heads(stretch: bytes, at: int, end: int) -> int:
    """How many records there are from `at` to `end` whose head at least is as it was."""
    heads = 0
    while 0 <= (at := stretch.find(MARK, at, end)) <= end - HEAD_BYTES:
        _, length, _ = _HEAD.unpack_from(stretch, at)
        behind = at + HEAD_BYTES + length
        heads += behind <= end
        at = behind if behind <= end else at + 1
    return heads


def _next(stretch: bytes, at: int) -> int:
    """Where the next whole frame begins, -1 where there is none."""
    while (at := stretch.find(MARK, at)) >= 0:
        if at < _end(stretch, at) <= len(stretch):
            return at
        at += 1
    return -1
