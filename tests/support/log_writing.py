"""Events put into a real log, as a producer would."""

import asyncio

from loopcast.broker.clients import client_of
from loopcast.broker.declare import ensure
from loopcast.broker.publisher import Publisher
from loopcast.routing import partition_of
from loopcast.topology import Topology
from loopcast.wire import to_message

CLIENT = client_of("loopcast")


async def publish(url, events, *, partitions=1, pause=0.0, chunk=200):
    """Put `events` into the log, in their order; `pause` is between two `chunk`s, in seconds."""
    await ensure(CLIENT, url, Topology(partitions=partitions), mode="declare", name="test")
    async with Publisher(CLIENT, url, name="test") as publisher:
        await publisher.wait_connected()
        for start in range(0, len(events), chunk):
            part = events[start : start + chunk]
            messages = [to_message(event, partition_of(event.experiment, partitions)) for event in part]
            await publisher.publish(messages, timeout=30)
            if pause:
                await asyncio.sleep(pause)
