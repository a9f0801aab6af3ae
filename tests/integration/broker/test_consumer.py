"""Consuming a queue over lost connections: nothing acknowledged that was not done, nothing lost, all in order."""

from __future__ import annotations

import asyncio
import contextlib

from loopcast.broker.consumer import Consumer
from loopcast.errors import LogMissing


@contextlib.asynccontextmanager
async def consuming(rig, queue, **options):
    """A consumer in a task of its own: the consumer and what it was given."""
    url = options.pop("url", rig.url)
    consumer = Consumer(rig.client, url, queue, name="c", **{"prefetch": 100, "backoff": rig.SOON, **options})
    got = []

    async def run():
        async with contextlib.aclosing(consumer.batches()) as batches:
            async for batch in batches:
                got.extend(batch)

    task = asyncio.create_task(run())
    try:
        yield consumer, got
    finally:
        await consumer.close()
        await task


def ids(deliveries):
    return [d.message_id for d in deliveries]


def numbers(*span):
    return [str(n) for n in range(*span)]


async def test_what_is_acknowledged_is_done(rig):
    """Acknowledged messages do not come again; those that are not do, when the consumer is gone."""
    queue = await rig.queue(delivery_limit=1_000_000_000)
    await rig.fill(queue, numbers(10))
    async with consuming(rig, queue) as (consumer, got):
        await rig.eventually(lambda: len(got) == 10)
        consumer.ack(got[3].tag)
        consumer.ack(got[6].tag, multiple=False)
        await asyncio.sleep(0.2)

    async with consuming(rig, queue) as (_, again):
        await rig.eventually(lambda: len(again) == 5)

    assert ["4", "5", "7", "8", "9"] == ids(again)


async def test_an_acknowledgement_of_a_lost_connection_names_nothing(rig):
    """
    A delivery of a connection that is gone cannot be acknowledged: its tag means nothing on the new one.

    A plain tag would acknowledge another message, which would be lost.
    """
    queue = await rig.queue(delivery_limit=1_000_000_000)
    await rig.fill(queue, numbers(6))
    cable = await rig.cable()
    async with consuming(rig, queue, url=cable.url) as (consumer, got):
        await rig.eventually(lambda: len(got) == 6)
        cable.cut()
        await rig.eventually(lambda: len(got) == 12)

        consumer.ack(got[5].tag)
        await asyncio.sleep(0.2)
        consumer.ack(got[7].tag)
        await asyncio.sleep(0.2)

    assert numbers(6) * 2 == ids(got)
    assert [False] * 6 + [True] * 6 == [d.redelivered for d in got]
    assert 4 == await rig.ready(queue)


async def test_acknowledging_twice_is_acknowledging_once(rig):
    """What was spoken for is not spoken for again: the broker would close the channel."""
    queue = await rig.queue()
    await rig.fill(queue, numbers(3))
    async with consuming(rig, queue) as (consumer, got):
        await rig.eventually(lambda: len(got) == 3)
        for tag in (2, 2, 1):
            consumer.ack(got[tag - 1].tag)
        consumer.ack(got[0].tag, multiple=False)
        await rig.fill(queue, ["3"])
        await rig.eventually(lambda: len(got) == 4)

    assert (numbers(4), 0) == (ids(got), consumer.losses)


async def test_closing_gives_a_standby_everything_in_order(rig):
    """
    A single active consumer that closes hands its messages to the standby in their order.

    Regression: `basic.cancel` and `basic.nack` hand them over out of order.
    """
    queue = await rig.queue(delivery_limit=1_000_000_000, single_active_consumer=True)
    async with consuming(rig, queue, prefetch=10) as (first, got):
        await first.wait_connected()
        async with consuming(rig, queue, prefetch=10) as (standby, rest):
            await standby.wait_connected()
            await rig.fill(queue, numbers(30))
            await rig.eventually(lambda: len(got) == 10)
            first.ack(got[4].tag)
            await asyncio.sleep(0.2)
            before = list(rest)
            await first.close()
            while len(rest) < 25:
                await rig.eventually(lambda: rest)
                standby.ack(rest[-1].tag)
                await asyncio.sleep(0.01)

    assert [] == before
    assert numbers(5, 30) == ids(rest)


async def test_a_queue_that_is_not_there_is_waited_for(rig):
    """The reason says that it is missing, and the consuming begins when it is there."""
    async with consuming(rig, "a-queue-to-come") as (consumer, got):
        await rig.eventually(lambda: isinstance(consumer.reason, LogMissing))
        await rig.queue("quorum", "a-queue-to-come")
        await rig.fill("a-queue-to-come", ["a"])
        await rig.eventually(lambda: ["a"] == ids(got))


async def test_a_closed_consumer_gives_nothing(rig):
    """After `close` there is no iteration."""
    consumer = Consumer(rig.client, rig.url, "q", name="c", prefetch=1)
    async with consumer:
        pass

    assert [] == [batch async for batch in consumer.batches()]
    assert (False, 0) == (consumer.connected, consumer.losses)


async def test_an_alarm_does_not_stop_who_only_consumes(rig):
    """During a memory alarm a queue goes on being consumed and acknowledged."""
    queue = await rig.queue()
    await rig.fill(queue, numbers(100))
    async with rig.alarm(), consuming(rig, queue, prefetch=10) as (consumer, got):
        while len(got) < 100:
            await rig.eventually(lambda: got)
            consumer.ack(got[-1].tag)
            await asyncio.sleep(0.01)

    assert numbers(100) == ids(got)
