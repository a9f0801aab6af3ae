"""
A checkpoint: what a reader knew at a position of the log, and in whose time that was written. Pure.

The state is a function of the log before the position, so every record is right, whoever wrote it, and a late one of
an old holder costs reading some events again and nothing more. The epoch only says which of two is the newer holder's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec
import zstandard

from loopcast.errors import InvalidPosition
from loopcast.position import Position

__all__ = ["MAX_BYTES", "Record", "choose", "decode", "encode"]

MAX_BYTES = 4 * 1024 * 1024
"""Of an encoded record. What is larger is not written: the log is read again instead."""

MAX_STATE_BYTES = 256 * 1024 * 1024
_MAGIC = b"LCK\x01"
_LEVEL = 3


class Record(msgspec.Struct, array_like=True, frozen=True):
    """One record of a checkpoint stream."""

    epoch: int
    """Of the holder that wrote it: one more for each."""
    token: str = ""
    """The position of the last event in the state; empty where no event was read."""
    format: str = ""
    """Of the parts: a reader takes no other than its own."""
    parts: Mapping[str, bytes] = {}
    """The state, as its reader encodes it; none in a record that only marks a place."""

    @property
    def position(self) -> Position | None:
        """Where to go on reading: at this message inclusive, which proves that it is the same log."""
        return Position.parse(self.token) if self.token else None


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Record)


def encode(record: Record) -> bytes:
    """`record` as a message's body; whether it fits :data:`MAX_BYTES` is the caller's to see."""
    return _MAGIC + zstandard.ZstdCompressor(level=_LEVEL).compress(_encoder.encode(record))


def decode(body: bytes) -> Record:
    """
    Read back what :func:`encode` wrote.

    Raises:
        ValueError: it did not, or a version did that this program does not know.
    """
    if not body.startswith(_MAGIC):
        raise ValueError("this is no checkpoint, or one of another version")
    try:
        raw = zstandard.ZstdDecompressor().decompress(body[len(_MAGIC) :], max_output_size=MAX_STATE_BYTES)
        record = _decoder.decode(raw)
        _ = record.position
    except (zstandard.ZstdError, msgspec.MsgspecError, InvalidPosition) as error:
        raise ValueError(f"this checkpoint cannot be read: {error}") from None
    return record


def choose(bodies: Iterable[bytes], form: str) -> tuple[Record | None, int]:
    """
    The record that counts among `bodies`, and the highest epoch of any.

    The highest (epoch, position) of those that have a state in the format `form`; none where there is no such record.
    What cannot be read counts as not there: the log has it all.
    """
    chosen, highest = None, 0
    for body in bodies:
        try:
            record = decode(body)
        except ValueError:
            continue
        highest = max(highest, record.epoch)
        if record.parts and record.format == form and (chosen is None or _rank(record) >= _rank(chosen)):
            chosen = record
    return chosen, highest


def _rank(record: Record) -> tuple[int, int]:
    position = record.position
    return record.epoch, -1 if position is None else position.offset
