"""
Reading the log from a place to now.

A stream cannot be asked for its end, so a mark is published straight to it (a heartbeat, which every reader skips), and
the reading ends where the mark comes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from loopcast.broker.interface import Client, Delivery, Message, StreamOffset
from loopcast.broker.log import LogReader
from loopcast.broker.publisher import Publisher
from loopcast.errors import BrokerUnavailable
from loopcast.ids import uuid7
from loopcast.topology import APP_ID, HEARTBEAT

__all__ = ["end_of", "mark", "read_until"]

PUBLISH_SECONDS = 10.0
FIND_SECONDS = 30.0
SKEW_SECONDS = 5
"""How far the broker's clock may be behind ours."""
NAME = "loopcast-webhook-forwarder end of the log"


async def mark(publisher: Publisher, stream: str) -> str:
    """
    Put a mark at the end of a stream: its id.

    Raises:
        BrokerError: it was not confirmed.
    """
    id_ = uuid7()
    message = Message(exchange="", routing_key=stream, body=b"{}", message_id=id_, type=HEARTBEAT, app_id=APP_ID)
    await publisher.publish([message], timeout=PUBLISH_SECONDS)
    return id_


async def read_until(
    client: Client, url: str, stream: str, start: StreamOffset, marked: str, *, name: str
) -> AsyncGenerator[Sequence[Delivery], None]:
    """
    What the stream has from `start` to the mark, heartbeats included, the mark left out.

    Raises:
        LogChanged: the log is not the one that it was.
    """
    async with LogReader(client, url, stream, name=name) as reader:
        async for deliveries in reader.batches(start):
            end = next((i for i, delivery in enumerate(deliveries) if delivery.message_id == marked), None)
            yield deliveries if end is None else deliveries[:end]
            if end is not None:
                return


async def end_of(client: Client, url: str, publisher: Publisher, stream: str) -> Delivery:
    """
    The end of a stream: a mark made now, with the offset that it got.

    Raises:
        BrokerError: it was not confirmed, or did not come back in time.
    """
    start = f"@{int(time.time()) - SKEW_SECONDS}"
    marked = await mark(publisher, stream)
    async with LogReader(client, url, stream, name=NAME) as reader:
        try:
            async with asyncio.timeout(FIND_SECONDS), aclosing(reader.batches(start)) as batches:
                async for deliveries in batches:
                    for delivery in deliveries:
                        if delivery.message_id == marked:
                            return delivery
        except TimeoutError:
            pass
    raise BrokerUnavailable(f"{stream} did not give back what was published to it.")
