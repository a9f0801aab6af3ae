"""The SDK with a real producer and a real RabbitMQ: what an agent sends is in the log, in order, readable once."""

import asyncio
import json
from pathlib import Path

import pytest
from little_loops.events import EventBus
from processes import Producer, read_log

from loopcast import LoopcastTransport
from loopcast.events import parse, slice_data
from loopcast.repeats import Repeats

STREAMS = Path(__file__).parents[1] / "fixtures" / "streams"


def once(messages):
    """What a reader delivers, by the rule that all readers share."""
    table = Repeats()
    return [
        parse(m.body)
        for m in messages
        if "sequence" in m.headers  # A heartbeat of the run has none.
        and not table.seen(m.headers["run"], m.headers.get("emitter"), m.headers.get("sequence"), m.message_id)
    ]


async def test_a_recorded_loop_arrives_as_it_was(vhost_url, tmp_path):
    """A real stream through little-loops' own bus is in the log unchanged, in order, as the runs that it is of."""
    lines = [json.loads(line) for line in (STREAMS / "demo-handoff-resume.jsonl").read_text().splitlines()]
    with Producer(vhost_url, tmp_path / "log") as producer:
        bus = EventBus()
        bus.add_transport(transport := LoopcastTransport(producer.url, "loops/first"))
        for event in lines:
            await asyncio.to_thread(bus.emit, event)
        await asyncio.to_thread(bus.close_transports)
        messages = await read_log(vhost_url, count=len(lines))

    assert len(lines) == transport.stats.accepted
    assert lines == [json.loads(slice_data(message.body)) for message in messages]
    assert {"loops/first"} == {message.headers["experiment"] for message in messages}
    assert list(range(1, len(lines) + 1)) == [message.headers["sequence"] for message in messages]
    assert {transport._stamper.emitter} == {message.headers["emitter"] for message in messages}


@pytest.mark.timeout(180)
async def test_kills_of_producer_and_broker_cost_nothing(broker, vhost_url, tmp_path):
    """While events flow the producer is killed twice and the broker once: each event is read once, in order."""
    producer = Producer(vhost_url, tmp_path / "log").start()
    transport = LoopcastTransport(producer.url, "chaos", "run-1")
    stop = asyncio.Event()
    sent = 0

    async def emit():
        nonlocal sent
        while not stop.is_set():
            sent += 1
            transport.send({"event": "tick", "n": sent})
            await asyncio.sleep(0.002)

    async def accepted(more):
        wanted = transport.stats.accepted + more
        for _ in range(6000):
            if transport.stats.accepted >= wanted:
                return
            await asyncio.sleep(0.01)

    try:
        emitting = asyncio.create_task(emit())
        await asyncio.sleep(2)
        for kill, start in (
            (producer.kill, producer.start),
            (broker.kill, broker.start),
            (producer.kill, producer.start),
        ):
            await accepted(100)
            await asyncio.to_thread(kill)
            await asyncio.sleep(0.3)
            await asyncio.to_thread(start)
        await accepted(100)
        stop.set()
        await emitting
        report = await asyncio.to_thread(transport.close, 60)
        messages = await read_log(vhost_url, count=sent)
    finally:
        producer.kill()

    assert report.complete
    assert (sent, sent, 0) == (report.stats.emitted, report.stats.accepted, report.stats.dropped)
    assert report.stats.retries > 0
    assert list(range(1, sent + 1)) == [json.loads(bytes(event.data))["n"] for event in once(messages)]


async def test_what_waits_is_sent_when_the_producer_comes(vhost_url, tmp_path):
    """An agent that starts before its producer loses nothing."""
    producer = Producer(vhost_url, tmp_path / "log")
    transport = LoopcastTransport(producer.url, "early")
    for n in range(2000):
        transport.send({"n": n})
    assert 2000 == transport.stats.spooled

    with producer:
        assert (await asyncio.to_thread(transport.close, 60)).complete
        messages = await read_log(vhost_url, count=2000)

    assert list(range(2000)) == [json.loads(slice_data(message.body))["n"] for message in messages]
