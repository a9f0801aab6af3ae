"""
Which events of a batch the next request carries: pure.

A stack of sizes, worked from the batch's head, so that the order is kept whatever is split. Halving serves both 413
(a smaller body passes) and 400 or 422 (the event at fault is found in about 2·log2 n requests, and found alone).
"""

from __future__ import annotations

__all__ = ["Splits"]


class Splits:
    """The work that is left of one batch of `size` events."""

    def __init__(self, size: int) -> None:
        self._sizes = [size] if size else []
        self._start = 0

    @property
    def current(self) -> tuple[int, int]:
        """The next request's events, as start and stop in the batch; equal where none are left."""
        return self._start, self._start + self.size

    @property
    def size(self) -> int:
        """How many events the next request carries."""
        return self._sizes[-1] if self._sizes else 0

    @property
    def done(self) -> bool:
        """Whether nothing is left."""
        return not self._sizes

    @property
    def alone(self) -> bool:
        """Whether the next request carries one event."""
        return self.size == 1

    def settled(self) -> None:
        """The current events are delivered, or dead letters."""
        self._start += self._sizes.pop()

    def halve(self) -> None:
        """Try the current events as two requests, the first half first."""
        size = self._sizes.pop()
        self._sizes += [size // 2, size - size // 2]

    def probe(self) -> None:
        """Try one event by itself before the others of the current request."""
        if self._sizes[-1] > 1:
            self._sizes[-1:] = [self._sizes[-1] - 1, 1]
