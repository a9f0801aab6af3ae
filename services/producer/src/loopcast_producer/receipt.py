"""What became of each event of a request: the body of a 202. Pure."""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = ["MAX_RESULTS", "Receipt", "Result"]

MAX_RESULTS = 100_000
"""
How many events are listed. A stream of lines has no bound, its answer must have one; what comes later is only counted.
"""

Status = Literal["accepted", "duplicate", "invalid"]


class Result(msgspec.Struct, omit_defaults=True, gc=False):
    """What became of one event."""

    status: Status
    id: str | None = None
    """Its id, where it is an event."""
    error: str | None = None
    """What is wrong with it, where it is none."""


class Receipt(msgspec.Struct, omit_defaults=True):
    """The results of one request, in the order of its events."""

    accepted: int
    duplicates: int
    invalid: int
    events: list[Result]
    omitted: int = 0
    """Events that are counted but not listed."""

    @classmethod
    def empty(cls) -> Receipt:
        """Of a request whose events are still to come."""
        return cls(accepted=0, duplicates=0, invalid=0, events=[])

    def add(self, result: Result) -> None:
        """Count the result of the next event, and list it while there is room."""
        if result.status == "accepted":
            self.accepted += 1
        elif result.status == "duplicate":
            self.duplicates += 1
        else:
            self.invalid += 1
        if len(self.events) < MAX_RESULTS:
            self.events.append(result)
        else:
            self.omitted += 1

    def encode(self) -> bytes:
        """The body of the answer."""
        return _encode(self)


_encode = msgspec.json.Encoder().encode
