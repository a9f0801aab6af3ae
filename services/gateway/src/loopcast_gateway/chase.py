"""
Bringing one lane of a subscription from its beginning to the live feed.

Whatever is sent comes from the rings or the stream, never from a buffer of its own: a lane asks again and again for
what stands above its cursor, and goes live in the very step in which there is nothing left. So events that come
meanwhile cost no memory, nothing comes twice and nothing is left out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Protocol, cast

from loopcast.position import Position
from loopcast.routing import ANYWHERE
from loopcast_gateway.entry import Entry
from loopcast_gateway.frames import CHUNK_BYTES
from loopcast_gateway.history import History
from loopcast_gateway.hub import Hub, Lane, Subscription
from loopcast_gateway.partition import Partition
from loopcast_gateway.patience import patiently
from loopcast_gateway.protocol import Reason
from loopcast_gateway.reading import Lost, Reading

__all__ = ["Chase", "Patient", "parts"]

STEP = 500
"""Events of a ring sent before others get a turn on the loop: about 2 ms."""


class Patient(Protocol):
    """A viewer that can be waited for."""

    @property
    def congested(self) -> bool:
        """Whether the viewer should read before it is sent more."""
        ...

    async def room(self) -> None:
        """Wait until it has, or is gone."""
        ...


class Chase:
    """One lane on its way, from behind `begin`."""

    def __init__(
        self,
        hub: Hub,
        partition: Partition,
        history: History,
        *,
        subscription: Subscription,
        lane: Lane,
        begin: Position | int,
        max_scan: int,
    ) -> None:
        self._hub = hub
        self._partition = partition
        self._generation = partition.generation
        self._history = history
        self._subscription = subscription
        self._viewer = cast("Patient", subscription.viewer)
        self._experiment = None if subscription.experiment == ANYWHERE else subscription.experiment
        self._lane = lane
        self._place = begin
        # Twice, because a stream may grow by as much as is read of it; whoever falls behind that never arrives.
        self._budget = 2 * max_scan
        self._advance(begin.offset if isinstance(begin, Position) else begin)
        self.sent = 0
        """How many events were sent."""
        self.scanned = 0
        """How many messages of the stream were read for that."""

    async def run(self) -> None:
        """
        Send what there is until the lane is live or the subscription is over.

        Raises:
            Lost: events are missing between what was sent and what there is.
            BrokerError: the stream cannot be read.
        """
        while self._hub.active(self._subscription) and not self._lane.live:
            self._same_log()
            entries = self._partition.since(self._experiment, self._lane.cursor)
            if entries is None:
                await patiently(self._read_stream)
            elif len(entries) > STEP:
                await self._send(entries[:STEP])
                await asyncio.sleep(0)
            elif not await self._send(entries):
                self._hub.go_live(self._subscription, self._lane)

    async def _read_stream(self) -> None:
        """Send what the stream has up to what this process has read when it began."""
        until, end = self._partition.tail, self._partition.pos
        reading = Reading(self._partition, self._history, self._experiment, self._place, until)
        async for entries in reading.batches():
            if not self._hub.active(self._subscription):
                return
            self._same_log()
            await self._send(entries)
            if reading.scanned > self._budget:
                raise Lost(Reason.LIMIT)
        self._budget -= reading.scanned
        self.scanned += reading.scanned
        if end is not None:
            self._place = Position.parse(end)
        self._advance(until)

    async def _send(self, entries: Sequence[Entry]) -> bool:
        """Send those of `entries` that are this lane's to send, as the viewer reads; whether that took any waiting."""
        waited = False
        for part in parts(entries):
            if not self._hub.active(self._subscription):
                break
            self._put(part)
            if self._viewer.congested:
                await self._viewer.room()
                waited = True
        return waited

    def _put(self, entries: Sequence[Entry]) -> None:
        several, live = self._hub.partitions > 1, self._lane.origin
        viewer, dialect = self._subscription.viewer, self._subscription.viewer.dialect
        mine = self._hub.unsent(self._subscription, entries)
        for chunk in dialect.join(
            [(dialect.replayed if e.offset <= live else dialect.live)(e, several=several) for e in mine]
        ):
            viewer.put(chunk)
        self.sent += len(mine)
        self._place = entries[-1].position
        self._advance(entries[-1].offset)

    def _advance(self, offset: int) -> None:
        self._lane.cursor = max(self._lane.cursor, offset)

    def _same_log(self) -> None:
        if self._partition.generation != self._generation:
            raise Lost(Reason.EPOCH_CHANGED)


def parts(entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    """`entries` in parts of about a chunk: what is given to a viewer that may stop reading at any time."""
    start = size = 0
    for end, entry in enumerate(entries):
        if end > start and size + entry.size > CHUNK_BYTES:
            yield entries[start:end]
            start, size = end, 0
        size += entry.size
    if entries:
        yield entries[start:]
