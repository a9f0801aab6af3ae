"""A reader that comes back to a log which passes over what it should still have."""

import asyncio

import pytest
from tests.support.memory_broker import MemoryBroker, Stream

from loopcast.broker import log as log_module
from loopcast.broker.log import LogReader
from loopcast.broker.supervisor import Backoff
from loopcast.errors import BrokerUnavailable, LogChanged

LOG = "loopcast.log.0"


class Forgetful(MemoryBroker):
    """Gives `forgets` consumers that ask for an offset its newest message and nothing before."""

    def __init__(self):
        super().__init__()
        self.streams[LOG] = Stream()
        self.forgets = 0.0

    async def open_consumer(self, url, queue, on_deliveries, *, offset=None, **more):
        if isinstance(offset, int) and self.forgets:
            self.forgets -= 1
            offset = self.streams[queue].messages[-1].offset
        return await super().open_consumer(url, queue, on_deliveries, offset=offset, **more)

    def cut(self):
        for link in list(self.links):
            link.end(BrokerUnavailable("killed"))


@pytest.fixture
def broker():
    """With five messages in its log."""
    made = Forgetful()
    made.fill(LOG, range(5))
    return made


async def until(condition):
    while not condition():  # noqa: ASYNC110 - the reader tells nobody
        await asyncio.sleep(0.001)


async def reading(broker, ids):
    backoff = Backoff(first=0.001, cap=0.001)
    async with LogReader(broker, "amqp://x", LOG, name="test", backoff=backoff, proof_seconds=1) as reader:
        async for batch in reader.batches("first"):
            ids.extend(delivery.message_id for delivery in batch)


async def back_after_a_kill(broker, forgets):
    """The task and the ids of a reader that read five, lost its broker, and came back to five more."""
    ids = []
    task = asyncio.create_task(reading(broker, ids))
    async with asyncio.timeout(5):
        await until(lambda: len(ids) == 5)
        broker.forgets = forgets
        broker.cut()
        broker.fill(LOG, range(5, 10))
        await until(lambda: len(ids) == 10 or task.done())
    return task, ids


@pytest.mark.parametrize("forgets", [0, 1, 7])
async def test_what_the_log_still_has_is_not_believed_lost(broker, forgets):
    """It is asked again until it gives what it has: no hole, nothing twice."""
    task, ids = await back_after_a_kill(broker, forgets)
    task.cancel()

    assert [f"m-{n}" for n in range(10)] == ids
    assert 0 == broker.forgets


async def test_it_is_not_asked_for_ever(broker, monkeypatch):
    """A log that will not give what it says that it has is taken at its deeds in the end."""
    monkeypatch.setattr(log_module, "DOUBT_SECONDS", 0.05)
    task, ids = await back_after_a_kill(broker, float("inf"))

    with pytest.raises(LogChanged, match="has lost what was read last"):
        await task
    assert 5 == len(ids)


async def test_what_retention_took_is_lost_at_once(broker):
    """A log that begins behind what was read has lost it: nothing is asked again."""
    ids = []
    task = asyncio.create_task(reading(broker, ids))
    async with asyncio.timeout(5):
        await until(lambda: len(ids) == 5)
    broker.cut()
    broker.fill(LOG, range(5, 10))
    broker.truncate(LOG, 7)

    with pytest.raises(LogChanged, match="has lost what was read last"):
        await asyncio.wait_for(task, 5)
