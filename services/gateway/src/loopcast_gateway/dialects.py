"""
How events and frames become bytes for one kind of client: the subprotocols.

A dialect is one object for all connections that speak it, so that viewers of one dialect can be sent the same bytes.
Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from loopcast_gateway.entry import Entry
from loopcast_gateway.frames import event_text, join, join_lines, text_frame
from loopcast_gateway.protocol import NDJSON_SUBPROTOCOL, SUBPROTOCOL, Frame, encode

__all__ = ["DIALECTS", "JSON", "NDJSON", "Dialect"]


class Dialect(Protocol):
    """One kind of client."""

    @property
    def lines(self) -> bool:
        """Whether what it makes are lines, which the outbox puts into messages, instead of finished frames."""
        ...

    def live(self, entry: Entry, *, several: bool) -> bytes:
        """An event as it comes; `several` partitions are told apart."""
        ...

    def replayed(self, entry: Entry, *, several: bool) -> bytes:
        """An event from before the subscription."""
        ...

    def join(self, parts: Sequence[bytes]) -> list[bytes]:
        """Events in few chunks, each of which an outbox takes."""
        ...

    def frame(self, frame: Frame) -> bytes | None:
        """What the gateway says; None where such a client would not understand it."""
        ...


class _Json:
    """`loopcast.v1.json`: one frame a message."""

    lines = False

    def live(self, entry: Entry, *, several: bool) -> bytes:
        return entry.live_frame(several=several)

    def replayed(self, entry: Entry, *, several: bool) -> bytes:
        return entry.replay_frame(several=several)

    def join(self, parts: Sequence[bytes]) -> list[bytes]:
        return join(parts)

    def frame(self, frame: Frame) -> bytes:
        return text_frame(encode(frame))


class _Lines:
    """`loopcast.v1.ndjson`: frames in lines, as many in a message as there are when it is written."""

    lines = True

    def live(self, entry: Entry, *, several: bool) -> bytes:
        return event_text(entry.pos, entry.envelope, partition=entry.partition if several else None)

    def replayed(self, entry: Entry, *, several: bool) -> bytes:
        return event_text(entry.pos, entry.envelope, replay=True, partition=entry.partition if several else None)

    def join(self, parts: Sequence[bytes]) -> list[bytes]:
        return join_lines(parts)

    def frame(self, frame: Frame) -> bytes:
        return encode(frame)


JSON: Dialect = _Json()
NDJSON: Dialect = _Lines()

DIALECTS: dict[str, Dialect] = {SUBPROTOCOL: JSON, NDJSON_SUBPROTOCOL: NDJSON}
"""By the name of the subprotocol."""
