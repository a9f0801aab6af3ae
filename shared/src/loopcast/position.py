"""
The position token: where in the log a reader is, and proof that it is still the same log.

RabbitMQ answers a wrong offset with silence: a truncated stream starts later, a re-created one gives another message,
an offset past the end gives nothing, ever. A token therefore carries a hash of the message that it points at, and
whoever resumes reads from that offset *inclusive* and compares (:func:`verify`).

The token is 26 characters of base32hex (RFC 4648, 7) over 16 bytes, so that tokens of one partition sort as text in
log order: version (1), partition (1), offset (8, big endian), the first 6 bytes of SHA-256 of the `message_id`.
"""

from __future__ import annotations

import base64
import enum
import hashlib
import struct
from dataclasses import dataclass

from loopcast.errors import InvalidPosition

__all__ = ["Anchor", "Position", "anchor_hash", "verify"]

VERSION = 1
HASH_BYTES = 6
TOKEN_LENGTH = 26
_LAYOUT = struct.Struct(f">BBQ{HASH_BYTES}s")


class Anchor(enum.StrEnum):
    """What the first message read at a token's offset proves."""

    PROVEN = "proven"
    """The message is the one that the token was made of: go on behind it."""

    TRUNCATED = "truncated"
    """The log starts later than the token: events between are gone."""

    EPOCH_CHANGED = "epoch_changed"
    """Another message has that offset: the log was deleted and made anew."""


def anchor_hash(message_id: str) -> bytes:
    """The 6 bytes by which a token knows its message."""
    return hashlib.sha256(message_id.encode()).digest()[:HASH_BYTES]


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in the log: the message `anchor` at `offset` of `partition`."""

    partition: int
    offset: int
    anchor: bytes

    @classmethod
    def of(cls, partition: int, offset: int, message_id: str) -> Position:
        """The position of the message `message_id`."""
        return cls(partition, offset, anchor_hash(message_id))

    @classmethod
    def parse(cls, token: str) -> Position:
        """
        Read a token back.

        Raises:
            InvalidPosition: this is no token, or one of a version that this program does not know.
        """
        if len(token) != TOKEN_LENGTH or not token.isascii():
            raise InvalidPosition(f"A position has {TOKEN_LENGTH} characters, as a gateway gave it: {token[:40]!r}.")
        try:
            version, partition, offset, anchor = _LAYOUT.unpack(base64.b32hexdecode(token.encode("ascii") + b"======"))
        except (ValueError, struct.error):
            raise InvalidPosition(f"A position has digits and the letters A to V only: {token!r}.") from None
        position = cls(partition, offset, anchor)
        if version != VERSION or str(position) != token:
            raise InvalidPosition(f"The position {token!r} is of a version that this program does not know.")
        return position

    def __str__(self) -> str:
        raw = _LAYOUT.pack(VERSION, self.partition, self.offset, self.anchor)
        return base64.b32hexencode(raw)[:TOKEN_LENGTH].decode("ascii")


def verify(position: Position, offset: int, message_id: str) -> Anchor:
    """What the first message delivered from `position.offset` on, with its own `offset` and id, proves."""
    if offset > position.offset:
        return Anchor.TRUNCATED
    if offset < position.offset or anchor_hash(message_id) != position.anchor:
        return Anchor.EPOCH_CHANGED
    return Anchor.PROVEN
