"""
The partitions in one replica: try for a lease, work while it is held, stop at once when it is lost.

Every replica tries for every partition until it has its share of them; one that has more, because replicas came, gives
the last ones back.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import structlog

from loopcast.broker.declare import ensure
from loopcast.checkpoint.lease import Lease
from loopcast.checkpoint.members import Members
from loopcast.checkpoint.recovery import take_over
from loopcast.errors import BrokerError
from loopcast_otel_exporter.session import Session
from loopcast_otel_exporter.setup import Setup
from loopcast_otel_exporter.state import FORMAT

__all__ = ["Partition", "Partitions"]

log = structlog.get_logger(__name__)

LOOK_SECONDS = 0.5
"""How often a drain looks whether the backend is there at all."""


class Partition:
    """A partition of the log, for which this replica works or stands by."""

    def __init__(self, setup: Setup, number: int, stream: str, may: Callable[[], bool]) -> None:
        self._setup = setup
        self._number = number
        self._stream = stream
        self._may = may
        self._session: Session | None = None
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._meter = setup.instruments.connection(number)
        self.tried = asyncio.Event()
        """Set once the broker has answered, whoever holds the lease."""

        self.is_held = False
        """Whether this replica has the lease."""

    def give_back(self) -> None:
        """Give the lease back, after what was read is delivered and written down: another replica has none."""
        if self._session is not None:
            self._session.stop()

    def start(self) -> None:
        """Begin to try."""
        self._task = asyncio.create_task(self._run())

    async def drain(self) -> None:
        """Deliver what is read, write a checkpoint, and give the lease back."""
        self._stopping.set()
        if self._session is not None:
            self._session.stop()
        while self._task is not None and not self._task.done():
            await asyncio.wait([self._task], timeout=LOOK_SECONDS)
            if self._session is not None and self._session.is_failing:
                # The log has what the backend does not take, and whoever comes next sends it.
                await self.close()

    async def close(self) -> None:
        """Stop now: what was not delivered is in the log."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        settings, reason = self._setup.settings, ""
        while not self._stopping.is_set():
            try:
                if self._may():
                    await self._try()
                else:
                    # Others have it: what became of a connection for it that this replica had once says nothing now.
                    self._meter.unneeded()
                reason = ""
            except BrokerError as error:
                self._meter.down()
                if str(error) != reason:
                    log.warning("partition_given_up", partition=self._number, reason=str(error))
                reason = str(error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(settings.otel_lease_seconds):
                    await self._stopping.wait()

    async def _try(self) -> None:
        settings = self._setup.settings
        # Counted as held from here on, so that two partitions do not both take the last place of the share.
        self.is_held = True
        try:
            lease = await Lease.acquire(
                settings.amqp_url, settings.otel_reader, self._number, name=f"{self._setup.name} lease"
            )
            self.tried.set()
            self._meter.up()
            if lease is not None:
                async with lease:
                    await self._hold(lease)
        finally:
            self.is_held = False

    async def _hold(self, lease: Lease) -> None:
        """Work until the lease is lost, the work fails, or all is drained."""
        instruments = self._setup.instruments
        instruments.held(self._number, held=True)
        work = asyncio.create_task(self._work(lease))
        lost = asyncio.create_task(lease.wait_lost())
        try:
            await asyncio.wait([work, lost], return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
            else:
                raise lost.result()
        finally:
            for task in (work, lost):
                task.cancel()
            await asyncio.wait([work, lost])
            self._session = None
            instruments.held(self._number, held=False)

    async def _work(self, lease: Lease) -> None:
        setup, settings = self._setup, self._setup.settings
        topology = settings.broker_topology
        await ensure(setup.client, settings.amqp_url, topology, mode=settings.topology, name=f"{setup.name} topology")
        record = await take_over(setup.client, settings.amqp_url, lease, FORMAT, name=setup.name)
        source = "checkpoint" if record.parts else "log"
        setup.instruments.recovered(source)
        log.info("partition_taken", partition=self._number, epoch=record.epoch, source=source, position=record.token)
        self._session = Session(setup, lease, record, partition=self._number, stream=self._stream)
        if self._stopping.is_set():
            self._session.stop()
        await self._session.run()


class Partitions:
    """All partitions of the log, and this replica's share of them."""

    def __init__(self, setup: Setup) -> None:
        settings = setup.settings
        streams = settings.broker_topology.streams
        self._members = Members(settings.amqp_url, settings.otel_reader, len(streams), name=setup.name)
        self._all = [Partition(setup, number, stream, self._may_take) for number, stream in enumerate(streams)]
        self._watching: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to try for leases."""
        if len(self._all) > 1:
            self._watching = asyncio.create_task(self._members.run(self._rebalance))
        for partition in self._all:
            partition.start()

    async def wait_tried(self) -> None:
        """Wait until the broker has answered for one of them."""
        tries = [asyncio.create_task(partition.tried.wait()) for partition in self._all]
        await asyncio.wait(tries, return_when=asyncio.FIRST_COMPLETED)
        for task in tries:
            task.cancel()

    async def drain(self) -> None:
        """Deliver what is read, write checkpoints, and give the leases back."""
        await asyncio.gather(*(partition.drain() for partition in self._all))

    async def close(self) -> None:
        """Stop now."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])
        await asyncio.gather(*(partition.close() for partition in self._all))

    def _may_take(self) -> bool:
        return sum(partition.is_held for partition in self._all) < self._members.share

    def _rebalance(self) -> None:
        held = [partition for partition in self._all if partition.is_held]
        log.info("members", count=self._members.count, share=self._members.share, held=len(held))
        for partition in held[self._members.share :]:
            partition.give_back()
