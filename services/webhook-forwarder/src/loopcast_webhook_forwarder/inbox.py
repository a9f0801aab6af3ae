"""An endpoint's queue as batches: what came is collected, and forgotten with the channel that brought it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable

from loopcast.broker.consumer import Consumer
from loopcast_webhook_forwarder.batching import Collector, Parcel

__all__ = ["Inbox"]

LOOK_SECONDS = 1.0
"""How often whoever waits for events looks whether something else is to be done."""


class Inbox:
    """
    Batches of one consumer, of the channel that stands.

    `wake` is set by whoever changes what :meth:`take` waits for.
    """

    def __init__(self, consumer: Consumer, collector: Collector, wake: asyncio.Event) -> None:
        self._consumer = consumer
        self._collector = collector
        self._wake = wake
        self.generation = 0
        """Of the channel that what is held came by."""

    @contextlib.asynccontextmanager
    async def filling(self) -> AsyncIterator[None]:
        """Consume while the block runs; then the channel is closed, and what was not acknowledged is in its place."""
        task = asyncio.create_task(self._fill())
        try:
            yield
        finally:
            await self._consumer.close()
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error

    def lost(self, generation: int) -> bool:
        """Whether that channel is gone: what came by it comes again, here or at another replica."""
        return self._consumer.losses != generation

    async def take(self, interrupted: Callable[[], bool]) -> Parcel | None:
        """The next batch, or None once `interrupted` says so."""
        while not interrupted():
            self._wake.clear()
            if self.lost(self.generation):
                self._renew()
            due = self._collector.due(time.monotonic())
            if due == 0:
                return self._collector.cut()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS if due is None else min(due, LOOK_SECONDS)):
                    await self._wake.wait()
        return None

    def ack(self, tag: int) -> None:
        """Acknowledge a message and all before it."""
        self._consumer.ack(tag)

    async def _fill(self) -> None:
        async for deliveries in self._consumer.batches():
            if self.lost(self.generation):
                self._renew()
            self._collector.add(deliveries, time.monotonic())
            self._wake.set()

    def _renew(self) -> None:
        self._collector.clear()
        self.generation = self._consumer.losses
