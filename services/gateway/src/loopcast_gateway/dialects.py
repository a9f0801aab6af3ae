"""
How events and frames become bytes for one kind of client: the subprotocols.

A dialect is one object for all connections that speak it, so that viewers of one dialect can be sent the same bytes.
Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from loopcast_gateway.entry import Entry
from loopcast_gateway.frames import event_text, join, join_lines, text_frame
from loopcast_gateway.open_runs import ended_run
from loopcast_gateway.promptlooper import PromptLooper
from loopcast_gateway.protocol import NDJSON_SUBPROTOCOL, SUBPROTOCOL, Eof, Frame, Id, encode

__all__ = ["DIALECTS", "EVERY", "JSON", "NDJSON", "PROMPTLOOPER", "Dialect"]


class Dialect(Protocol):
    """One kind of client."""

    @property
    def polite(self) -> bool:
        """Whether its clients expect frames of the gateway's own: a welcome, the end of history, a hole."""
        ...

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

    def answered(self, entry: Entry, id_: Id | None, *, several: bool) -> bytes:
        """An event that the command `id_` asked for."""
        ...

    def join(self, parts: Sequence[bytes]) -> list[bytes]:
        """Events in few chunks, each of which an outbox takes."""
        ...

    def frame(self, frame: Frame) -> bytes | None:
        """What the gateway says; None where such a client would not understand it."""
        ...


class _Json:
    """`loopcast.v1.json`: one frame a message."""

    polite = True
    lines = False

    def live(self, entry: Entry, *, several: bool) -> bytes:
        frame, eof = entry.live_frame(several=several), _eof(entry)
        return frame if eof is None else frame + text_frame(encode(eof))

    def replayed(self, entry: Entry, *, several: bool) -> bytes:
        return entry.replay_frame(several=several)

    def answered(self, entry: Entry, id_: Id | None, *, several: bool) -> bytes:
        return text_frame(_answer(entry, id_, several=several))

    def join(self, parts: Sequence[bytes]) -> list[bytes]:
        return join(parts)

    def frame(self, frame: Frame) -> bytes:
        return text_frame(encode(frame))


class _Lines:
    """`loopcast.v1.ndjson`: frames in lines, as many in a message as there are when it is written."""

    polite = True
    lines = True

    def live(self, entry: Entry, *, several: bool) -> bytes:
        text, eof = event_text(entry.pos, entry.envelope, partition=entry.partition if several else None), _eof(entry)
        return text if eof is None else text + b"\n" + encode(eof)

    def replayed(self, entry: Entry, *, several: bool) -> bytes:
        return event_text(entry.pos, entry.envelope, replay=True, partition=entry.partition if several else None)

    def answered(self, entry: Entry, id_: Id | None, *, several: bool) -> bytes:
        return _answer(entry, id_, several=several)

    def join(self, parts: Sequence[bytes]) -> list[bytes]:
        return join_lines(parts)

    def frame(self, frame: Frame) -> bytes:
        return encode(frame)


def _answer(entry: Entry, id_: Id | None, *, several: bool) -> bytes:
    partition = entry.partition if several else None
    return event_text(entry.pos, entry.envelope, replay=True, partition=partition, answers=msgspec.json.encode(id_))


def _eof(entry: Entry) -> Eof | None:
    """What follows the event by which a run ended."""
    status = ended_run(entry)
    return None if status is None else Eof(experiment_id=entry.experiment, run=entry.run, status=status)


JSON: Dialect = _Json()
NDJSON: Dialect = _Lines()
PROMPTLOOPER: Dialect = PromptLooper()
"""Of clients that offer no subprotocol."""

DIALECTS: dict[str, Dialect] = {SUBPROTOCOL: JSON, NDJSON_SUBPROTOCOL: NDJSON}
"""By the name of the subprotocol."""

EVERY = (*DIALECTS.values(), PROMPTLOOPER)
