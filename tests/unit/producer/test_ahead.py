"""A stream of lines goes on while earlier ones are confirmed, and stops at the first that is not taken."""

import asyncio

import pytest
from ingest_bench import Bench, event, tick

from loopcast.broker.interface import Settlement
from loopcast.errors import BrokerBlocked, LogMissing, WindowFull
from loopcast_producer import ahead as module
from loopcast_producer.ahead import Ahead
from loopcast_producer.receipt import Receipt


@pytest.fixture
def small(monkeypatch):
    """Three batches of 10 bytes may be ahead."""
    monkeypatch.setattr(module, "AHEAD_BYTES", 30)
    monkeypatch.setattr(module, "ENVELOPE_BYTES", 0)


async def publish(ahead, *indexes):
    for index in indexes:
        await ahead.publish([event(index=index)], 10, named=True)


async def confirmed(ahead, bench):
    """The end of the stream, with a broker that confirms all."""
    settling = asyncio.create_task(ahead.settle())
    await tick()
    bench.link.confirm()
    await settling


async def test_the_next_is_published_before_the_last_is_confirmed(small):
    """As many as the bound allows are on their way, in order; the one after waits for the first."""
    async with Bench() as bench:
        ahead = Ahead(bench.ingest, receipt := Receipt.empty())
        await publish(ahead, 0, 1, 2)
        fourth = asyncio.create_task(publish(ahead, 3))
        await tick()
        assert (4, False, 0) == (len(bench.link.messages), fourth.done(), receipt.accepted)
        bench.link.confirm(1)
        await fourth
        assert 1 == receipt.accepted
        await confirmed(ahead, bench)

    assert [event(index=n).id for n in range(4)] == [m.message_id for m in bench.link.messages]
    assert [event(index=n).id for n in range(4)] == [result.id for result in receipt.events]


async def test_nothing_is_published_behind_what_was_not_taken(small):
    """A batch that the broker does not take ends the stream at once; those before it have their results."""
    async with Bench() as bench:
        ahead = Ahead(bench.ingest, receipt := Receipt.empty())
        await publish(ahead, 0, 1)
        bench.link.blocked = "low on disk"
        blocked = asyncio.create_task(publish(ahead, 2))
        bench.link.confirm(2)
        bench.link.confirm(1)
        with pytest.raises(BrokerBlocked, match="low on disk"):
            await blocked
        await ahead.settle()

    assert (2, 2) == (len(bench.link.messages), receipt.accepted)


async def test_the_end_waits_for_all_and_names_the_first_fault(small):
    """Where one in the middle is returned, those behind it are reported all the same."""
    async with Bench() as bench:
        ahead = Ahead(bench.ingest, receipt := Receipt.empty())
        await publish(ahead, 0, 1, 2)
        bench.link.confirm(1)
        bench.link.confirm(2, Settlement.RETURNED)
        bench.link.confirm(3)
        with pytest.raises(LogMissing):
            await ahead.settle()

    assert 2 == receipt.accepted


async def test_small_events_do_not_fill_the_window():
    """What counts is the room that an event takes, envelope and all: lines of a few bytes are many."""
    async with Bench() as bench:
        ahead = Ahead(bench.ingest, receipt := Receipt.empty())
        task = asyncio.create_task(publish(ahead, *range(5000)))
        await tick()
        assert len(bench.link.messages) < 2500
        while not task.done():
            bench.link.confirm()
            await tick()
        await confirmed(ahead, bench)

    assert 5000 == receipt.accepted


async def test_a_window_that_is_full_of_its_own_is_waited_for():
    """A small window makes a stream slow and not impossible; one that others fill refuses, as for any request."""
    async with Bench(window_bytes=3000) as bench:
        ahead = Ahead(bench.ingest, receipt := Receipt.empty())
        task = asyncio.create_task(publish(ahead, *range(20)))
        await tick()
        assert 0 < len(bench.link.messages) < 5
        while not task.done():
            bench.link.confirm()
            await tick()
        await confirmed(ahead, bench)
        _, other = bench.begin(*(event("other", index) for index in range(3)), named=True)
        await tick()
        with pytest.raises(WindowFull):
            await publish(ahead, 20)
        bench.link.confirm()
        await other

    assert 20 == receipt.accepted


async def test_nothing_is_begun_for_nothing():
    """A piece without a whole line publishes nothing, and waits for nothing."""
    async with Bench() as bench:
        ahead = Ahead(bench.ingest, Receipt.empty())
        await ahead.publish([], 10, named=True)
        await ahead.settle()

    assert [] == bench.link.messages
