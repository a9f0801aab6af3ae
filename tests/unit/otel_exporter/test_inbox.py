"""Between reader and folder: bounded, and nothing is lost or turned round."""

import asyncio

import pytest

from loopcast_otel_exporter.inbox import Inbox


async def test_what_comes_together_is_taken_together():
    """In the order of the calls."""
    inbox = Inbox()
    await inbox.put([1, 2])
    await inbox.put([3])

    assert [1, 2, 3] == await inbox.take(1)
    assert () == await inbox.take(0.01)


async def test_a_full_inbox_stops_the_reader():
    """Until somebody takes: what is in memory is bounded."""
    inbox = Inbox(limit=2)
    await inbox.put([1, 2])
    putting = asyncio.create_task(inbox.put([3]))
    await asyncio.sleep(0.05)

    assert not putting.done()
    assert [1, 2] == await inbox.take(1)
    await putting
    assert [3] == await inbox.take(1)


async def test_who_waits_can_be_woken():
    """To stop, without waiting for an event."""
    inbox = Inbox()
    taking = asyncio.create_task(inbox.take(60))
    await asyncio.sleep(0)
    inbox.wake()

    assert [] == await asyncio.wait_for(taking, 1)


@pytest.mark.parametrize("count", [1, 100])
async def test_nothing_is_lost_between_two_takers(count):
    """Items that come while others are taken are in the next lot."""
    inbox, taken = Inbox(limit=10), []

    async def put():
        for number in range(count):
            await inbox.put([number])

    putting = asyncio.create_task(put())
    while len(taken) < count:
        taken += await inbox.take(1)
    await putting

    assert list(range(count)) == taken
