"""
Partitions shared among replicas that write to one database: each is recorded by whoever holds its lease.

The lease says who reads, so that no work is done twice. What keeps the rows right does not depend on it: the position
moves only from where the writer believes it to be, in the transaction of the rows, so that a holder that was frozen and
comes back writes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence

import structlog

from loopcast.checkpoint.lease import Lease
from loopcast.checkpoint.members import Members
from loopcast.errors import BrokerError
from loopcast_recorder.lane import Lane

__all__ = ["READER", "Shared"]

READER = "recorder"
TRY_SECONDS = 2.0

log = structlog.get_logger(__name__)

LaneOf = Callable[[int], Lane]


class Shared:
    """
    The share of the partitions that this replica records.

    Args:
        lane: makes what records a partition, anew for each time that its lease is held.
    """

    def __init__(self, url: str, partitions: int, lane: LaneOf, *, name: str, seconds: float = TRY_SECONDS) -> None:
        self._url = url
        self._name = name
        self._lane = lane
        self._seconds = seconds
        self._members = Members(url, READER, partitions, name=name)
        self._partitions = partitions
        self._held: dict[int, Lane | None] = {}
        self._stopping = asyncio.Event()
        self._answered = False
        self._reason: BrokerError | None = None
        self._stops: set[asyncio.Task[None]] = set()

    @property
    def lanes(self) -> Sequence[Lane]:
        """What records now."""
        return [lane for lane in self._held.values() if lane is not None]

    @property
    def connected(self) -> bool:
        """Whether the broker answers: it gave a lease, or said that another one has it."""
        return self._answered

    @property
    def reason(self) -> BrokerError | None:
        """Why it does not."""
        return self._reason

    async def run(self) -> None:
        """Record the share until :meth:`stop`."""
        watching = asyncio.create_task(self._members.run(self._rebalance))
        try:
            await asyncio.gather(*(self._try_again_and_again(number) for number in range(self._partitions)))
        finally:
            watching.cancel()
            await asyncio.wait([watching])

    async def stop(self) -> None:
        """End after the batches that are being written, and give the leases back."""
        self._stopping.set()
        await asyncio.gather(*(lane.stop() for lane in self.lanes))

    async def _try_again_and_again(self, number: int) -> None:
        while not self._stopping.is_set():
            if len(self._held) < self._members.share:
                # Counted as held from here on, so that two partitions do not both take the last place of the share.
                self._held[number] = None
                try:
                    await self._try(number)
                except BrokerError as error:
                    self._answered, self._reason = False, error
                    log.warning("lease_lost", partition=number, reason=str(error))
                finally:
                    self._held.pop(number, None)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), self._seconds)

    async def _try(self, number: int) -> None:
        lease = await Lease.acquire(self._url, READER, number, name=f"{self._name} lease")
        self._answered = True
        if lease is None:
            return
        async with lease:
            if self._stopping.is_set():
                return
            log.info("partition_taken", partition=number)
            await self._record(number, lease)

    async def _record(self, number: int, lease: Lease) -> None:
        self._held[number] = lane = self._lane(number)
        work, lost = asyncio.create_task(lane.run()), asyncio.create_task(lease.wait_lost())
        try:
            await asyncio.wait([work, lost], return_when=asyncio.FIRST_COMPLETED)
            if lost.done():
                raise lost.result()
        finally:
            await lane.stop()
            await asyncio.wait([work], timeout=5)
            for task in (work, lost):
                task.cancel()
            await asyncio.gather(work, lost, return_exceptions=True)

    def _rebalance(self) -> None:
        share = self._members.share
        log.info("members", count=self._members.count, share=share, held=len(self._held))
        for lane in self.lanes[share:]:
            task = asyncio.create_task(lane.stop())
            self._stops.add(task)
            task.add_done_callback(self._stops.discard)
