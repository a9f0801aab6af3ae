"""Which JSONL files go, and when: whole ones that nothing is added to any more, the oldest days first. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from loopcast.events import format_time

__all__ = ["KeptFile", "LineRetention"]

LOOK_MICROSECONDS = 10_000_000
DAY_MICROSECONDS = 86_400_000_000
AT_ONCE = 500
"""Files that one look deletes, so that new lines never wait long."""


class KeptFile(NamedTuple):
    """What the ledger says of a file."""

    path: str
    day: str
    bytes: int
    """On the disk: of a compressed file, what it has been compressed to."""
    open: bool
    """Whether lines may still be added."""


class LineRetention:
    """
    Files whose day ended more than `max_age_seconds` ago go, and the oldest while all have more than `max_bytes`.

    0 is no limit. A file that is still open never goes.
    """

    def __init__(self, *, max_age_seconds: float = 0, max_bytes: int = 0) -> None:
        self._age = int(max_age_seconds * 1e6)
        self._bytes = max_bytes
        self._next = 0
        self.deleted = 0
        """Files that were deleted."""

    def due(self, now: int) -> bool:
        """Whether it is time to look; `now` in microseconds since 1970."""
        return bool(self._age or self._bytes) and now >= self._next

    def choose(self, files: Iterable[KeptFile], now: int) -> list[str]:
        """Of `files`, oldest first, the paths of those that are to go now."""
        kept = list(files)
        # The last day that ended long enough ago; days are compared as their names are.
        last_day = format_time(now - self._age - DAY_MICROSECONDS)[:10] if self._age else ""
        excess = sum(file.bytes for file in kept) - self._bytes if self._bytes else 0
        chosen: list[str] = []
        for file in kept:
            if file.open or not (file.day <= last_day or excess > 0):
                continue
            chosen.append(file.path)
            excess -= file.bytes
            if len(chosen) == AT_ONCE:
                break
        # There may be more of them.
        self._next = now if len(chosen) == AT_ONCE else now + LOOK_MICROSECONDS
        return chosen
