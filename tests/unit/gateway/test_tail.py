"""Beginning to follow a log, and going on with it, where the broker does what brokers rarely do."""

import asyncio
import contextlib
import json
import time

import pytest
from tests.support.memory_broker import MemoryBroker, Stream

from loopcast.auth import ANYBODY
from loopcast.broker.interface import Message
from loopcast.checkpoint import recovery
from loopcast.history_query import Query
from loopcast.ids import uuid7
from loopcast.metrics import GATEWAY_MISSING, Metrics
from loopcast.position import Position
from loopcast.settings import GatewaySettings
from loopcast.topology import APP_ID
from loopcast_gateway import tail
from loopcast_gateway.access import Guest
from loopcast_gateway.dialects import JSON
from loopcast_gateway.gateway import Gateway
from loopcast_gateway.instruments import Instruments

LOG = "loopcast.log.0"
EARLIEST = {"from": "earliest"}
BEGAN = time.time_ns() // 1000


class World:
    """A broker with a log, and gateways that read it."""

    def __init__(self):
        self.broker = MemoryBroker()
        self.broker.streams[LOG] = Stream()
        self.count = 0

    def publish(self, experiment, *, type_="t", skip=0, **data):
        number, self.count = self.count + skip, self.count + skip + 1
        body = json.dumps({"time": "t", "data": {"n": number, **data}}).encode()
        headers = {"experiment": experiment, "run": experiment, "emitter": "e", "sequence": number}
        headers["x-stream-filter-value"] = experiment
        if skip:
            headers["attempt"] = 1
        message = Message(
            exchange="", routing_key=LOG, body=body, message_id=uuid7(), type=type_, app_id=APP_ID,
            headers={**headers, "recorded": BEGAN + number},
        )  # fmt: skip
        self.broker.publish(message)
        return message

    @contextlib.asynccontextmanager
    async def gateway(self, **settings):
        made = Gateway(self.broker, GatewaySettings(**settings), Metrics("gateway", "0"))
        async with made.running():
            async with asyncio.timeout(10):
                await made.tails[0].ready.wait()
            yield made


class Viewer:
    """Keeps what it is sent."""

    dialect = JSON
    congested = False
    errors = 0

    def __init__(self):
        self.frames = []
        self.guest = Guest("")
        self.guest.grants = ANYBODY

    def put(self, chunk):
        while chunk:
            size, at = chunk[1], 2
            if size == 126:
                size, at = int.from_bytes(chunk[2:4], "big"), 4
            self.frames.append(json.loads(chunk[at : at + size]))
            chunk = chunk[at + size :]

    def say(self, frame):
        self.put(JSON.frame(frame))

    def wait_for_more(self, milliseconds):
        pass

    async def until(self, kind):
        async with asyncio.timeout(10):
            while not any(frame["type"] == kind for frame in self.frames):  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    def numbers(self):
        return [frame["event"]["data"]["n"] for frame in self.frames if frame["type"] == "event"]


def follow(gateway, **asked):
    viewer = Viewer()
    gateway.sessions.received(viewer, json.dumps({"action": "subscribe", **asked}).encode())
    return viewer


async def soon(condition):
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_start_goes_on_from_the_checkpoint():
    """What another gateway wrote down is known without reading it again, and repeats of it are known for such."""
    world = World()
    for n in range(300):
        again = world.publish("ab"[n % 2])
    world.publish("run", type_="loop_start", loop="l")
    async with world.gateway() as first:
        await first.tails[0].write_checkpoint()
        known = first.tails[0].partition.catalog.listing(0)
    world.publish("a")
    world.broker.publish(again)
    world.broker.opened.clear()
    async with world.gateway(replay_max_scan=20) as second:
        partition = second.tails[0].partition
        assert partition.whole
        assert {"loopcast-gateway backfill"}.isdisjoint(world.broker.opened)
        await soon(lambda: second.tails[0].partition.repeats)
        viewer = follow(second, experiment_id="a", **EARLIEST, snapshot=True)
        await viewer.until("caught_up")
        listed = {one.experiment_id: one.events for one in partition.catalog.listing(0)}

    assert [150, 150, 1] == sorted((one.events for one in known), reverse=True)
    assert {"a": 151, "b": 150, "run": 1} == listed
    assert [*range(0, 300, 2), 301] == viewer.numbers()
    assert ["l"] == [run.loop for run in second.open_runs("*")]


async def test_what_never_came_is_told_by_who_is_there():
    """A hole counts at the gateways that followed the log then; those that start later know it of the run."""
    world = World()
    world.publish("a", type_="loop_start", loop="l")
    async with world.gateway() as first:
        world.publish("a", skip=3)
        await soon(lambda: first.tails[0].missing)
        Instruments(metrics := Metrics("gateway", "0")).report(first)
    async with world.gateway() as second:
        known = [run.missing for run in second.open_runs("*")]

    assert 3 == metrics.registry.get_sample_value(GATEWAY_MISSING.name)
    assert ([3], 0) == (known, second.tails[0].missing)


async def test_a_log_without_a_checkpoint_is_known_after_a_while():
    """Ready after the end of a long log, a gateway reads the rest beside it, and then has seen each event once."""
    world = World()
    world.publish("old", type_="loop_start", loop="l")
    for n in range(6000):
        world.publish(f"noise-{n % 5}")
    async with world.gateway(replay_max_scan=500) as gateway:
        partition = gateway.tails[0].partition
        live = follow(gateway, experiment_id="*")
        world.publish("old")
        await soon(lambda: partition.whole)
        await soon(lambda: live.numbers() == [6001])
        viewer = follow(gateway, experiment_id="old", **EARLIEST)
        await viewer.until("caught_up")

    assert 6002 == sum(one.events for one in partition.catalog.listing(0))
    assert [0, 6001] == viewer.numbers()
    assert [6001] == live.numbers()


@pytest.mark.parametrize("change", ["truncated", "deleted"])
async def test_a_checkpoint_of_a_log_that_is_gone_is_not_used(change):
    """Where the log does not prove the checkpoint's position, it is read from its beginning, and written down anew."""
    world = World()
    for _ in range(300):
        world.publish("old")
    async with world.gateway() as first:
        await first.tails[0].write_checkpoint()
    if change == "deleted":
        world.broker.delete(LOG)
        world.broker.streams[LOG] = Stream()
    else:
        world.broker.truncate(LOG, world.broker.streams[LOG].next)
    for _ in range(400):
        world.publish("new")
    listings = []
    for _ in range(2):
        async with world.gateway() as gateway:
            listings.append([(one.experiment_id, one.events) for one in gateway.tails[0].partition.catalog.listing(0)])
            await gateway.tails[0].write_checkpoint()

    assert [[("new", 400)]] * 2 == listings


async def test_retention_is_followed_by_the_checkpoint():
    """What retention took is in no later checkpoint, nor is an experiment that has nothing left."""
    world = World()
    for name in ("old", "new"):
        for _ in range(1500):
            world.publish(name)
    async with world.gateway() as gateway:
        world.broker.truncate(LOG, 1600)
        await gateway.tails[0].write_checkpoint()
        listed = [one.experiment_id for one in gateway.tails[0].partition.catalog.listing(0)]
        viewer = follow(gateway, experiment_id="*", **EARLIEST)
        await viewer.until("caught_up")

    assert ["new"] == listed
    assert [] == [frame for frame in viewer.frames if frame["type"] == "gap"]
    assert 2999 == viewer.numbers()[-1]


async def test_a_viewer_that_knows_more_than_its_gateway_sees_nothing_twice():
    """
    Who comes from another gateway, which was further in the log, gets what stands behind its position and nothing else.

    Regression: after a restart of the broker one gateway may read on seconds before the other.
    """
    world = World()
    for _ in range(20):
        world.publish("a")
    async with world.gateway() as gateway:
        [reader] = [link for link in world.broker.links if link.name == "loopcast-gateway"]
        reader.silent = True
        for _ in range(10):
            world.publish("a")
        last = world.broker.streams[LOG].messages[-1]
        viewers = [
            follow(gateway, experiment_id=experiment, resume=str(Position.of(0, last.offset, last.message_id)), **more)
            for experiment in ("a", "*")
            for more in ({}, {"limit": 100})
        ]
        await asyncio.sleep(0.1)
        reader.silent = False
        reader.wake()
        for viewer in viewers:
            await viewer.until("caught_up")
        world.publish("a")
        for viewer in viewers:
            await viewer.until("event")

    assert [True] * 4 == [viewer.frames[0]["recovered"] for viewer in viewers]
    assert [[30]] * 4 == [viewer.numbers() for viewer in viewers]


@pytest.mark.parametrize("which", range(4))
async def test_a_consumer_that_is_dead_from_the_start_is_opened_anew(monkeypatch, which):
    """A gateway of which a consumer gives nothing at the start, though its connection stands, gets ready by another."""
    monkeypatch.setattr(tail, "PUBLISH_SECONDS", 0.2)
    monkeypatch.setattr(tail, "RETRY_SECONDS", 0.05)
    monkeypatch.setattr(tail, "HEARTBEAT_SECONDS", 0.1)
    monkeypatch.setattr(tail, "SILENT_SECONDS", 0.5)
    monkeypatch.setattr(recovery, "SILENT_SECONDS", 0.2)
    world = World()
    world.publish("a")
    opened = world.broker.open_consumer
    opened_so_far = []

    async def one_is_dead(*args, **options):
        link = await opened(*args, **options)
        link.silent = len(opened_so_far) == which
        opened_so_far.append(link)
        return link

    monkeypatch.setattr(world.broker, "open_consumer", one_is_dead)
    async with world.gateway() as gateway:
        listed = [one.experiment_id for one in gateway.tails[0].partition.catalog.listing(0)]

    assert ["a"] == listed
    assert len(opened_so_far) > 4


async def test_a_consumer_that_is_silently_dead_is_found_out(monkeypatch):
    """A consumer that gets nothing over a connection that stands is opened anew, and nothing is missing."""
    monkeypatch.setattr(tail, "HEARTBEAT_SECONDS", 0.05)
    monkeypatch.setattr(tail, "SILENT_SECONDS", 0.15)
    world = World()
    async with world.gateway() as gateway:
        viewer = follow(gateway, experiment_id="*")
        world.publish("a")
        await soon(lambda: viewer.numbers() == [0])
        [dead] = [link for link in world.broker.links if link.name == "loopcast-gateway"]
        dead.silent = True
        for _ in range(5):
            world.publish("a")
        await soon(lambda: len(viewer.numbers()) == 6)

    assert list(range(6)) == viewer.numbers()
    assert 1 == gateway.tails[0].silences


async def test_history_waits_for_a_broker_that_comes_back():
    """Who asks for history while the broker is away gets it when it is back, not a hole."""
    world = World()
    for _ in range(300):
        world.publish("a")
    async with world.gateway(ring_events=1) as gateway:
        world.broker.up = False
        viewer = follow(gateway, experiment_id="a", **EARLIEST)
        await asyncio.sleep(0.1)
        assert [] == viewer.numbers()
        world.broker.up = True
        await viewer.until("caught_up")

    assert list(range(300)) == viewer.numbers()
    assert [] == [frame for frame in viewer.frames if frame["type"] == "gap"]


@pytest.mark.parametrize(("version", "reason"), [("3.10.8", "limit"), ("4.0.5", None)])
async def test_what_the_broker_leaves_out_is_not_counted(version, reason):
    """What one replay may read is what comes to be read: a rare experiment is within reach where the broker filters."""
    world = World()
    world.broker.version = version
    mine = []
    for n in range(5000):
        if n % 250 == 0:
            mine.append(world.count)
        world.publish("noise" if n % 250 else "mine")
    async with world.gateway(ring_events=1, replay_max_scan=1500) as gateway:
        [first] = [m for m in world.broker.streams[LOG].messages if m.headers.get("sequence") == mine[0]]
        await soon(lambda: gateway.tails[0].partition.whole)
        resumed = follow(gateway, experiment_id="mine", resume=str(Position.of(0, first.offset, first.message_id)))
        await resumed.until("subscribed")
        earliest = follow(gateway, experiment_id="mine", **EARLIEST)
        await earliest.until("caught_up")
        if reason is None:
            await resumed.until("caught_up")

    answers = [next(f for f in viewer.frames if f["type"] == "subscribed") for viewer in (resumed, earliest)]
    assert [reason, reason] == [answer.get("reason") for answer in answers]
    if reason is None:
        assert (mine[1:], mine) == (resumed.numbers(), earliest.numbers())
    else:
        assert mine[-6:] == earliest.numbers()


async def test_pages_from_either_end_say_where_they_go_on():
    """Every page of a log in which the experiment is rare, bounded in what it reads, leads to the next."""
    world = World()
    mine = []
    for n in range(3000):
        if n % 97 == 0:
            mine.append(world.count)
            world.publish("mine")
        world.publish("noise")
    async with world.gateway(ring_events=1, replay_max_scan=200) as gateway:
        pages, found = gateway.pages[0], {}
        for order in ("oldest", "newest"):
            query, seen, count = Query(order=order, limit=7), [], 0
            while True:
                page = await pages.page("mine", query)
                count += 1
                seen += [json.loads(entry.envelope)["data"]["n"] for entry in page.entries]
                if page.complete:
                    break
                place = {0: Position.parse(page.next)}
                query = Query(order=order, limit=7, **{"after" if order == "oldest" else "before": place})
                assert count < 100
            found[order] = seen

    assert mine == found["oldest"]
    assert mine[::-1] == found["newest"]


async def test_the_newest_come_from_the_stream_too():
    """Where the rings hold fewer than were asked for, the newest so many come from the stream, all of them."""
    world = World()
    for _ in range(23):
        world.publish("a")
    async with world.gateway(ring_events=3) as gateway:
        viewer = follow(gateway, experiment_id="a", **{"from": "last"}, limit=5, snapshot=True)
        await viewer.until("caught_up")

    assert list(range(18, 23)) == viewer.numbers()
