"""What one line of a file or of the socket is. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

from loopcast.events import one_line
from loopcast_recorder.entry import Entry

__all__ = ["Format", "line_of"]

Format = Literal["original", "cloudevents"]


def line_of(format_: Format) -> Callable[[Entry], bytes]:
    """What makes a line, its end included, of an event."""
    return _original if format_ == "original" else _cloudevent


def _original(entry: Entry) -> bytes:
    return bytes(one_line(entry.data)) + b"\n"


def _cloudevent(entry: Entry) -> bytes:
    return bytes(one_line(msgspec.Raw(entry.envelope))) + b"\n"
