"""From bytes to the objects of their lines, and a count of what was none. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

__all__ = ["MAX_LINE_BYTES", "Counts", "Line", "Lines", "parse_line"]

MAX_LINE_BYTES = 16 * 1024 * 1024
"""A line beyond this is skipped: it would be refused anyway, and must not fill the memory."""


class Counts:
    """What a relay did: every line is in exactly one of the first four or `stale`."""

    def __init__(self) -> None:
        self.relayed = 0
        """Events handed to the SDK."""
        self.blank = 0
        self.bad = 0
        """Lines that are no JSON object."""
        self.oversized = 0
        """Lines over the limit."""
        self.rotations = 0
        """Times that a file was replaced by another."""
        self.truncations = 0
        """Times that a file was cut, or overwritten."""
        self.lost = 0
        """Times that a file was gone, or was cut, before its end was read."""
        self.stale = 0
        """States of loops that do not run, or that were relayed before."""
        self.connections = 0
        """Times that a socket was connected to."""

    @classmethod
    def total(cls, all_: Iterable[Counts]) -> Counts:
        """The sum of several."""
        total = cls()
        for counts in all_:
            for name, n in vars(counts).items():
                setattr(total, name, getattr(total, name) + n)
        return total

    def __str__(self) -> str:
        return ", ".join(f"{n} {name}" for name, n in vars(self).items() if n or name == "relayed")


class Line(NamedTuple):
    """One line, and where it ends."""

    content: bytes | None
    """None for a line over the limit."""
    end: int


class Lines:
    """Splits a stream into lines; what has no end yet waits. `offset` is where the stream begins."""

    def __init__(self, offset: int = 0, limit: int = MAX_LINE_BYTES) -> None:
        self._limit = limit
        self._rest: list[bytes] = []
        self._size = 0
        self._skipping = False
        self.offset = offset
        """Where the last line ended that was given out."""

    @property
    def waiting(self) -> int:
        """Bytes of the line that has no end yet."""
        return self._size

    def feed(self, data: bytes) -> list[Line]:
        """The lines that `data` ends."""
        found = []
        *ended, rest = data.split(b"\n")
        for part in ended:
            self._size += len(part) + 1
            content = b"".join((*self._rest, part))
            over = self._skipping or len(content) > self._limit
            self.offset += self._size
            found.append(Line(None if over else content, self.offset))
            self._rest, self._size, self._skipping = [], 0, False
        self._size += len(rest)
        self._skipping = self._skipping or self._size > self._limit
        if self._skipping:
            self._rest = []
        elif rest:
            self._rest.append(rest)
        return found


def parse_line(line: Line, counts: Counts) -> dict[str, Any] | None:
    """The object of a line; None, and counted, where it holds none."""
    if line.content is None:
        counts.oversized += 1
        return None
    if not line.content.strip():
        counts.blank += 1
        return None
    try:
        event = json.loads(line.content)
    except (ValueError, RecursionError):
        event = None
    if not isinstance(event, dict):
        counts.bad += 1
        return None
    return event
