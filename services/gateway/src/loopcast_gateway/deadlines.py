"""What has to happen to whom at what time, in whole seconds. Pure."""

from __future__ import annotations

import heapq
import math
from typing import Generic, TypeVar

__all__ = ["Deadlines"]

T = TypeVar("T")


class Deadlines(Generic[T]):
    """
    One time for each of many items.

    Times are rounded up to seconds, and items with the same one share a place, so that ten thousand connections need
    no ten thousand timers, and an item that goes early leaves nothing behind.
    """

    def __init__(self) -> None:
        self._at: dict[T, int] = {}
        self._due: dict[int, set[T]] = {}
        self._times: list[int] = []

    def set(self, item: T, at: float | None) -> None:
        """Let `item` be due at `at`, and no more at what was set before; None is never."""
        self.drop(item)
        if at is None:
            return
        second = math.ceil(at)
        if second not in self._due:
            self._due[second] = set()
            heapq.heappush(self._times, second)
        self._due[second].add(item)
        self._at[item] = second

    def drop(self, item: T) -> None:
        """Forget `item`."""
        second = self._at.pop(item, None)
        if second is not None:
            self._due[second].discard(item)

    def pop(self, now: float) -> list[T]:
        """Whoever is due at `now`; they are forgotten."""
        found: list[T] = []
        while self._times and self._times[0] <= now:
            found += self._due.pop(heapq.heappop(self._times))
        for item in found:
            del self._at[item]
        return found

    def __len__(self) -> int:
        return len(self._at)
