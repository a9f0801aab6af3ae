"""Replays of an experiment that is rare, from a broker that leaves out what others have, and from one that does not."""

import json

import pytest
from tests.support.memory_broker import MemoryBroker, Stream

from loopcast.broker.interface import Message
from loopcast.broker.log import LogReader
from loopcast.errors import BrokerUnavailable, LogChanged
from loopcast.ids import uuid7
from loopcast.position import Position
from loopcast.topology import APP_ID, Topology
from loopcast_gateway import history as history_module
from loopcast_gateway.blocks import Block
from loopcast_gateway.history import History
from loopcast_gateway.partition import Partition
from loopcast_gateway.reading import Lost, Reading

LOG = "loopcast.log.0"


class World:
    """A log in which one experiment is rare, and what a gateway knows of it."""

    def __init__(self, version):
        self.broker = MemoryBroker()
        self.broker.version = version
        self.broker.streams[LOG] = Stream()
        self.history = History(self.broker, "amqp://x", Topology(), name="test", cache_bytes=0)
        self.partition = Partition(0, ring_events=1, ring_bytes=1, ring_total_bytes=1)
        self.partition.begin(self.partition.digest, -1)
        self.rare = []

    def publish(self, experiment, number):
        headers = {"experiment": experiment, "run": "r", "emitter": "e", "recorded": 1_000_000 + number}
        headers |= {"sequence": number, "x-stream-filter-value": experiment}
        body = json.dumps({"data": {"n": number}}).encode()
        message = Message(
            exchange="", routing_key=LOG, body=body, message_id=uuid7(), type="t", headers=headers, app_id=APP_ID
        )
        self.broker.publish(message)

    async def fill(self, count, every):
        for n in range(count):
            rare = n % every == every // 2
            self.publish("rare" if rare else f"busy-{n % 7}", n)
            if rare:
                self.rare.append(n)
        async with LogReader(self.broker, "amqp://x", LOG, name="test") as reader:
            async for batch in reader.batches("first"):
                self.partition.take(batch)
                if self.partition.tail >= self.broker.streams[LOG].next - 2:
                    break
        # As a gateway that has read something knows it.
        await self.history.first(0, "first")

    async def replay(self, after=-1, *, since=0):
        reading = Reading(self.partition, self.history, "rare", after, self.partition.tail, since=since)
        found = [e async for entries in reading.batches() for e in entries if e.experiment == "rare"]
        return [json.loads(entry.envelope)["data"]["n"] for entry in found], reading


@pytest.mark.parametrize("version", ["3.10.8", "4.0.5", "4.1.0-rc.1", ""])
async def test_the_same_with_and_without_a_filter(version):
    """What a replay gives does not depend on what the broker can do; how much is read for it does."""
    world = World(version)
    await world.fill(8_000, 200)
    everything, reading = await world.replay()
    later, _ = await world.replay(since=1_000_000 + world.rare[20])
    [tenth] = [m for m in world.broker.streams[LOG].messages if m.headers["sequence"] == world.rare[10]]
    proven, _ = await world.replay(Position.of(0, tenth.offset, tenth.message_id))

    assert world.rare == everything
    assert world.rare[20:] == later[-len(world.rare[20:]) :]
    assert world.rare[11:] == proven
    assert (reading.scanned < 1500) == (version[:1] == "4")


async def test_a_position_of_others_is_proven_before_it_is_filtered():
    """A replay goes on behind a message that the filter leaves out; one of another log is noticed."""
    world = World("4.0.5")
    await world.fill(8_000, 200)
    [other] = [m for m in world.broker.streams[LOG].messages if m.headers["sequence"] == 4001]
    rest, _ = await world.replay(Position.of(0, other.offset, other.message_id))

    assert [n for n in world.rare if n > 4001] == rest
    with pytest.raises(Lost, match="epoch_changed"):
        await world.replay(Position.of(0, other.offset, "another"))


async def test_retention_is_noticed_through_the_filter():
    """Where the log has lost what the index names, the rest of it comes all the same."""
    world = World("4.0.5")
    await world.fill(8_000, 200)
    world.broker.truncate(LOG, 4_000)
    rest, _ = await world.replay()

    kept = [m.headers["sequence"] for m in world.broker.streams[LOG].messages if m.headers["experiment"] == "rare"]
    assert kept == rest
    assert world.partition.catalog.lost("rare", 0)


async def test_where_nothing_passes_the_filter_the_log_is_read(monkeypatch):
    """A log of which all that the filter would let pass is gone does not keep anybody waiting for ever."""
    monkeypatch.setattr(history_module, "SILENCE_SECONDS", 0.1)
    world = World("4.0.5")
    await world.fill(8_000, 200)
    for n in range(3000):
        world.publish("busy-1", 30_000 + n)
    world.broker.truncate(LOG, 9_000)
    rest, _ = await world.replay()

    assert [] == rest
    assert not world.history.waiting


async def test_a_read_that_fails_is_told_to_all_who_wait(monkeypatch):
    """A broker that is away is said, with and without a filter."""
    world = World("4.0.5")
    await world.fill(8_000, 200)
    monkeypatch.setattr(history_module, "SILENCE_SECONDS", 0.1)
    world.broker.up = False

    with pytest.raises(BrokerUnavailable):
        await world.replay()


@pytest.mark.parametrize("version", ["3.10.8", "4.0.5"])
@pytest.mark.parametrize("from_position", [False, True])
async def test_what_retention_takes_between_two_reads_is_not_passed_over(monkeypatch, version, from_position):
    """A viewer takes its time, and the log is shortened meanwhile: what it was not given by then is said to be lost."""
    monkeypatch.setattr(history_module, "BLOCK_BYTES", 20_000 if version == "4.0.5" else 750_000)
    world = World(version)
    await world.fill(8_000, 200)
    after = -1
    if from_position:
        [other] = [m for m in world.broker.streams[LOG].messages if m.headers["sequence"] == 150]
        after = Position.of(0, other.offset, other.message_id)
    reading = Reading(world.partition, world.history, "rare", after, world.partition.tail)
    batches = reading.batches()
    begun = []
    while not begun:
        begun += [e for e in await anext(batches) if e.experiment == "rare"]
    world.broker.truncate(LOG, 6_000)
    # What was read is kept for a minute, and for as long as others read nothing.
    world.history.forget(0)

    with pytest.raises((Lost, LogChanged)) as told:
        begun += [e async for entries in batches for e in entries if e.experiment == "rare"]
    assert "truncated" in (str(told.value), getattr(told.value, "reason", None))
    # Nothing behind the hole was handed over before it was noticed.
    shown = [json.loads(entry.envelope)["data"]["n"] for entry in begun]
    assert [n for n in world.rare if n in range(shown[0], shown[-1] + 1)] == shown
    assert shown[-1] < 6_000


async def test_what_retention_takes_during_a_filtered_read_is_not_passed_over(monkeypatch):
    """Holes say nothing where others are left out, so the log is asked when it was read."""
    world = World("4.0.5")
    await world.fill(8_000, 200)
    sift = world.history._sift

    async def overtaken(*arguments):
        block = await sift(*arguments)
        # The broker goes on behind what is gone, and says nothing.
        world.broker.truncate(LOG, 4_000)
        kept = [delivery for delivery in block.deliveries if delivery.offset < 500 or delivery.offset >= 4_000]
        return Block(block.start, block.end, kept)

    monkeypatch.setattr(world.history, "_sift", overtaken)
    with pytest.raises(LogChanged) as told:
        await world.replay()

    assert "truncated" == told.value.reason
