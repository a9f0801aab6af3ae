"""
How many replicas a reader has, so that each takes its share of the partitions and no more.

Each replica holds the first free of as many numbered exclusive queues as there are partitions; the queues that are held
are the members. Who is not counted (there are more replicas than partitions) stands by all the same. A wrong count
costs balance for a moment and nothing else: the leases decide who reads.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import AMQPError, ChannelNotFoundEntity
from aiormq.exceptions import ChannelLockedResource

from loopcast.broker.aio_pika_connection import close, connect
from loopcast.errors import BrokerUnavailable
from loopcast.topology import member_queue

__all__ = ["Members", "share"]

LOOK_SECONDS = 5.0
OPERATION_SECONDS = 10.0


def share(partitions: int, members: int) -> int:
    """How many partitions one of `members` may hold: together they may hold all."""
    return -(-partitions // max(1, members))


class Members:
    """Looks and is seen, on a connection of its own, for as long as :meth:`run` runs."""

    def __init__(self, url: str, reader: str, partitions: int, *, name: str, seconds: float = LOOK_SECONDS) -> None:
        self._url = url
        self._reader = reader
        self._partitions = partitions
        self._name = name
        self._seconds = seconds
        self._own: str | None = None
        self.count = 1
        """The members at the last look; 1 while nobody can be asked, so that nothing stays unread."""

    @property
    def share(self) -> int:
        """How many partitions this replica may hold."""
        return share(self._partitions, self.count)

    async def run(self, changed: Callable[[], None]) -> None:
        """Look again and again, over connections that come and go; call `changed` when the count did."""
        while True:
            with contextlib.suppress(BrokerUnavailable, AMQPError, OSError, EOFError, RuntimeError, TimeoutError):
                await self._look_until_lost(changed)
            self._own = None
            self._set(1, changed)
            await asyncio.sleep(self._seconds)

    async def _look_until_lost(self, changed: Callable[[], None]) -> None:
        connection = await connect(self._url, name=f"{self._name} member")
        try:
            while True:
                async with asyncio.timeout(OPERATION_SECONDS):
                    self._set(await self._look(connection), changed)
                await asyncio.sleep(self._seconds)
        finally:
            await close(connection)

    async def _look(self, connection: AbstractConnection) -> int:
        found = 0
        for number in range(self._partitions):
            queue = member_queue(self._reader, number)
            found += queue == self._own or await self._is_held(connection, queue)
        return found

    async def _is_held(self, connection: AbstractConnection, queue: str) -> bool:
        """Whether another one holds a place, or it is free and this one takes it."""
        channel = await connection.channel(publisher_confirms=False)
        try:
            if self._own is None:
                await channel.declare_queue(queue, exclusive=True)
                self._own = queue
            else:
                await channel.declare_queue(queue, passive=True)
        except ChannelLockedResource:
            return True
        except ChannelNotFoundEntity:
            return False
        else:
            await channel.close()
        return True

    def _set(self, count: int, changed: Callable[[], None]) -> None:
        before, self.count = self.count, max(1, count)
        if before != self.count:
            changed()
