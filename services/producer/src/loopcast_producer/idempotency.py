"""
Which events were taken already: a bounded memory of ids, so that a repeat is not published again.

It saves work and log, it is not what makes an event come once: another producer, or this one after a restart, knows
nothing of it, and readers drop repeats by themselves (:mod:`loopcast.repeats`).
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

__all__ = ["IdempotencyWindow"]

T = TypeVar("T")


class IdempotencyWindow(Generic[T]):
    """
    The last `limit` keys that the broker confirmed, and every key whose publishing is not settled.

    The unsettled are not bounded here: each is a message in a publisher's window, which is. `T` is what a repeat of an
    unsettled key waits for.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._confirmed: OrderedDict[str, None] = OrderedDict()
        self._unsettled: dict[str, T] = {}

    def __len__(self) -> int:
        return len(self._confirmed) + len(self._unsettled)

    def confirmed(self, key: str) -> bool:
        """Whether the broker confirmed `key`, within the window."""
        return key in self._confirmed

    def unsettled(self, key: str) -> T | None:
        """What to wait for, if `key` was published and is not settled yet."""
        return self._unsettled.get(key)

    def begin(self, key: str, settlement: T) -> None:
        """`key` is being published."""
        self._unsettled[key] = settlement

    def confirm(self, key: str) -> None:
        """The broker has `key`."""
        self._unsettled.pop(key, None)
        if self._limit == 0:
            return
        self._confirmed[key] = None
        if len(self._confirmed) > self._limit:
            self._confirmed.popitem(last=False)

    def forget_confirmed(self) -> None:
        """What was confirmed may be gone, with the log that had it: whoever sends it again is welcome."""
        self._confirmed.clear()

    def forget(self, key: str) -> None:
        """`key` did not land: who sends it again is welcome."""
        self._unsettled.pop(key, None)
