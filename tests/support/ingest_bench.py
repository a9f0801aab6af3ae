"""An ingest whose broker settles when a test says so."""

import asyncio

from loopcast.broker.interface import Settlement
from loopcast.broker.publisher import WINDOW_BYTES, Publisher
from loopcast.errors import LogMissing
from loopcast.metrics import Metrics
from loopcast_producer.envelopes import Origin, loop_event
from loopcast_producer.idempotency import IdempotencyWindow
from loopcast_producer.ingest import Ingest
from loopcast_producer.instruments import Instruments
from loopcast_producer.lanes import Lane
from loopcast_producer.numbering import RecordingClock
from loopcast_producer.receipt import Receipt


class Link:
    """A publishing link that keeps what was published."""

    def __init__(self, settled):
        self.settled, self.messages, self.blocked = settled, [], None

    def publish(self, messages):
        self.messages += messages

    def confirm(self, tag=None, settlement=Settlement.CONFIRMED):
        self.settled(tag or len(self.messages), tag is None, settlement)

    async def wait_closed(self):
        await asyncio.Event().wait()

    async def close(self):
        pass


class Client:
    """Gives one link."""

    link: Link

    async def open_publisher(self, _url, settled, **_):
        self.link = Link(settled)
        return self.link


class Watch:
    """A log watch that misses what a test says."""

    missing = frozenset()

    def require(self, *streams):
        raise LogMissing(f"The log {streams[0]} is not there.")


class Bench:
    """An ingest over `partitions` links."""

    def __init__(self, partitions=1, seconds=5.0, window_bytes=WINDOW_BYTES):
        self.clients = [Client() for _ in range(partitions)]
        self.publishers = [
            Publisher(client, "amqp://x", name="p", window_bytes=window_bytes) for client in self.clients
        ]
        self.watch = Watch()
        clock = RecordingClock()
        self.lanes = [
            Lane(publisher, self.watch, clock, partition=n, stream=f"loopcast.log.{n}")
            for n, publisher in enumerate(self.publishers)
        ]
        self.repeats = IdempotencyWindow(100)
        self.ingest = Ingest(self.lanes, self.repeats, Instruments(Metrics("producer", "0")), seconds=seconds)

    async def __aenter__(self):
        for publisher in self.publishers:
            await publisher.__aenter__()
            await publisher.wait_connected()
        return self

    async def __aexit__(self, *_):
        for publisher in self.publishers:
            await publisher.close()

    def begin(self, *items, named=False):
        receipt = Receipt()
        return receipt, asyncio.create_task(self.ingest.publish(items, receipt, named=named))

    @property
    def link(self):
        return self.clients[0].link


def event(key="k", index=0, experiment="e", run=None):
    return loop_event(b'{"event":"x"}', Origin(experiment=experiment, run=run, key=key), index, max_bytes=1000)


async def tick(times=5):
    for _ in range(times):
        await asyncio.sleep(0)
