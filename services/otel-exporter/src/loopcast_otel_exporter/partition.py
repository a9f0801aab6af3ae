"""
One partition in one replica: try for its lease, work while it is held, stop at once when it is lost.

Every replica tries for every partition. One that holds some waits longer before it tries for more, so that partitions
spread over the replicas as they come.
"""

from __future__ import annotations

import asyncio
import contextlib

import structlog

from loopcast.broker.declare import ensure
from loopcast.checkpoint.lease import Lease
from loopcast.checkpoint.recovery import take_over
from loopcast.errors import BrokerError
from loopcast_otel_exporter.session import Session
from loopcast_otel_exporter.setup import Setup
from loopcast_otel_exporter.state import FORMAT

__all__ = ["Partition"]

log = structlog.get_logger(__name__)


class Partition:
    """A partition of the log, for which this replica works or stands by."""

    def __init__(self, setup: Setup, number: int, stream: str) -> None:
        self._setup = setup
        self._number = number
        self._stream = stream
        self._session: Session | None = None
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.tried = asyncio.Event()
        """Set once the broker has answered, whoever holds the lease."""

    @property
    def is_held(self) -> bool:
        """Whether this replica works for it."""
        return self._session is not None

    def start(self) -> None:
        """Begin to try."""
        self._task = asyncio.create_task(self._run())

    async def drain(self) -> None:
        """Deliver what is read, write a checkpoint, and give the lease back."""
        self._stopping.set()
        if self._session is not None:
            self._session.stop()
        if self._task is not None:
            await asyncio.wait([self._task])

    async def close(self) -> None:
        """Stop now: what was not delivered is in the log."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        settings, reason = self._setup.settings, ""
        while not self._stopping.is_set():
            try:
                lease = await Lease.acquire(
                    settings.amqp_url, settings.otel_reader, self._number, name=f"{self._setup.name} lease"
                )
                self.tried.set()
                reason = ""
                if lease is not None:
                    async with lease:
                        await self._hold(lease)
            except BrokerError as error:
                if str(error) != reason:
                    log.warning("partition_given_up", partition=self._number, reason=str(error))
                reason = str(error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(settings.otel_lease_seconds):
                    await self._stopping.wait()

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
