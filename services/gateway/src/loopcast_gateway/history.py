"""Reading stretches of the log from the broker, on connections of their own, a few at a time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence

from loopcast.broker.interface import Client, Delivery, StreamOffset
from loopcast.broker.log import LogReader
from loopcast.errors import BrokerUnavailable
from loopcast.topology import Topology
from loopcast_gateway.entry import Entry
from loopcast_gateway.resume import Stretch

__all__ = ["History"]

READS = 8
"""Reads at the same time; each is a connection, and the broker's disk is shared."""

SILENCE_SECONDS = 5.0
"""A stream that gives nothing for so long, though there is something, is not there to be read."""


class History:
    """The log of one broker, read by anybody who comes late."""

    def __init__(self, client: Client, url: str, topology: Topology, *, name: str) -> None:
        self._client = client
        self._url = url
        self._streams = topology.streams
        self._name = name
        self._slots = asyncio.Semaphore(READS)

    async def read(
        self, partition: int, stretch: Stretch, *, start: StreamOffset | None = None
    ) -> AsyncGenerator[list[Entry], None]:
        """
        The events of `stretch`, in batches; some are empty. `start` is where to begin if not at its own start.

        Raises:
            BrokerUnavailable: the stream does not answer.
            LogChanged: the log is not what it was when the reading began.
        """
        if stretch.empty:
            return
        async with (
            self._slots,
            contextlib.aclosing(self._batches(partition, stretch.start if start is None else start)) as batches,
        ):
            async for deliveries in batches:
                yield stretch.feed(deliveries)
                if stretch.done:
                    return

    async def first(self, partition: int, offset: StreamOffset) -> Delivery:
        """
        The first message from `offset` on.

        Raises:
            BrokerUnavailable: the stream does not answer.
            LogChanged: the log is not what it was when the reading began.
        """
        async with self._slots, contextlib.aclosing(self._batches(partition, offset, prefetch=1)) as batches:
            return (await anext(batches))[0]

    async def _batches(
        self, partition: int, start: StreamOffset, *, prefetch: int = 2000
    ) -> AsyncGenerator[Sequence[Delivery], None]:
        reader = LogReader(
            self._client, self._url, self._streams[partition], name=f"{self._name} history", prefetch=prefetch
        )
        async with reader, contextlib.aclosing(reader.batches(start)) as batches:
            while True:
                try:
                    async with asyncio.timeout(SILENCE_SECONDS):
                        batch = await anext(batches)
                except (TimeoutError, StopAsyncIteration):
                    raise BrokerUnavailable(f"{self._streams[partition]} does not answer.") from None
                yield batch
