"""Waiting for a confirm, but not for ever: one timer for all who wait, because all wait equally long."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TypeVar

__all__ = ["Patience"]

SWEEP_SECONDS = 0.25

T = TypeVar("T")


class Patience:
    """
    Waits `seconds` at most, to a quarter of a second.

    A timer for each request would cost as much as publishing its event does.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._waiting: deque[tuple[float, asyncio.Future[bool]]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    async def wait(self, awaited: asyncio.Future[T]) -> bool:
        """Wait until `awaited` is done; False if it did not come in time. It is not cancelled: others may wait too."""
        if awaited.done():
            return True
        loop = awaited.get_loop()
        waiter: asyncio.Future[bool] = loop.create_future()

        def came(_: asyncio.Future[T]) -> None:
            if not waiter.done():
                waiter.set_result(True)

        awaited.add_done_callback(came)
        self._waiting.append((loop.time() + self.seconds, waiter))
        if self._timer is None:
            self._timer = loop.call_later(SWEEP_SECONDS, self._sweep, loop)
        try:
            return await waiter
        finally:
            # While the broker is away, what is retried waits again and again for one that never comes.
            if not awaited.done():
                awaited.remove_done_callback(came)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        now, waiting = loop.time(), self._waiting
        while waiting and (waiting[0][1].done() or waiting[0][0] <= now):
            _, waiter = waiting.popleft()
            if not waiter.done():
                waiter.set_result(False)
        self._timer = loop.call_later(SWEEP_SECONDS, self._sweep, loop) if waiting else None
