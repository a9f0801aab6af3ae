"""
Following one partition to its end: what makes events live.

A start is the checkpoint and the log after it. Where there is none, or it is too far behind, the last part of the log
is read first, so that viewers need not wait, and the rest beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence

import structlog

from loopcast.broker.interface import Client, Delivery
from loopcast.broker.log import LogReader
from loopcast.broker.publisher import Publisher
from loopcast.errors import BrokerError, LogChanged
from loopcast.holes import HINT, Hole, Holes
from loopcast.telemetry import Telemetry
from loopcast_gateway.backfill import backfill
from loopcast_gateway.checkpoints import Checkpoints, First, is_due
from loopcast_gateway.digest import Digest
from loopcast_gateway.entry import Entry
from loopcast_gateway.heartbeats import HEARTBEAT_SECONDS, PUBLISH_SECONDS, Heartbeats
from loopcast_gateway.partition import Partition
from loopcast_gateway.protocol import Reason
from loopcast_gateway.resume import LEAD_IN

__all__ = ["Tail"]

log = structlog.get_logger(__name__)

RETRY_SECONDS = 1.0
LOOK_SECONDS = 1.0
SILENT_SECONDS = 3 * HEARTBEAT_SECONDS
"""A heartbeat that the broker confirmed and the reader has not seen for so long: the consumer is dead."""

WARM = 5000
"""Messages before a checkpoint that are read for the rings, so that who comes back after a restart finds them there."""

OnEntries = Callable[[Partition, Sequence[Entry]], None]
OnGap = Callable[[Partition, str], None]
OnReset = Callable[[Partition], None]


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
        checkpoint_seconds: float,
        first: First,
        on_entries: OnEntries,
        on_gap: OnGap,
        on_reset: OnReset,
        telemetry: Telemetry,
    ) -> None:
        self._client = client
        self._url = url
        self._stream = stream
        self._name = name
        self._backlog = backlog
        self._checkpoint_seconds = checkpoint_seconds
        self._on_entries = on_entries
        self._on_gap = on_gap
        self._on_reset = on_reset
        self._telemetry = telemetry
        self._publisher = Publisher(client, url, name=f"{name} heartbeat")
        self._reader: LogReader | None = None
        self._past_losses = 0
        self._heard = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self.heartbeats = Heartbeats(self._publisher, stream)
        self.checkpoints = Checkpoints(client, url, self._publisher, partition, first=first, name=name)
        self.partition = partition
        self.silences = 0
        """How often the consumer was dead and nobody said so."""
        self.missing = 0
        """How many events were numbered and never came, of those that came while this process followed the log."""
        self._holes = Holes()
        self.ready = asyncio.Event()
        """Set while the end of the log is known and followed."""

    @property
    def connected(self) -> bool:
        """Whether the stream is being read now."""
        return self._reader is not None and self._reader.connected

    @property
    def losses(self) -> int:
        """How many connections were lost, of every reader that there was and of the heartbeats'."""
        return self._past_losses + self._publisher.losses + (0 if self._reader is None else self._reader.losses)

    async def run(self) -> None:
        """Follow the partition until cancelled."""
        async with self._publisher:
            reason: str | None = None
            beside = [asyncio.create_task(self._beat()), asyncio.create_task(self._write_down())]
            for task in beside:
                task.add_done_callback(_complain)
            try:
                while True:
                    try:
                        await self._follow(reason)
                    except BrokerError as error:
                        reason = error.reason if isinstance(error, LogChanged) else Reason.UNAVAILABLE
                        log.warning("log_lost", stream=self._stream, reason=str(error))
                    self.ready.clear()
                    self.partition.reset()
                    self._on_reset(self.partition)
                    await asyncio.sleep(RETRY_SECONDS)
            finally:
                for task in (*beside, *self._tasks):
                    task.cancel()

    async def mark(self, timeout: float) -> int:
        """As :meth:`Heartbeats.mark`."""
        return await self.heartbeats.mark(timeout)

    async def write_checkpoint(self) -> None:
        """
        Write down what is known now, and tell all gateways by a heartbeat.

        Raises:
            BrokerError: the broker did not take it.
        """
        offset = await self.checkpoints.write()
        if offset is not None:
            await self.heartbeats.beat(offset)

    async def leave_checkpoint(self) -> None:
        """Write down what nobody has written yet, if that can be done now."""
        if self.connected and self.partition.whole and self.partition.fresh:
            with contextlib.suppress(BrokerError):
                await self.write_checkpoint()

    async def _follow(self, reason: str | None) -> None:
        head = await self._find_head()
        known = await self._recall(head)
        digest, behind = known or (Digest(), -1)
        if head - behind <= self._backlog:
            first = behind + 1
            start = max(0, first - WARM)
            self.partition.begin(digest, behind)
        else:
            # Never before the first: the broker answers an offset that is gone with the first that is not.
            first = max(0, head - self._backlog)
            start = max(0, first - LEAD_IN)
        async with LogReader(self._client, self._url, self._stream, name=self._name) as reader:
            self._now_by(reader)
            async with contextlib.aclosing(reader.batches(start)) as batches:
                backfilling = self.partition.whole
                async for deliveries in batches:
                    self._heard = time.monotonic()
                    news = deliveries if deliveries[0].offset >= first else self._before(deliveries, first)
                    if news:
                        with self._telemetry.reading(self._stream, news):
                            self._take(news, head, reason)
                    if self.ready.is_set() and not backfilling:
                        backfilling = True
                        self._begin_backfill(digest, behind)

    def _before(self, deliveries: Sequence[Delivery], first: int) -> Sequence[Delivery]:
        """Use messages from before the offset `first`, which are not news, to get ready; return the others."""
        split = bisect_right(deliveries, first - 1, key=lambda delivery: delivery.offset)
        (self.partition.warm if self.partition.whole else self.partition.lead_in)(deliveries[:split])
        return deliveries[split:]

    def _begin_backfill(self, digest: Digest, behind: int) -> None:
        work = backfill(self._client, self._url, self._stream, self.partition, digest, behind=behind, name=self._name)
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(_complain)
        task.add_done_callback(self._tasks.discard)

    def _now_by(self, reader: LogReader) -> None:
        self._past_losses += 0 if self._reader is None else self._reader.losses
        self._reader, self._heard = reader, time.monotonic()

    def _take(self, deliveries: Sequence[Delivery], head: int, reason: str | None) -> None:
        entries = self.partition.take(deliveries)
        self._miss(self.partition.digest.missed())
        if self.ready.is_set():
            self._on_entries(self.partition, entries)
        elif self.partition.tail >= head:
            # Whoever subscribes from here on finds what was read so far in the rings or the stream.
            self.ready.set()
            if reason is not None:
                self._on_gap(self.partition, reason)
        self.heartbeats.came(deliveries)

    async def _recall(self, head: int) -> tuple[Digest, int] | None:
        try:
            return await self.checkpoints.recall(head)
        except BrokerError as error:
            # Whoever may not make the stream, or finds another thing under its name, reads the log instead.
            log.warning("checkpoint_unavailable", stream=self._stream, reason=str(error))
            return None

    async def _find_head(self) -> int:
        """The offset of a heartbeat of now, by a reader that sees nothing older."""
        async with LogReader(self._client, self._url, self._stream, name=f"{self._name} head") as reader:
            self._now_by(reader)
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
                self.heartbeats.came(deliveries)

    async def _seek(self, reader: LogReader) -> int:
        while True:
            await reader.wait_connected()
            try:
                return await self.mark(PUBLISH_SECONDS)
            except (TimeoutError, BrokerError) as error:
                log.warning("heartbeat_lost", stream=self._stream, reason=str(error) or "it did not come back")
                if isinstance(error, TimeoutError):
                    # It may be the consumer that is dead, though its connection stands.
                    await reader.renew()
                await asyncio.sleep(RETRY_SECONDS)

    async def _beat(self) -> None:
        """Send heartbeats, and give up a reader that does not see them though its connection stands."""
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            # Until the end is reached there is something to come, a heartbeat at the least.
            silent = self.heartbeats.overdue if self.ready.is_set() else time.monotonic() - self._heard
            if not self.connected:
                self.heartbeats.forgive()
                self._heard = time.monotonic()
            elif silent > SILENT_SECONDS and self._reader is not None:
                self.silences += 1
                log.warning("consumer_silent", stream=self._stream, seconds=round(silent))
                self.heartbeats.forgive()
                self._heard = time.monotonic()
                await self._reader.renew()
            if self._publisher.connected and self.ready.is_set():
                with contextlib.suppress(BrokerError):
                    await self.heartbeats.beat()

    def _miss(self, holes: Sequence[Hole]) -> None:
        """Tell what never came, where it is news: what was before the start somebody was told then."""
        if self.ready.is_set():
            for hole in holes:
                self.missing += hole.events
                self._holes.add(hole)

    def _tell(self) -> None:
        if (missing := self._holes.due(time.monotonic())) is not None:
            log.warning(
                "events_never_came", stream=self._stream, events=missing.events, runs=missing.runs,
                experiment=missing.last.experiment, run=missing.last.run, hint=HINT,
            )  # fmt: skip

    async def _write_down(self) -> None:
        since, last = time.monotonic(), -1
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self._tell()
            if self.partition.checkpointed != last:
                since, last = time.monotonic(), self.partition.checkpointed
            waited = time.monotonic() - since
            if self.connected and is_due(self.partition, waited=waited, seconds=self._checkpoint_seconds):
                # Also where it failed, or would be too large: not again at once.
                since = time.monotonic()
                with contextlib.suppress(BrokerError):
                    await self.write_checkpoint()


def _complain(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("task_failed", exc_info=error)
