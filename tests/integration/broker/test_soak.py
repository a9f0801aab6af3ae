"""Hours of publishing, reading and consuming leave nothing behind in memory."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import statistics
import time
from collections import Counter, deque
from pathlib import Path

import pytest

from loopcast.broker.consumer import Consumer
from loopcast.broker.declare import ensure
from loopcast.broker.log import LogReader
from loopcast.broker.publisher import Publisher
from loopcast.errors import BrokerUnavailable
from loopcast.topology import EVENTS, Topology

SECONDS = float(os.environ.get("LOOPCAST_TEST_SOAK_SECONDS", "600"))
RATE = 2000
CALL = 20
STATM = Path("/proc/self/statm")
MEGABYTE = 1 << 20


def resident():
    """Bytes of this process that are in memory."""
    gc.collect()
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def call(publisher, events):
    """Publish until it is confirmed: a connection that goes in this very moment takes nothing."""
    while True:
        await publisher.wait_connected()
        with contextlib.suppress(BrokerUnavailable):
            return len(await publisher.publish(events, timeout=60))


async def publish(rig, publisher, counts):
    """`RATE` events a second, confirmed."""
    begin, in_flight = time.monotonic(), deque()
    for n in range(0, int(RATE * SECONDS), CALL):
        await asyncio.sleep(max(0.0, begin + n / RATE - time.monotonic()))
        events = [rig.message("e.t", str(i), b"x" * 512, exchange=EVENTS) for i in range(n, n + CALL)]
        in_flight.append(asyncio.create_task(call(publisher, events)))
        while len(in_flight) > 100 or (in_flight and in_flight[0].done()):
            counts["published"] += await in_flight.popleft()
    counts["published"] += sum(await asyncio.gather(*in_flight))


async def take(batches, count, done):
    """Count what comes, and be done with it."""
    async with contextlib.aclosing(batches):
        async for batch in batches:
            count(len(batch))
            done(batch[-1].tag)


async def watch(cable, samples):
    """Look at the memory, and cut every connection."""
    while True:
        await asyncio.sleep(SECONDS / 60)
        samples.append(resident())
        cable.cut()


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 120)
@pytest.mark.skipif(not STATM.exists(), reason="needs /proc to see how much memory is used")
async def test_memory_stays_flat(lone_rig):
    """
    2,000 events a second through all three for ten minutes, with 59 cuts of every connection: memory is flat.

    `LOOPCAST_TEST_SOAK_SECONDS` makes it longer or shorter.
    """
    rig, counts, samples = lone_rig, Counter(), []
    cable = await rig.cable()
    topology = Topology(max_bytes=512 * MEGABYTE)
    await ensure(rig.client, rig.url, topology, mode="declare", name="prepare")
    queue = await rig.queue("quorum")
    channel = await rig.channel()
    await channel.queue_bind(queue, EVENTS, "#")
    reader = LogReader(rig.client, cable.url, f"{topology.log}.0", name="r", backoff=rig.SOON)
    consumer = Consumer(rig.client, cable.url, queue, name="c", prefetch=500, backoff=rig.SOON)

    async with Publisher(rig.client, cable.url, name="p", backoff=rig.SOON) as publisher:
        taking = [
            asyncio.create_task(take(reader.batches("first"), lambda n: counts.update(read=n), lambda _: None)),
            asyncio.create_task(take(consumer.batches(), lambda n: counts.update(consumed=n), consumer.ack)),
        ]
        watching = asyncio.create_task(watch(cable, samples))
        await publish(rig, publisher, counts)
        watching.cancel()
        await rig.eventually(lambda: min(counts["read"], counts["consumed"]) >= counts["published"], seconds=60)
        await asyncio.gather(reader.close(), consumer.close())
        await asyncio.gather(*taking)

    early, late = (statistics.median(some) / MEGABYTE for some in (samples[6:18], samples[-12:]))
    print(f"{dict(counts)}, {len(samples)} cuts, {early:.1f} MiB early, {late:.1f} MiB late")
    assert int(RATE * SECONDS) == counts["published"]
    assert late - early < 8
