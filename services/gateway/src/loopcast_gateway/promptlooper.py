"""
PromptLooper's WebSocket protocol, for clients that offer no subprotocol: its semantics, without its defects.

An event is the loop's own object with `_ts` (when a producer took it, Unix seconds with microseconds), `_seq` (its
number among those of its emitter), where they are known, and `_pos`, live and replayed alike. Commands are
`{"action": "subscribe"|"unsubscribe"|"replay", "experiment_id", "since_ts", "limit"}`. Nothing else is ever sent to a
client that did not ask for it: a command is answered where it carries an `id`. Pure.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence

import msgspec

from loopcast.routing import ANYWHERE
from loopcast_gateway.commands import check_command, read_command
from loopcast_gateway.entry import Entry
from loopcast_gateway.frames import join, text_frame
from loopcast_gateway.protocol import (
    MAX_REPLAY,
    Command,
    ErrorName,
    Frame,
    Id,
    PingFrame,
    Refused,
    Replay,
    Subscribe,
    Unsubscribe,
    encode,
)

__all__ = ["PONG", "PromptLooper", "read"]

PONG = text_frame(b"pong")
"""The answer to the text `ping`, which some clients send to keep proxies from closing."""

_WIRE_PING = b"\x89\x00"
"""RFC 6455, 5.5.2: clients answer it without being told."""

_NAMES = ("_ts", "_seq", "_pos")
_OURS = tuple(f'"{name}"'.encode() for name in _NAMES)
_DATA = b',"data":'
_SEQUENCE = re.compile(rb',"sequence":"([0-9]{1,20})"')
_object = msgspec.json.Decoder(dict[str, msgspec.Raw])


class PromptLooper:
    """How such a client is spoken to."""

    polite = False
    lines = False

    def live(self, entry: Entry, *, several: bool) -> bytes:
        """The object and its three marks."""
        del several
        return text_frame(flat(entry))

    replayed = live

    def answered(self, entry: Entry, id_: Id | None, *, several: bool) -> bytes:
        """The same again: its marks are enough to know it by."""
        del id_, several
        return text_frame(flat(entry))

    def join(self, parts: Sequence[bytes]) -> list[bytes]:
        """Finished frames."""
        return join(parts)

    def frame(self, frame: Frame) -> bytes | None:
        """An answer where the command carried an `id`, else nothing. A ping is one of the wire."""
        if isinstance(frame, PingFrame):
            return _WIRE_PING
        return text_frame(encode(frame)) if getattr(frame, "id", None) is not None else None


def flat(entry: Entry) -> bytes:
    """The loop's own object with the marks as its last members; what is no object becomes the `data` of one."""
    head, data = _cut(entry.envelope)
    found = _SEQUENCE.search(head)
    if not data.startswith(b"{"):
        data = b'{"event":' + msgspec.json.encode(entry.type) + b',"data":' + data + b"}"
    elif any(name in data for name in _OURS):
        data = _without_marks(data)
    sequence = b'"_seq":%d,' % int(found[1]) if found is not None else b""
    seconds, micros = divmod(entry.recorded, 1_000_000)
    # Nobody knows when a stranger's event without a timestamp was sent, and 0 would be a cursor to the beginning.
    moment = b'"_ts":%d.%06d,' % (seconds, micros) if entry.recorded else b""
    marks = b'%b%b"_pos":"%b"}' % (moment, sequence, entry.pos.encode("ascii"))
    inside = data[:-1].rstrip()
    return inside + (b"" if inside == b"{" else b",") + marks


def _cut(envelope: bytes) -> tuple[bytes, bytes]:
    """What stands before the data, and the data; another program's message under our name is all data."""
    start = envelope.find(_DATA)
    return (b"", envelope) if start < 0 else (envelope[:start], envelope[start + len(_DATA) : -1].strip())


def _without_marks(data: bytes) -> bytes:
    try:
        members = _object.decode(data)
    except msgspec.DecodeError:
        return data
    return msgspec.json.encode({name: value for name, value in members.items() if name not in _NAMES})


ALL = sys.maxsize
"""The limit of a replay that names none."""


class _Spoken(msgspec.Struct):
    """A command as PromptLooper's clients send it; members that it does not know are theirs."""

    action: str
    experiment_id: str | int | None = None
    since_ts: float | None = None
    limit: int | None = None
    id: Id | None = None


_spoken = msgspec.json.Decoder(_Spoken)
_ACTIONS = {"subscribe", "unsubscribe", "replay"}


def read(text: bytes) -> Command:
    """
    Read one command; without an `experiment_id` it is of everything.

    A replay without a limit is of all there is, with one of the newest.

    Raises:
        Refused: it is none.
    """
    try:
        spoken = _spoken.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return read_command(text)
    if spoken.action not in _ACTIONS:
        return read_command(text)
    experiment = ANYWHERE if spoken.experiment_id is None else str(spoken.experiment_id)
    if spoken.action == "subscribe":
        return check_command(Subscribe(id=spoken.id, experiment_id=experiment))
    if spoken.action == "unsubscribe":
        return check_command(Unsubscribe(id=spoken.id, experiment_id=experiment))
    if spoken.limit is not None and spoken.limit < 0:
        raise Refused(ErrorName.BAD_REQUEST, f"limit is a number of events, not {spoken.limit}.", spoken.id)
    replay = Replay(id=spoken.id, experiment_id=experiment, since_ts=spoken.since_ts, limit=ALL, order="oldest")
    if spoken.limit is not None:
        replay.limit, replay.order = min(spoken.limit, MAX_REPLAY), "newest"
    return check_command(replay)
