"""
Which viewers have stopped reading: their sockets are full, and nothing of what they were given has gone since. Pure.

Only viewers whose sockets are full are looked at. A viewer that reads a byte a second lets the kernel pass something on
once in many minutes, so it counts as one that does not read; whoever reads at all comes back with its `pos`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

__all__ = ["Stalls"]

V = TypeVar("V")


class Stalls(Generic[V]):
    """Watches full sockets; `seconds` without any progress is too long."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._full: dict[V, tuple[int, float]] = {}

    def __len__(self) -> int:
        return len(self._full)

    def __iter__(self) -> Iterator[V]:
        return iter(self._full)

    def full(self, viewer: V, unsent: int, now: float) -> None:
        """The socket of `viewer` takes no more; `unsent` bytes of what it was given wait."""
        self._full[viewer] = (unsent, now)

    def flows(self, viewer: V) -> None:
        """The socket takes more, or is gone."""
        self._full.pop(viewer, None)

    def overdue(self, now: float, unsent: Callable[[V], int]) -> list[V]:
        """Who has been full for too long, of whose bytes none went; `unsent` tells how many wait now."""
        found = []
        for viewer, (before, since) in self._full.items():
            left = unsent(viewer)
            if left < before:
                self._full[viewer] = (left, now)
            elif now - since >= self._seconds:
                found.append(viewer)
        return found
