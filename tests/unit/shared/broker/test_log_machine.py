"""Whatever happens to a reader's links, and in which moment: it gives its log, in order, or says that it cannot."""

import asyncio
import contextlib

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.support.memory_broker import MemoryBroker, Stream

from loopcast.broker import log as log_module
from loopcast.broker.interface import Message
from loopcast.broker.log import LogReader
from loopcast.broker.resume import OWN_RECORDS
from loopcast.broker.supervisor import Backoff
from loopcast.errors import BrokerUnavailable, LogChanged

LOG = "loopcast.log.0"


@pytest.fixture(autouse=True, scope="module")
def _impatient():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log_module, "LOOK_SECONDS", 0.03)
        patch.setattr(log_module, "LATE_SECONDS", 0.01)
        yield


SOON = Backoff(first=0, cap=0)

TROUBLE = st.one_of(
    st.tuples(st.just("publish"), st.integers(1, 120)),
    st.tuples(st.just("cut"), st.just(0)),
    st.tuples(st.just("turns"), st.integers(1, 12)),
    st.tuples(st.just("away"), st.integers(1, 12)),
    st.tuples(st.just("silence"), st.just(0)),
)
LOSS = st.one_of(st.tuples(st.just("truncate"), st.integers(1, 60)), st.tuples(st.just("anew"), st.integers(0, 120)))


class Scene:
    """A log, what was ever in it, and one reader from its beginning."""

    def __init__(self, start="first"):
        self.start = start
        self.broker = MemoryBroker()
        self.broker.streams[LOG] = Stream()
        self.published, self.read = [], []
        self.lost = False

    async def run(self, steps):
        """Do the steps, then let the reader come to the end; why it gave up, if it did."""
        task = asyncio.create_task(self._read())
        for name, number in steps:
            await getattr(self, name)(number)
        try:
            async with asyncio.timeout(30):
                while not task.done() and self.read[-1:] != self.published[-1:]:  # noqa: ASYNC110 - the reader tells nobody
                    await asyncio.sleep(0.001)
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        return self.reason

    reason = None

    async def _read(self):
        patience = {"proof_seconds": 0.05, "silent_seconds": 0.03}
        async with LogReader(self.broker, "amqp://x", LOG, name="test", backoff=SOON, **patience) as reader:
            try:
                async for batch in reader.batches(self.start):
                    self.read += [delivery.message_id for delivery in batch]
            except LogChanged as changed:
                self.reason = changed.reason

    async def publish(self, count):
        for _ in range(count):
            id_ = f"m-{len(self.published)}"
            self.published.append(id_)
            self.broker.publish(Message(exchange="", routing_key=LOG, body=b"{}", message_id=id_, type="t"))

    async def cut(self, _):
        for link in list(self.broker.links):
            link.end(BrokerUnavailable("cut"))

    async def turns(self, count):
        for _ in range(count):
            await asyncio.sleep(0)

    async def away(self, count):
        self.broker.up = False
        await self.cut(0)
        await self.turns(count)
        self.broker.up = True

    async def silence(self, _):
        """Consumers that stand bring nothing any more, and nobody says so."""
        for link in self.broker.links:
            link.silent = True

    async def truncate(self, count):
        """Take `count` messages, and some more where a reader would miss no more than the broker's own records are."""
        messages = self.broker.streams[LOG].messages
        for message in messages[count:]:
            if all(not 0 < message.offset - link.next <= OWN_RECORDS for link in self.broker.links):
                self.lost = True
                self.broker.truncate(LOG, message.offset)
                return

    async def anew(self, count):
        self.lost = True
        self.broker.delete(LOG)
        self.broker.streams[LOG] = Stream()
        await self.publish(count)


@given(st.lists(TROUBLE, max_size=25), st.sampled_from(["first", 0]))
@example([("publish", 1), ("turns", 12), ("cut", 0), ("turns", 12), ("cut", 0), ("publish", 1)], "first")
@example([("turns", 12), ("silence", 0)], 0)
@settings(max_examples=150, deadline=None)
def test_lost_links_cost_nothing(steps, start):
    """A log that stays whole is given whole, in order, each message once."""
    scene = Scene(start)

    reason = asyncio.run(scene.run([*steps, ("publish", 1)]))

    assert (None, scene.published) == (reason, scene.read)


@given(st.lists(st.one_of(TROUBLE, LOSS), max_size=20))
@settings(max_examples=100, deadline=None)
def test_a_log_that_lost_something_is_never_read_as_if_it_were_whole(steps):
    """What was given is one piece of what was published; the reading ends before a hole, with its reason."""
    scene = Scene()

    reason = asyncio.run(scene.run([*steps, ("publish", 1)]))

    begun = scene.published.index(scene.read[0]) if scene.read else 0
    assert scene.published[begun : begun + len(scene.read)] == scene.read
    if reason is None:
        assert scene.published[-1] == scene.read[-1]
    else:
        assert scene.lost
        assert reason in {"truncated", "epoch_changed"}
