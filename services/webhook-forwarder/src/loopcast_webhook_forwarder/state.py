"""
What is known of an endpoint beyond its queue: pure values, and how they are folded from the state stream.

Registers in one record. *Control* is what people said (run, pause, stop): the higher version holds, so that a
replica that writes before it has read a command does not undo it. *Progress* is what the active replica found: it is
fenced by an epoch, which a replica claims with its first record and only then works; what a former one still writes
counts no more. Every record is complete, so the newest few are enough.
"""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = ["Control", "Phase", "Progress", "Record", "Spill", "State", "decode", "encode", "fold"]

VERSION = 1

Phase = Literal["closed", "open", "half-open", "misconfigured"]
"""The breaker: events flow; none are sent until a time; one is tried; a person has to mend it (tried seldom)."""


class Control(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was asked for."""

    version: int = 0
    mode: Literal["running", "paused", "stopped"] = "running"
    reason: str = ""
    at: float = 0.0


class Spill(msgspec.Struct, frozen=True, omit_defaults=True):
    """The queue is unbound: what comes after it is in the log."""

    id: str
    """Of the token in the queue that stands for the stretch of the log."""
    at: float
    positions: dict[str, str] = {}
    """By partition, the position token of the last event that is done, or of the place where it began."""


class Progress(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where the active replica is."""

    epoch: int = 0
    holder: str = ""
    at: float = 0.0
    phase: Phase = "closed"
    failures: int = 0
    """In a row, over batches."""
    failing_since: float | None = None
    head: str = ""
    """The id of the first event that is not delivered, where a try failed."""
    attempts: int = 0
    """Of the head."""
    wait_until: float = 0.0
    last: str = ""
    """What came back last that was no success."""
    event_bytes: float = 0.0
    """How large its events are on average; 0 while nobody has seen one."""
    ahead: int = 0
    """The most that was ever asked for before the first was acknowledged."""
    spill: Spill | None = None


class State(msgspec.Struct, frozen=True):
    """All of it."""

    control: Control = Control()
    progress: Progress = Progress()
    bindings: tuple[str, ...] = ()
    """What the queue may be bound by: written before binding, so that nothing stays bound that nobody knows of."""
    names: tuple[str, ...] = ()
    """In the stream of all forwarders: the endpoints that have queues."""

    def waits_until(self) -> float:
        """The Unix time before which nothing is to be sent; a command that came later ends the wait."""
        return 0.0 if self.control.at > self.progress.at else self.progress.wait_until


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """What lies in the stream."""

    v: int = VERSION
    control: Control | None = None
    progress: Progress | None = None
    bindings: tuple[str, ...] | None = None
    names: tuple[str, ...] | None = None


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Record)


def encode(record: Record) -> bytes:
    """The record as JSON."""
    return _encoder.encode(record)


def decode(body: bytes) -> Record:
    """The record in a message; an empty one where it is none: a newer version may write what this one cannot read."""
    try:
        return _decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return Record()


def fold(state: State, record: Record) -> State:
    """`state` after `record`."""
    control, progress = state.control, state.progress
    if record.control is not None and record.control.version >= control.version:
        control = record.control
    if record.progress is not None and _holds(progress, record.progress):
        progress = record.progress
    bindings = state.bindings if record.bindings is None else record.bindings
    return State(control, progress, bindings, state.names if record.names is None else record.names)


def _holds(known: Progress, new: Progress) -> bool:
    return new.epoch > known.epoch or (new.epoch == known.epoch and new.holder == known.holder)
