"""Reading what was in the log before a gateway began to follow it, where no checkpoint told of it."""

from __future__ import annotations

import asyncio
import contextlib

import structlog

from loopcast.broker.interface import Client
from loopcast.broker.log import LogReader
from loopcast.errors import BrokerError
from loopcast_gateway.digest import Digest
from loopcast_gateway.entry import recorded_by
from loopcast_gateway.partition import Partition

__all__ = ["backfill"]

log = structlog.get_logger(__name__)

PREFETCH = 500
"""Less than who is live asks for: viewers come first."""


async def backfill(
    client: Client, url: str, stream: str, partition: Partition, digest: Digest, *, behind: int, name: str
) -> None:
    """
    Read on from `digest`, which tells of everything up to the offset `behind`, until it tells of all up to the tail.

    Then the partition knows the whole log. Ends without that where the log turns out to be another meanwhile.
    """
    generation = partition.generation
    log.info("backfill_begins", stream=stream, messages=partition.tail - behind)
    try:
        async with (
            LogReader(client, url, stream, name=f"{name} backfill", prefetch=PREFETCH) as reader,
            contextlib.aclosing(reader.batches(max(0, behind + 1))) as batches,
        ):
            async for deliveries in batches:
                if partition.generation != generation:
                    return
                if behind < 0:
                    digest.catalog.begin(deliveries[0].offset, recorded_by(deliveries[0]))
                    behind = 0
                tail = partition.tail
                for delivery in deliveries:
                    if delivery.offset > tail:
                        break
                    digest.read(delivery, partition.number)
                if deliveries[-1].offset >= tail:
                    partition.complete(digest)
                    log.info("backfill_ended", stream=stream, offset=tail)
                    return
                await asyncio.sleep(0)
    except BrokerError as error:
        log.warning("backfill_failed", stream=stream, reason=str(error))
