"""
Parts of the log that were read again lately, kept so that viewers who ask for the same stretch share one read. Pure.

A block begins at a multiple of :data:`BLOCK_OFFSETS`, or where another one ended early. Who reads a stretch walks from
block to block; so what many ask for at once, after a restart of a gateway, is read once and is in memory for the rest.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from loopcast.broker.interface import Delivery

__all__ = ["BLOCK_BYTES", "BLOCK_OFFSETS", "OVERHEAD_BYTES", "Block", "Blocks", "last_of_block"]

BLOCK_OFFSETS = 4096
BLOCK_BYTES = 8 * 1024 * 1024
"""A block of large messages ends early, so that a read has a bound in bytes too."""

OVERHEAD_BYTES = 1500
"""What a delivery takes besides its body: the object, its headers, their values."""


def last_of_block(offset: int) -> int:
    """The last offset of the block that `offset` is in."""
    return offset - offset % BLOCK_OFFSETS + BLOCK_OFFSETS - 1


@dataclass(frozen=True, slots=True)
class Block:
    """Every message of the log from `start` to `end`, both inclusive."""

    start: int
    end: int
    deliveries: Sequence[Delivery]

    @property
    def size(self) -> int:
        """About how many bytes it takes."""
        return sum(len(delivery.body) + OVERHEAD_BYTES for delivery in self.deliveries) + OVERHEAD_BYTES

    def since(self, offset: int) -> Sequence[Delivery]:
        """Its messages from `offset` on."""
        if offset <= self.start:
            return self.deliveries
        return self.deliveries[bisect_left(self.deliveries, offset, key=lambda delivery: delivery.offset) :]


class Blocks:
    """The blocks of one partition that were used last, within a bound in bytes."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._held: OrderedDict[int, tuple[Block, int, float]] = OrderedDict()
        self.size = 0

    def find(self, offset: int, now: float) -> Block | int:
        """The block that has `offset`, or where the block begins that would have it."""
        start = offset - offset % BLOCK_OFFSETS
        while (found := self._held.get(start)) is not None:
            block, size, _ = found
            self._held[start] = (block, size, now)
            self._held.move_to_end(start)
            if block.end >= offset:
                return block
            start = block.end + 1
        return start

    def last_before(self, start: int) -> Delivery | None:
        """The last message of the block that ends where one at `start` begins, where it is here and has one."""
        for block, _, _ in self._held.values():
            if block.end == start - 1:
                return block.deliveries[-1] if block.deliveries else None
        return None

    def add(self, block: Block, now: float) -> None:
        """Keep `block`, and as many of those used before as there is room for."""
        size = block.size
        if (before := self._held.pop(block.start, None)) is not None:
            self.size -= before[1]
        self._held[block.start] = (block, size, now)
        self.size += size
        while self.size > self._capacity and len(self._held) > 1:
            self._drop_one()

    def forget(self, before: float) -> None:
        """Let go of what nobody used since the time `before`."""
        while self._held and next(iter(self._held.values()))[2] < before:
            self._drop_one()

    def clear(self) -> None:
        """Know nothing: the log is another one."""
        self._held.clear()
        self.size = 0

    def _drop_one(self) -> None:
        _, (_, size, _) = self._held.popitem(last=False)
        self.size -= size
