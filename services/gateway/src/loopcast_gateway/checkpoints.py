"""What gateways write down of a partition for each other, and what one that starts can use of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog

from loopcast.broker.interface import Client, Delivery, StreamOffset
from loopcast.broker.publisher import Publisher
from loopcast.checkpoint.record import Record
from loopcast.checkpoint.shared import SharedCheckpoint
from loopcast.position import Anchor, verify
from loopcast_gateway.digest import FORMAT, Digest
from loopcast_gateway.entry import recorded_by
from loopcast_gateway.partition import Partition

__all__ = ["Checkpoints", "First", "is_due"]

log = structlog.get_logger(__name__)

READER = "gateway"
EVENTS = 20_000
"""Events after which a checkpoint is due before its time: about as many as are read in two seconds at a start."""

First = Callable[[int, StreamOffset], Awaitable[Delivery]]
"""Reads the first message of a partition from an offset on."""


def is_due(partition: Partition, *, waited: float, seconds: float) -> bool:
    """Whether somebody should write one, `waited` seconds after the last that this process knows of."""
    return partition.whole and partition.fresh > 0 and (waited >= seconds or partition.fresh >= EVENTS)


class Checkpoints:
    """The checkpoint of one partition, as one gateway reads and writes it."""

    def __init__(
        self, client: Client, url: str, publisher: Publisher, partition: Partition, *, first: First, name: str
    ) -> None:
        self._shared = SharedCheckpoint(client, url, publisher, READER, partition.number, name=name, form=FORMAT)
        self._partition = partition
        self._first = first
        self.written = 0
        """How many were written."""

    @property
    def size(self) -> int:
        """Bytes of the last one that was written."""
        return self._shared.size

    async def recall(self, head: int) -> tuple[Digest, int] | None:
        """
        What is known of the log up to an offset, proven by the log, which reaches to `head`; None where nothing is.

        Raises:
            BrokerError: the broker does not answer.
        """
        record = await self._shared.recall()
        if record is None:
            return None
        if not await self._proven(record, head):
            log.warning("checkpoint_of_another_log", partition=self._partition.number, position=record.token)
            self._shared.begin_epoch()
            return None
        try:
            digest = Digest.load(record.parts)
        except ValueError as error:
            log.warning("checkpoint_unreadable", partition=self._partition.number, reason=str(error))
            return None
        position = record.position
        assert position is not None
        return digest, position.offset

    async def write(self) -> int | None:
        """
        Write down what the partition is known to hold now; up to which offset. None where nothing was written.

        Raises:
            BrokerError: it may or may not have been written.
        """
        partition, number = self._partition, self._partition.number
        generation = partition.generation
        first = await self._first(number, "first")
        if partition.generation != generation or partition.pos is None or not partition.whole:
            return None
        partition.catalog.cut(first.offset, recorded_by(first))
        offset, token, parts = partition.tail, partition.pos, partition.digest.dump()
        try:
            await self._shared.append(token, parts)
        except ValueError as error:
            log.warning("checkpoint_too_large", partition=number, reason=str(error))
            return None
        self.written += 1
        return offset

    async def _proven(self, record: Record, head: int) -> bool:
        position = record.position
        if position is None or position.offset > head:
            return False
        found = await self._first(self._partition.number, position.offset)
        return verify(position, found.offset, found.message_id) is Anchor.PROVEN
