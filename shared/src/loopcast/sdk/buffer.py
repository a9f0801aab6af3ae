"""
What waits to be sent: records in order, bounded in bytes, with an explicit rule for when it is full.

In memory. What is kept on disk comes behind the same methods.
"""

from __future__ import annotations

from collections import deque

__all__ = ["MemoryBuffer"]

OVERHEAD_BYTES = 64
"""What a record costs besides its bytes."""


class MemoryBuffer:
    """
    Not thread-safe: its owner holds a lock.

    Records that were taken stay counted until they are released, because until then they are neither delivered nor
    lost; they are never the ones to go when it is full.
    """

    def __init__(self, capacity: int, full: str) -> None:
        self._capacity = capacity
        self._drop_oldest = full == "drop_oldest"
        self._waiting: deque[bytes] = deque()
        self._taken = 0
        self._size = 0
        self.gone = 0
        """How many records have left, delivered or dropped, since the beginning."""

    def __len__(self) -> int:
        return len(self._waiting) + self._taken

    @property
    def waiting(self) -> int:
        """How many can be taken."""
        return len(self._waiting)

    def append(self, record: bytes) -> int:
        """Keep `record`; return how many, it included, had to be dropped for that."""
        cost = len(record) + OVERHEAD_BYTES
        dropped = 0
        while self._size + cost > self._capacity and self._drop_oldest and self._waiting:
            self._size -= len(self._waiting.popleft()) + OVERHEAD_BYTES
            self.gone += 1
            dropped += 1
        if self._size + cost > self._capacity:
            return dropped + 1
        self._waiting.append(record)
        self._size += cost
        return dropped

    def take(self, records: int, size: int) -> list[bytes]:
        """Take the oldest: at most `records`, and at most `size` bytes, but one at least where there is one."""
        taken: list[bytes] = []
        while self._waiting and len(taken) < records and (not taken or size >= len(self._waiting[0])):
            record = self._waiting.popleft()
            size -= len(record)
            taken.append(record)
        self._taken += len(taken)
        return taken

    def release(self, records: list[bytes]) -> None:
        """These are delivered, or given up."""
        self._taken -= len(records)
        self._size -= sum(map(len, records)) + OVERHEAD_BYTES * len(records)
        self.gone += len(records)

    def give_back(self, records: list[bytes]) -> None:
        """These were not sent after all."""
        self._taken -= len(records)
        self._waiting.extendleft(reversed(records))
