"""What a Redis channel does with messages, without a Redis."""

import asyncio
import json

import pytest
from ingest_bench import Bench, event, tick

from loopcast.broker.interface import Settlement
from loopcast.metrics import Metrics
from loopcast_producer import lanes, redis_channel
from loopcast_producer.instruments import RedisInstruments
from loopcast_producer.redis_channel import RedisChannel


class Heard:
    """A channel that is this replica's turn, and what became of its messages."""

    def __init__(self, bench):
        self.metrics = Metrics("producer", "0")
        self.channel = RedisChannel(
            bench.ingest,
            RedisInstruments(self.metrics),
            url="redis://127.0.0.1:1",
            channel="events",
            amqp_url="amqp://127.0.0.1:1/",
            max_event_bytes=1_000_000,
        )
        self.say("events:loopcast", self.channel._turns.beginning)

    def say(self, channel, *messages):
        for message in messages:
            self.channel._take(channel.encode(), message.encode())

    def count(self, result):
        text = self.metrics.render().decode()
        (line,) = [line for line in text.splitlines() if f'redis_messages_total{{result="{result}"}}' in line]
        return float(line.rpartition(" ")[2])


@pytest.fixture
async def bench(monkeypatch):
    monkeypatch.setattr(redis_channel, "RESTART_SECONDS", 0.01)
    async with Bench() as bench:
        yield bench


def message(n, **more):
    return json.dumps({"type": "tick", "experiment_id": "e", "n": n, **more})


async def confirmed(bench, count):
    """Confirm until `count` messages were published."""
    for _ in range(500):
        if bench.link.messages:
            bench.link.confirm()
        if len(bench.link.messages) >= count:
            await tick()
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{len(bench.link.messages)} instead of {count}")


async def test_a_message_that_we_fail_to_read_holds_up_none(bench, monkeypatch):
    """A defect in reading costs the message that shows it, which is counted."""
    real = redis_channel.loop_event

    def fails(raw, *rest, **named):
        if b"poison" in raw:
            raise RuntimeError("a defect")
        return real(raw, *rest, **named)

    monkeypatch.setattr(redis_channel, "loop_event", fails)
    heard = Heard(bench)
    async with heard.channel.running():
        heard.say("events", message(1), message(2, poison=1), message(3))
        await confirmed(bench, 2)
        await asyncio.wait_for(heard.channel._idle.wait(), 5)

    assert (2, 1, 0) == tuple(map(heard.count, ("accepted", "invalid", "dropped")))


async def test_a_message_that_we_fail_to_publish_holds_up_none(bench, monkeypatch):
    """A defect in publishing costs the message that shows it; the others of its batch are published once."""
    real = lanes.to_message

    def fails(event, *rest):
        if b"poison" in bytes(event.data):
            raise RuntimeError("a defect")
        return real(event, *rest)

    monkeypatch.setattr(lanes, "to_message", fails)
    heard = Heard(bench)
    async with heard.channel.running():
        heard.say("events", message(1), message(2, poison=1), message(3))
        await confirmed(bench, 1)
        await confirmed(bench, 2)
        await asyncio.wait_for(heard.channel._idle.wait(), 5)

    assert (2, 1) == (heard.count("accepted"), heard.count("invalid"))
    assert 2 == len(bench.link.messages)


async def test_a_task_that_dies_begins_again(bench, monkeypatch):
    """A defect that ends the publishing of messages ends it for a moment."""
    real, died = RedisChannel._publish, []

    async def dies(self):
        if not died:
            died.append(True)
            raise RuntimeError("a defect")
        await real(self)

    monkeypatch.setattr(RedisChannel, "_publish", dies)
    heard = Heard(bench)
    async with heard.channel.running():
        heard.say("events", message(1))
        await confirmed(bench, 1)
        await asyncio.wait_for(heard.channel._idle.wait(), 5)

    assert (1, [True]) == (heard.count("accepted"), died)


async def test_a_backlog_larger_than_the_window_is_published_beside_other_events():
    """There is always an event of somebody else in the window, so it is never empty."""
    others = []
    async with Bench(window_bytes=3 * 1024 * 1024) as bench:
        heard = Heard(bench)
        async with heard.channel.running():
            heard.say("events", *(message(n, text="x" * 10_000) for n in range(400)))
            for _ in range(200):
                others.append(bench.begin(event(None, run="other"))[1])
                await tick()
                bench.link.settled(len(bench.link.messages) - 1, True, Settlement.CONFIRMED)
                await asyncio.sleep(0.01)
                if heard.channel._idle.is_set():
                    break
        bench.link.confirm()
        await asyncio.gather(*others)

    assert 400 == heard.count("accepted")
