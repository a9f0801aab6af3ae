"""The SDK with a real producer and a real RabbitMQ: what an agent sends is in the log, in order, readable once."""

import asyncio
import json
from pathlib import Path

from little_loops.events import EventBus
from processes import Producer, read_log

from loopcast import LoopcastTransport
from loopcast.auth.api_keys import entry_of, make_key
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


async def test_the_trace_of_a_loop_reaches_its_readers(vhost_url, tmp_path):
    """Both halves of the context stand in the headers and in the event that a reader makes of the message."""
    parent, state = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "rojo=00f067aa0ba902b7,congo=t61r"
    with Producer(vhost_url, tmp_path / "log") as producer:
        transport = LoopcastTransport(producer.url, "traced", "run-1", traceparent=parent, tracestate=state)
        transport.send({"event": "tick"})
        await asyncio.to_thread(transport.close)
        (message,) = [m for m in await read_log(vhost_url, count=1) if m.type == "tick"]
    event = parse(message.body)

    assert (parent, state) == (message.headers["traceparent"], message.headers["tracestate"])
    assert (parent, state) == (event.traceparent, event.tracestate)


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


async def test_what_nobody_permitted_yet_waits(vhost_url, tmp_path, monkeypatch):
    """401, then 403, cost no event: all are kept and the token is named, until somebody puts the key in the file."""
    monkeypatch.setattr("loopcast.sdk.sender.pause", lambda tries, at_least, chance: 0.1)
    keys, key = tmp_path / "keys.toml", make_key()
    keys.write_text(entry_of(make_key(), "other", publish=("*",)))
    with Producer(vhost_url, tmp_path / "log", LOOPCAST_API_KEYS_FILE=str(keys)) as producer:
        transport = LoopcastTransport(producer.url, "guarded", "run-1", token=key)
        said = []
        for grant in (None, entry_of(key, "agent", publish=("other-*",)), entry_of(key, "agent", publish=("guarded",))):
            if grant is not None:
                keys.write_text(grant)
            for n in range(100):
                transport.send({"n": n})
            status = ("401", "403", "")[len(said)]
            for _ in range(200):
                if transport.stats.error.startswith(status) and (status or not transport.stats.spooled):
                    break
                await asyncio.sleep(0.05)
            said.append(transport.stats)
        report = await asyncio.to_thread(transport.close)
        messages = await read_log(vhost_url, count=300)

    assert [(100, 0), (200, 0), (0, 300)] == [(stats.spooled, stats.accepted) for stats in said]
    assert ["LOOPCAST_TOKEN" in stats.error for stats in said] == [True, True, False]
    assert (True, 0) == (report.complete, report.stats.dropped)
    assert list(range(1, 301)) == [m.headers["sequence"] for m in messages if m.headers.get("sequence")]
