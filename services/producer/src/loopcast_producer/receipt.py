"""What became of each event of a request: the body of a 202. Pure."""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = ["MAX_RESULTS", "MAX_STREAM_RESULTS", "Receipt", "Result"]

MAX_RESULTS = 100_000
"""How many events are listed: all that an array may have."""

MAX_STREAM_RESULTS = 10_000
"""
The same for a stream of lines, which has no bound, and may stay open for hours beside hundreds of others; what comes
later is only counted.
"""

Status = Literal["accepted", "duplicate", "invalid"]


class Result(msgspec.Struct, omit_defaults=True, gc=False):
    """What became of one event."""

    status: Status
    id: str | None = None
    """Its id, where it is an event."""
    error: str | None = None
    """What is wrong with it, where it is none."""


class Receipt:
    """The results of one request, in the order of its events; at most `room` of them are listed."""

    __slots__ = ("accepted", "duplicates", "events", "invalid", "omitted", "room")

    def __init__(self, room: int = MAX_RESULTS) -> None:
        self.room = room
        self.accepted = 0
        self.duplicates = 0
        self.invalid = 0
        self.events: list[Result] = []
        self.omitted = 0
        """Events that are counted but not listed."""

    def add(self, result: Result) -> None:
        """Count the result of the next event, and list it while there is room."""
        if result.status == "accepted":
            self.accepted += 1
        elif result.status == "duplicate":
            self.duplicates += 1
        else:
            self.invalid += 1
        if len(self.events) < self.room:
            self.events.append(result)
        else:
            self.omitted += 1

    def encode(self) -> bytes:
        """The body of the answer."""
        return _encode(_Body(self.accepted, self.duplicates, self.invalid, self.events, self.omitted))


class _Body(msgspec.Struct, omit_defaults=True, gc=False):
    accepted: int
    duplicates: int
    invalid: int
    events: list[Result]
    omitted: int = 0


_encode = msgspec.json.Encoder().encode
