"""What the exporter reads of a log that loses something while it is read."""

import asyncio
import contextlib
from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs
from tests.support.memory_broker import MemoryBroker, Stream

from loopcast.errors import BrokerUnavailable
from loopcast.position import Position
from loopcast_otel_exporter.intake import follow, is_unbroken

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


@pytest.mark.parametrize(
    ("after", "offsets", "certain"),
    [
        (None, (40, 41), True),
        (None, (40, 45), False),
        (9, (10, 11, 12), True),
        (9, (12, 13), True),
        (9, (10, 13), True),
        (9, (13, 14), False),
        (9, (11, 12, 15), False),
        (9, (9, 10), False),
        (9, (0, 1), False),
    ],
)
def test_offsets_say_whether_the_log_may_have_lost_something(after, offsets, certain):
    """Not where it skips what a broker takes for its own records; so where it skips more, or begins anew."""
    position = None if after is None else Position.of(0, after, "id")

    assert certain == is_unbroken(position, [SimpleNamespace(offset=offset) for offset in offsets])
