"""A stream of lines goes on while the broker confirms what came before, up to a bound."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from loopcast.errors import BrokerError, WindowFull
from loopcast_producer.ingest import Batch, Ingest, Item
from loopcast_producer.receipt import Receipt

__all__ = ["Ahead"]

AHEAD_BYTES = 2 * 1024 * 1024
"""
What of one request may be unconfirmed: enough for the next pieces to be read while a confirm is on its way, and a small
part of the window that all requests share.
"""
ENVELOPE_BYTES = 1000
"""What an event takes in the window besides its own bytes, about."""


class Ahead:
    """The batches of one request that are begun and not confirmed, in their order."""

    def __init__(self, ingest: Ingest, receipt: Receipt) -> None:
        self._ingest = ingest
        self._receipt = receipt
        self._begun: deque[tuple[Batch, int]] = deque()
        self._size = 0

    async def publish(self, items: Sequence[Item], size: int, *, named: bool) -> None:
        """
        Begin with `items`, of `size` bytes, and wait for as many of those before as the bound asks for.

        Raises:
            BrokerError: something before, or this, was not taken: nothing that comes after may be.
        """
        if not items:
            return
        batch = self._ingest.begin(items, named=named)
        if self._begun and isinstance(batch.error, WindowFull):
            # It may be full of what this very request has there.
            await self.settle()
            batch = self._ingest.begin(items, named=named)
        size += ENVELOPE_BYTES * len(items)
        self._begun.append((batch, size))
        self._size += size
        while self._begun and (batch.error is not None or self._size > AHEAD_BYTES):
            await self._finish()

    async def settle(self) -> None:
        """
        Wait for all that was begun; each has its result then.

        Raises:
            BrokerError: the first of them that was not taken.
        """
        error: BrokerError | None = None
        while self._begun:
            try:
                await self._finish()
            except BrokerError as failure:
                error = error or failure
        if error is not None:
            raise error

    async def _finish(self) -> None:
        batch, size = self._begun.popleft()
        self._size -= size
        await self._ingest.finish(batch, self._receipt)
