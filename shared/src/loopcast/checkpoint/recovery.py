"""
What a new holder of a lease begins with: the newest record, and an epoch above every one before.

A stream does not say where it ends. So the holder first appends a mark of its own, and has read all there is when it
sees it again. Records are few and the newest stand right before the mark; only where there is none among the last ones
is the whole stream read, which is 32 MB at most.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from loopcast.broker.interface import Client, Delivery, StreamOffset
from loopcast.broker.log import LogReader
from loopcast.checkpoint.record import Record, choose
from loopcast.errors import BrokerUnavailable

if TYPE_CHECKING:
    from loopcast.checkpoint.lease import Lease

__all__ = ["read_until", "take_over"]

LAST_RECORDS = 32
READ_SECONDS = 30.0
SILENT_SECONDS = 5.0
"""A consumer that gives nothing for so long, though the mark is to come, is dead and is opened anew."""


async def take_over(client: Client, url: str, lease: Lease, form: str, *, name: str) -> Record:
    """
    Begin a new epoch: the record that counts, as this holder's own; without parts where there is none.

    Raises:
        BrokerUnavailable: the lease or the connection went meanwhile.
    """
    mark = await lease.write(Record(epoch=0))

    async def read(start: StreamOffset) -> list[Delivery]:
        return await read_until(client, url, lease.stream, start, mark, name=name)

    last = await read("last")
    deliveries = await read(max(0, last[0].offset - LAST_RECORDS))
    chosen, highest = choose((d.body for d in deliveries), form)
    if chosen is None and deliveries[0].offset > 0:
        deliveries = await read("first")
        chosen, highest = choose((d.body for d in deliveries), form)
    taken = Record(epoch=highest + 1) if chosen is None else _renewed(chosen, highest + 1)
    await lease.write(taken)
    return taken


def _renewed(record: Record, epoch: int) -> Record:
    return Record(epoch, record.token, record.format, record.parts)


async def read_until(
    client: Client, url: str, stream: str, start: StreamOffset, mark: str, *, name: str
) -> list[Delivery]:
    """
    The records from `start` up to the one with the id `mark`.

    Raises:
        BrokerUnavailable: they did not come in time.
    """
    found: list[Delivery] = []
    reader = LogReader(client, url, stream, name=f"{name} checkpoint")
    try:
        async with asyncio.timeout(READ_SECONDS), reader, contextlib.aclosing(reader.batches(start)) as batches:
            renewing = asyncio.create_task(_renew(reader, found))
            try:
                async for batch in batches:
                    found.extend(batch)
                    if any(delivery.message_id == mark for delivery in batch):
                        break
            finally:
                renewing.cancel()
    except TimeoutError:
        raise BrokerUnavailable(f"The checkpoint could not be read within {READ_SECONDS:g} s.") from None
    return found


async def _renew(reader: LogReader, found: list[Delivery]) -> None:
    """Open the consumer anew each time that nothing was found for a while."""
    while True:
        before = len(found)
        await asyncio.sleep(SILENT_SECONDS)
        if len(found) == before:
            await reader.renew()
