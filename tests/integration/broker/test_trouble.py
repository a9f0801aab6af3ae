"""
Publishing, reading the log and consuming a queue, all at once, through everything that can happen to a connection.

Whatever it is: each event is in the log and in the queue, the reader gives each once and in order, and what came twice
is not more than what was in flight.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
import uuid

import pytest
import trustme

from loopcast.broker.consumer import Consumer
from loopcast.broker.declare import ensure
from loopcast.broker.interface import Settlement
from loopcast.broker.log import LogReader
from loopcast.broker.publisher import Publisher
from loopcast.errors import BrokerError, BrokerUnavailable, LogMissing
from loopcast.topology import EVENTS, Topology

CALL = 10
"""Events a call."""
IN_FLIGHT = 40
"""Calls at a time."""


class Flow:
    """A publisher of one event after the other, a reader of the log and a consumer of a queue, each on its own."""

    def __init__(self, rig, log, queue, url):
        self.rig, self.queue = rig, queue
        self.read, self.consumed = [], []
        self.published, self.calls = 0, []
        prepare = functools.partial(ensure, rig.client, rig.url, Topology(log=log), mode="declare", name="prepare")
        self.publisher = Publisher(rig.client, url, name="p", prepare=prepare, backoff=rig.SOON)
        self.reader = LogReader(rig.client, url, f"{log}.0", name="r", backoff=rig.SOON)
        self.consumer = Consumer(rig.client, url, queue, name="c", prefetch=200, backoff=rig.SOON)
        self.parts = (self.publisher, self.reader, self.consumer)

    @property
    def connected(self):
        return all(part.connected for part in self.parts)

    async def until_connected(self):
        await self.rig.eventually(lambda: self.connected, "all three connections", seconds=60)

    @contextlib.asynccontextmanager
    async def until_lost(self):
        """What the block does is over when every connection was noticed to be gone, also one that is back."""
        before = [part.losses for part in self.parts]
        yield
        await self.rig.eventually(
            lambda: all(part.losses > n for part, n in zip(self.parts, before, strict=True)),
            "the loss of all three connections",
            seconds=60,
        )

    async def publish(self, stop):
        """Publish until `stop`, many calls at a time, in the order of their numbers."""
        in_flight = set()
        while not stop.is_set():
            in_flight = {call for call in in_flight if not call.done()}
            if len(in_flight) >= IN_FLIGHT or not self.publisher.connected or self.publisher.blocked:
                await asyncio.sleep(0.002)
                continue
            call = asyncio.create_task(self._call(self.published))
            await asyncio.sleep(0)
            if call.done() and call.exception() is not None:
                assert isinstance(call.exception(), BrokerError)
                continue  # Refused at once: nothing was taken.
            self.published += CALL
            in_flight.add(call)
            self.calls.append(call)
        await asyncio.gather(*self.calls)

    async def _call(self, start):
        events = [
            self.rig.message("exp.a", str(n), exchange=EVENTS, body=b"%d" % n * 60) for n in range(start, start + CALL)
        ]
        found = await self.publisher.publish(events, timeout=90)
        assert [Settlement.CONFIRMED] * CALL == found

    async def follow(self):
        async with contextlib.aclosing(self.reader.batches("first")) as batches:
            async for batch in batches:
                self.read += batch

    async def consume(self):
        async with contextlib.aclosing(self.consumer.batches()) as batches:
            async for batch in batches:
                self.consumed += [d.message_id for d in batch]
                self.consumer.ack(batch[-1].tag)


@pytest.fixture
async def flow(lone_rig):
    """A flow through a cable, with its work under way."""
    rig, log = lone_rig, f"log-{uuid.uuid4().hex[:12]}"
    cable = await rig.cable()
    queue = await rig.queue("quorum")
    flow = Flow(rig, log, queue, f"{cable.url}?heartbeat=1")
    flow.cable = cable
    async with flow.publisher:
        await flow.publisher.wait_connected()
        channel = await rig.channel()
        await channel.queue_bind(queue, EVENTS, "#")
        await channel.close()
        following = [asyncio.create_task(flow.follow()), asyncio.create_task(flow.consume())]
        yield flow
        await asyncio.gather(flow.reader.close(), flow.consumer.close())
        await asyncio.gather(*following)


async def reset(flow):
    """Every connection ends at once, in the middle of whatever was on its way."""
    async with flow.until_lost():
        flow.cable.cut()


async def half_open(flow):
    """The cable carries nothing and says nothing: only heartbeats tell."""
    async with flow.until_lost():
        flow.cable.pull()
    flow.cable.cut()
    flow.cable.plug()


async def closed_by_an_operator(flow):
    """The broker says goodbye."""
    async with flow.until_lost():
        await flow.rig.cut()


async def channel_error(flow):
    """
    An exchange is missing that one message in the middle of the window goes to: the broker closes the channel.

    The window goes out again and again, that message in it, until the exchange is there.
    """
    losses, nowhere = flow.publisher.losses, f"missing-{uuid.uuid4().hex[:12]}"
    call = asyncio.create_task(flow.publisher.publish([flow.rig.message("a", "astray", exchange=nowhere)], timeout=60))
    await flow.rig.eventually(lambda: flow.publisher.losses > losses, "the end of the channel")
    channel = await flow.rig.channel()
    await channel.exchange_declare(nowhere, exchange_type="fanout")
    await channel.queue_bind(await flow.rig.queue("classic"), nowhere)
    await channel.close()
    with contextlib.suppress(LogMissing):  # where the exchange was there before its binding
        assert [Settlement.CONFIRMED] == await call


async def alarm(flow):
    """The broker takes nothing for a while."""
    async with flow.rig.alarm():
        await flow.rig.eventually(lambda: flow.publisher.blocked, "connection.blocked")
        await asyncio.sleep(0.5)


async def killed(flow):
    """SIGKILL of the broker."""
    # What was declared less than half a second ago may be forgotten (see test_publisher).
    await asyncio.sleep(1.5)
    async with flow.until_lost():
        await flow.rig.kill()
        await flow.rig.start()


TROUBLES = [(work, 2) for work in (reset, half_open, closed_by_an_operator, channel_error, alarm)]


@pytest.mark.parametrize(
    ("trouble", "times"), [*TROUBLES, (killed, 1), pytest.param(killed, 3, marks=pytest.mark.slow)]
)
async def test_nothing_is_lost_and_the_order_is_kept(flow, trouble, times):
    """All confirmed, all read once and in order, all consumed; twice only what was in flight."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(flow.publish(stop))
        for _ in range(times):
            await flow.until_connected()
            await asyncio.sleep(0.3)
            await trouble(flow)
        await flow.until_connected()
        await asyncio.sleep(0.3)
        stop.set()

    await judge(flow, troubles=times)


async def test_bytes_may_come_one_by_one(flow):
    """However the network cuts what is sent, in both directions, it is the same."""
    chance = random.Random(3)
    flow.cable.bites = lambda: chance.choice((1, 1, 2, 3, 7, 8, 64))
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(flow.publish(stop))
        await flow.rig.eventually(lambda: flow.published >= 400)
        stop.set()

    await judge(flow, troubles=0)


async def judge(flow, *, troubles):
    """What came out is what went in."""
    wanted = [str(n) for n in range(flow.published)]
    assert wanted
    last = wanted[-1]
    await flow.rig.eventually(lambda: flow.read and flow.read[-1].message_id == last, "the last event", seconds=60)
    await flow.rig.eventually(lambda: last in flow.consumed, "the last event in the queue", seconds=60)
    ids, offsets = [d.message_id for d in flow.read], [d.offset for d in flow.read]
    spare = troubles * IN_FLIGHT * CALL
    assert sorted(set(offsets)) == offsets
    assert wanted == list(dict.fromkeys(ids))
    assert len(ids) <= len(wanted) + spare
    assert set(wanted) == set(flow.consumed)
    # A queue gives again what was not acknowledged, and holds what was published twice.
    assert len(flow.consumed) <= len(wanted) + spare + troubles * 200


async def test_over_tls(rig, tmp_path):
    """A broker that is known by its certificate is used; one that is not is refused in a sentence."""
    authority = trustme.CA()
    paths = {"cacertfile": tmp_path / "ca.pem", "certfile": tmp_path / "cert.pem", "keyfile": tmp_path / "key.pem"}
    issued = authority.issue_cert("localhost")
    authority.cert_pem.write_to_path(paths["cacertfile"])
    issued.cert_chain_pems[0].write_to_path(paths["certfile"])
    issued.private_key_pem.write_to_path(paths["keyfile"])
    port = await listening(rig, paths)
    url = f"amqps://guest:guest@localhost:{port}/{rig.vhost}"
    queue = await rig.queue("quorum")

    async with Publisher(rig.client, f"{url}?cacertfile={paths['cacertfile']}", name="tls", backoff=rig.SOON) as p:
        await asyncio.wait_for(p.wait_connected(), 20)
        messages = [rig.message(queue, str(n), b"x" * 100_000) for n in range(20)]
        settled = await p.publish(messages, timeout=20)
    with pytest.raises(BrokerUnavailable, match="certificate"):
        await rig.client.open_publisher(url, lambda *_: None, name="stranger")

    assert [Settlement.CONFIRMED] * 20 == settled
    assert 20 == await rig.ready(queue)


async def listening(rig, paths):
    """Have the broker listen for TLS on a port that is free, until it ends."""
    if not hasattr(rig.broker, "eval"):
        pytest.skip("needs a broker of the tests' own: unset LOOPCAST_TEST_AMQP_URL")
    with contextlib.closing(await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)) as probe:
        port = probe.sockets[0].getsockname()[1]
    options = ",".join(f'{{{name},"{path}"}}' for name, path in paths.items())
    started = f"rabbit_networking:start_ssl_listener({port}, [{options}], 1)"
    await asyncio.to_thread(rig.broker.eval, started)
    return port
