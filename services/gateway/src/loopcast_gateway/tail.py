"""
Following one partition to its end: what makes events live.

A broker cannot be asked where a stream ends. So this publishes a heartbeat straight into the stream, sees it come back,
and knows: what stands before it is history, what comes after it is live, and an offset beyond it is of another log.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence

import structlog

from loopcast.broker.interface import Client, Delivery, Message
from loopcast.broker.log import LogReader
from loopcast.broker.publisher import Publisher
from loopcast.errors import BrokerError, LogChanged
from loopcast.ids import uuid7
from loopcast.topology import APP_ID, HEARTBEAT
from loopcast_gateway.entry import Entry
from loopcast_gateway.partition import Partition
from loopcast_gateway.protocol import Reason

__all__ = ["Tail"]

log = structlog.get_logger(__name__)

HEARTBEAT_SECONDS = 10.0
PUBLISH_SECONDS = 5.0
RETRY_SECONDS = 1.0

OnEntries = Callable[[Partition, Sequence[Entry]], None]
OnGap = Callable[[Partition, str], None]


class Tail:
    """
    The reader of one partition, for as long as the process lives.

    `on_entries` gets what is new, in order, as soon as it came; `on_gap` is called when the log turns out to be another
    or to have lost what was read last, after `partition` has found its end anew.
    """

    def __init__(
        self,
        client: Client,
        url: str,
        stream: str,
        partition: Partition,
        *,
        name: str,
        backlog: int,
        on_entries: OnEntries,
        on_gap: OnGap,
    ) -> None:
        self._client = client
        self._url = url
        self._stream = stream
        self._name = name
        self._backlog = backlog
        self._on_entries = on_entries
        self._on_gap = on_gap
        self._publisher = Publisher(client, url, name=f"{name} heartbeat")
        self._reader: LogReader | None = None
        self._awaited: dict[str, asyncio.Future[int]] = {}
        self.partition = partition
        self.ready = asyncio.Event()
        """Set while the end of the log is known and followed."""

    @property
    def connected(self) -> bool:
        """Whether the stream is being read now."""
        return self._reader is not None and self._reader.connected

    @property
    def losses(self) -> int:
        """How many connections of the present reader were lost."""
        return 0 if self._reader is None else self._reader.losses

    async def run(self) -> None:
        """Follow the partition until cancelled."""
        async with self._publisher:
            heartbeats = asyncio.create_task(self._beat())
            reason: str | None = None
            try:
                while True:
                    try:
                        await self._follow(reason)
                    except BrokerError as error:
                        reason = error.reason if isinstance(error, LogChanged) else Reason.UNAVAILABLE
                        log.warning("log_lost", stream=self._stream, reason=str(error))
                    self.ready.clear()
                    self.partition.reset()
                    await asyncio.sleep(RETRY_SECONDS)
            finally:
                heartbeats.cancel()

    async def mark(self, timeout: float) -> int:
        """
        The offset of a heartbeat sent now: whatever was in the log when this was called stands before it.

        Raises:
            TimeoutError: it did not come back in time.
            BrokerError: it could not be sent.
        """
        id_ = uuid7()
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._awaited[id_] = future
        try:
            async with asyncio.timeout(timeout):
                await self._publisher.wait_connected()
                await self._publisher.publish([self._heartbeat(id_)], timeout=timeout)
                return await future
        finally:
            del self._awaited[id_]

    async def _follow(self, reason: str | None) -> None:
        head = await self._find_head()
        # Never before the first: the broker answers an offset that is gone with the first that is not.
        start = max(0, head - self._backlog)
        self.partition.whole = start == 0
        async with LogReader(self._client, self._url, self._stream, name=self._name) as reader:
            self._reader = reader
            async with contextlib.aclosing(reader.batches(start)) as batches:
                async for deliveries in batches:
                    self._take(deliveries, head, reason)

    def _take(self, deliveries: Sequence[Delivery], head: int, reason: str | None) -> None:
        entries = self.partition.take(deliveries)
        if self.ready.is_set():
            self._on_entries(self.partition, entries)
        elif self.partition.tail >= head:
            # Whoever subscribes from here on finds what was read so far in the rings or the stream.
            self.ready.set()
            if reason is not None:
                self._on_gap(self.partition, reason)
        self._wake(deliveries)

    def _wake(self, deliveries: Sequence[Delivery]) -> None:
        if self._awaited:
            for delivery in deliveries:
                future = self._awaited.get(delivery.message_id)
                if future is not None and not future.done():
                    future.set_result(delivery.offset)

    async def _find_head(self) -> int:
        """The offset of a heartbeat of now, by a reader that sees nothing older."""
        async with LogReader(self._client, self._url, self._stream, name=f"{self._name} head") as reader:
            self._reader = reader
            tasks = asyncio.create_task(self._watch(reader)), asyncio.create_task(self._seek(reader))
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                watching, seeking = tasks
                if watching.done():
                    await watching
                return await seeking
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch(self, reader: LogReader) -> None:
        async with contextlib.aclosing(reader.batches("next")) as batches:
            async for deliveries in batches:
                self._wake(deliveries)

    async def _seek(self, reader: LogReader) -> int:
        while True:
            await reader.wait_connected()
            try:
                return await self.mark(PUBLISH_SECONDS)
            except (TimeoutError, BrokerError) as error:
                log.warning("heartbeat_lost", stream=self._stream, reason=str(error) or "it did not come back")
                await asyncio.sleep(RETRY_SECONDS)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            if self._publisher.connected and self.ready.is_set():
                with contextlib.suppress(BrokerError):
                    await self._publisher.publish([self._heartbeat(uuid7())], timeout=PUBLISH_SECONDS)

    def _heartbeat(self, id_: str) -> Message:
        return Message(exchange="", routing_key=self._stream, body=b"{}", message_id=id_, type=HEARTBEAT, app_id=APP_ID)
