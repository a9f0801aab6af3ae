"""
What was read and not yet folded: bounded, and taken all at once.

A log that is written one event at a time arrives so too; to fold a handful costs hardly more than to fold one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from loopcast.broker.interface import Delivery

__all__ = ["Inbox"]

LIMIT = 4000
GATHER_SECONDS = 0.005
"""How long more may join what came; far below what anybody sees."""


class Inbox:
    """Between one reader and one folder."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._deliveries: list[Delivery] = []
        self._room = asyncio.Event()
        self._something = asyncio.Event()

    @property
    def is_empty(self) -> bool:
        """Whether all that was read has been taken."""
        return not self._deliveries

    async def put(self, deliveries: Sequence[Delivery]) -> None:
        """Hand over what was read, when there is room."""
        while len(self._deliveries) >= self._limit:
            self._room.clear()
            await self._room.wait()
        self._deliveries.extend(deliveries)
        self._something.set()

    def wake(self) -> None:
        """End a :meth:`take` that waits."""
        self._something.set()

    async def take(self, seconds: float) -> Sequence[Delivery]:
        """All that is there; nothing where nothing comes within `seconds`."""
        if not self._deliveries:
            try:
                async with asyncio.timeout(seconds):
                    await self._something.wait()
            except TimeoutError:
                return ()
            await asyncio.sleep(GATHER_SECONDS)
        taken, self._deliveries = self._deliveries, []
        self._something.clear()
        self._room.set()
        return taken
