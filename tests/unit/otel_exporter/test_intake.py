"""What the exporter reads of a log that loses something while it is read."""

import asyncio
import contextlib

import pytest
from structlog.testing import capture_logs
from tests.support.memory_broker import MemoryBroker, Stream

from loopcast.errors import BrokerUnavailable
from loopcast_otel_exporter.intake import follow

LOG = "loopcast.log.0"


@pytest.fixture
def broker():
    """With five messages in its log."""
    made = MemoryBroker()
    made.streams[LOG] = Stream()
    made.fill(LOG, range(5))
    return made


def truncate(broker):
    """Behind a reader that is away."""
    for link in list(broker.links):
        link.end(BrokerUnavailable("cut"))
    broker.fill(LOG, range(5, 10))
    broker.truncate(LOG, 7)


def make_anew(broker):
    broker.delete(LOG)
    broker.streams[LOG] = Stream()
    broker.fill(LOG, range(7, 13))


@pytest.mark.parametrize(("lose", "end", "said"), [(truncate, 10, "log_truncated"), (make_anew, 13, "log_made_anew")])
async def test_it_goes_on_with_what_is_left(broker, lose, end, said):
    """The reading does not end, so that what was read before is still exported; what is lost is said."""
    ids = []

    async def read():
        batches = follow(broker, "amqp://x", LOG, None, name="test", on_reader=lambda _: None)
        async with contextlib.aclosing(batches):
            async for batch in batches:
                ids.extend(delivery.message_id for delivery in batch)

    async def until(count):
        while len(ids) < count:  # noqa: ASYNC110 - the reading tells nobody
            await asyncio.sleep(0.001)

    with capture_logs() as logs:
        task = asyncio.create_task(read())
        async with asyncio.timeout(20):
            await until(5)
            lose(broker)
            await until(5 + end - 7)
        task.cancel()

    assert [f"m-{n}" for n in (*range(5), *range(7, end))] == ids
    assert said in [line["event"] for line in logs]
