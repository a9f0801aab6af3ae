"""Reading stretches of the log from the broker: block by block, each block once for all who ask for it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Sequence

from loopcast.broker.interface import Client, Delivery, StreamOffset
from loopcast.broker.log import LogReader
from loopcast.broker.resume import OWN_RECORDS
from loopcast.errors import BrokerUnavailable, LogChanged
from loopcast.position import Anchor, Position, verify
from loopcast.topology import Topology
from loopcast_gateway.blocks import BLOCK_BYTES, OVERHEAD_BYTES, Block, Blocks, last_of_block
from loopcast_gateway.entry import Entry
from loopcast_gateway.resume import Stretch

__all__ = ["History"]

READS = 8
"""Reads at the same time; each is a connection, and the broker's disk is shared. Who waits is served in turn."""

SILENCE_SECONDS = 5.0
"""A stream that gives nothing for so long, though there is something, is not there to be read."""

STEP = 500
"""Messages looked at before others get a turn on the loop: about 2 ms."""

FILTERS_FROM = (3, 13)
"""RabbitMQ's version from which on it filters a stream."""

IDLE_SECONDS = 60.0
"""For how long a block is kept that nobody asks for."""


class History:
    """
    The log of one broker, read by anybody who comes late.

    Nobody holds a read open while a viewer takes its time: a block is read to its end, and then handed out.
    """

    def __init__(self, client: Client, url: str, topology: Topology, *, name: str, cache_bytes: int) -> None:
        self._client = client
        self._url = url
        self._streams = topology.streams
        self._name = name
        self._slots = asyncio.Semaphore(READS)
        self._blocks = [Blocks(cache_bytes // topology.partitions) for _ in topology.streams]
        self._reading: dict[tuple[int, int], asyncio.Task[Block]] = {}
        self._sifting: dict[tuple[int, int, int, str], asyncio.Task[Block]] = {}
        self.reads = 0
        """How many blocks were read from the broker."""
        self.filters = False
        """Whether the broker is known to leave out what other experiments have."""

    @property
    def waiting(self) -> int:
        """How many blocks are being read or wait for their turn."""
        return len(self._reading) + len(self._sifting)

    async def read(
        self, partition: int, stretch: Stretch, *, only: str | None = None, reached: int | None = None
    ) -> AsyncGenerator[list[Entry], None]:
        """
        The events of `stretch`, in batches; some are empty.

        With `only`, the filter value of an experiment which has a message at or behind the end of `stretch`, most of
        what others have is left out where the broker can do that. `reached` is an offset that was found to be there.

        Raises:
            BrokerUnavailable: the stream does not answer.
            LogChanged: the log is not what it was when the reading began, or retention has overtaken it.
        """
        offset = stretch.start
        while not stretch.done:
            filtered = only is not None and self.filters
            if only is not None and filtered:
                try:
                    block = await self._sifted(partition, offset, stretch.until, only)
                except BrokerUnavailable:
                    # It may be that nothing is left which the filter lets pass.
                    only = None
                    continue
            else:
                block = await self._block(partition, offset, stretch.until)
            deliveries = block.since(offset)
            if reached is None and any(delivery.offset == stretch.anchor for delivery in deliveries):
                reached = stretch.anchor
            # What is filtered has holes everywhere, so that is asked about each time, and when it has been read.
            if deliveries and reached is not None and (filtered or deliveries[0].offset > reached + 1 + OWN_RECORDS):
                await self._has_kept(partition, reached)
            reached = deliveries[-1].offset if deliveries else reached
            for start in range(0, len(deliveries), STEP):
                yield stretch.feed(deliveries[start : start + STEP])
                # What is in memory would else come without a turn for anybody else.
                await asyncio.sleep(0)
            offset = block.end + 1

    async def first(self, partition: int, offset: StreamOffset) -> Delivery:
        """
        The first message from `offset` on.

        Raises:
            BrokerUnavailable: the stream does not answer.
            LogChanged: the log is not what it was when the reading began.
        """
        async with self._slots, contextlib.aclosing(self._batches(partition, offset, prefetch=1)) as batches:
            return (await anext(batches))[0]

    async def _has_kept(self, partition: int, reached: int) -> None:
        """
        Look whether the log still has what stands behind the offset `reached`.

        Raises:
            BrokerUnavailable: the stream does not answer.
            LogChanged: retention has taken some of it, which may be what was to be read.
        """
        first = await self.first(partition, "first")
        if first.offset > reached + 1 + OWN_RECORDS:
            stream = self._streams[partition]
            raise LogChanged(f"{stream} has lost what stood behind offset {reached}.", reason=Anchor.TRUNCATED)

    def forget(self, partition: int) -> None:
        """The partition's log is another one: nothing that was read of it counts."""
        self._blocks[partition].clear()
        for key in [key for key in self._reading if key[0] == partition]:
            self._reading.pop(key)
        for sifted in [key for key in self._sifting if key[0] == partition]:
            self._sifting.pop(sifted)

    def forget_idle(self) -> None:
        """Let go of what nobody asked for lately, also where nobody asks for anything."""
        for blocks in self._blocks:
            blocks.forget(time.monotonic() - IDLE_SECONDS)

    async def _block(self, partition: int, offset: int, until: int) -> Block:
        """The block that has `offset`; `until` is known to be in the log."""
        blocks, now = self._blocks[partition], time.monotonic()
        found = blocks.find(offset, now)
        if isinstance(found, Block):
            return found
        key = (partition, found)
        task = self._reading.get(key)
        if task is None:
            task = self._reading[key] = asyncio.create_task(self._read_block(key, max(until, offset)))
            task.add_done_callback(lambda done: self._was_read(key, done))
        # Whoever leaves must not take the read away from the others.
        return await asyncio.shield(task)

    async def _sifted(self, partition: int, offset: int, until: int, only: str) -> Block:
        """What the filter lets pass from `offset` on, to the first message at or behind `until`, or a block's size."""
        key = (partition, offset, until, only)
        task = self._sifting.get(key)
        if task is None:
            task = self._sifting[key] = asyncio.create_task(self._sift(*key))
            task.add_done_callback(lambda done: self._was_sifted(key, done))
        return await asyncio.shield(task)

    def _was_sifted(self, key: tuple[int, int, int, str], task: asyncio.Task[Block]) -> None:
        if self._sifting.get(key) is task:
            del self._sifting[key]
        if not task.cancelled():
            # Whoever waited has it; where nobody did any more, it is no news.
            task.exception()

    async def _sift(self, partition: int, offset: int, until: int, only: str) -> Block:
        deliveries: list[Delivery] = []
        size = 0
        async with self._slots, contextlib.aclosing(self._batches(partition, offset, only=only)) as batches:
            self.reads += 1
            async for batch in batches:
                deliveries += batch
                size += sum(len(delivery.body) + OVERHEAD_BYTES for delivery in batch)
                if batch[-1].offset >= until or size > BLOCK_BYTES:
                    break
        return Block(offset, deliveries[-1].offset, deliveries)

    def _was_read(self, key: tuple[int, int], task: asyncio.Task[Block]) -> None:
        failed = task.cancelled() or task.exception() is not None
        if self._reading.get(key) is not task:
            return
        del self._reading[key]
        if not failed:
            self._blocks[key[0]].add(task.result(), time.monotonic())

    async def _read_block(self, key: tuple[int, int], until: int) -> Block:
        partition, start = key
        end = min(last_of_block(start), until)
        before = self._blocks[partition].last_before(start)
        deliveries: list[Delivery] = []
        size = 0
        begin = start if before is None else before.offset
        async with self._slots, contextlib.aclosing(self._batches(partition, begin)) as batches:
            self.reads += 1
            async for batch in batches:
                if before is not None:
                    _prove(before, batch[0], self._streams[partition])
                    before = None
                for delivery in batch:
                    if delivery.offset < start:
                        continue
                    if delivery.offset > end or size > BLOCK_BYTES:
                        # Where retention took everything, nothing is there up to what it left.
                        found = delivery.offset - 1
                        return Block(start, min(end, found) if deliveries else found, deliveries)
                    deliveries.append(delivery)
                    size += len(delivery.body) + OVERHEAD_BYTES
                if batch[-1].offset >= end:
                    return Block(start, end, deliveries)
        raise BrokerUnavailable(f"{self._streams[partition]} does not answer.")

    async def _batches(
        self, partition: int, start: StreamOffset, *, prefetch: int = 2000, only: str | None = None
    ) -> AsyncGenerator[Sequence[Delivery], None]:
        stream, name = self._streams[partition], f"{self._name} history"
        reader = LogReader(self._client, self._url, stream, name=name, prefetch=prefetch, only=only)
        async with reader, contextlib.aclosing(reader.batches(start)) as batches:
            while True:
                try:
                    async with asyncio.timeout(SILENCE_SECONDS):
                        batch = await anext(batches)
                except (TimeoutError, StopAsyncIteration):
                    raise BrokerUnavailable(f"{self._streams[partition]} does not answer.") from None
                self.filters = _filters(reader.server_version)
                yield batch


def _filters(version: str) -> bool:
    """Whether a broker of this version filters streams."""
    numbers = version.split(".")[:2]
    return all(number.isdigit() for number in numbers) and tuple(map(int, numbers)) >= FILTERS_FROM


def _prove(known: Delivery, found: Delivery, stream: str) -> None:
    """The block before and this one are of the same log, and nothing between them is lost."""
    verdict = verify(Position.of(0, known.offset, known.message_id), found.offset, found.message_id)
    if verdict is not Anchor.PROVEN:
        raise LogChanged(f"{stream} is not what it was at offset {known.offset}.", reason=verdict)
