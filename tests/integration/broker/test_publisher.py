"""Publishing over whatever happens to the connection: nothing lost, the order kept, the answer honest."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import uuid

import pytest

from loopcast.broker.declare import ensure
from loopcast.broker.interface import Settlement
from loopcast.broker.log import LogReader
from loopcast.broker.publisher import Publisher
from loopcast.errors import BrokerBlocked, BrokerUnavailable, LogMissing, WindowFull
from loopcast.topology import Topology

CONFIRMED = Settlement.CONFIRMED


@pytest.fixture
def log():
    """The name of a log that only this test has."""
    return f"log-{uuid.uuid4().hex[:12]}"


async def publisher(rig, **options) -> Publisher:
    made = Publisher(rig.client, options.pop("url", rig.url), name="p", **{"backoff": rig.SOON, **options})
    await rig.stack.enter_async_context(made)
    return made


def batch(rig, queue, start, count=10, body=b"{}"):
    return [rig.message(queue, str(n), body) for n in range(start, start + count)]


async def ids_in(rig, queue, count):
    _, inbox = await rig.consumer(queue)
    await inbox.until(count)
    return inbox.ids


async def test_calls_reach_the_broker_in_their_order(rig):
    """Concurrent callers are confirmed each, and their messages lie in the order of the calls."""
    queue = await rig.queue()
    p = await publisher(rig)
    await p.wait_connected()

    calls = [asyncio.create_task(p.publish(batch(rig, queue, n * 10), timeout=10)) for n in range(30)]

    assert [[CONFIRMED] * 10] * 30 == await asyncio.gather(*calls)
    assert [str(n) for n in range(300)] == await ids_in(rig, queue, 300)
    assert 0 == p.unconfirmed_bytes


async def test_nothing_is_taken_without_a_connection(rig):
    """Before the first connection, and after `close`, a call is refused at once."""
    p = Publisher(rig.client, "amqp://guest:guest@127.0.0.1:1/", name="p")
    async with p:
        with pytest.raises(BrokerUnavailable, match="no connection"):
            await p.publish([rig.message("q", "a")], timeout=10)
        assert (False, 0) == (p.connected, p.unconfirmed_bytes)

    with pytest.raises(BrokerUnavailable, match="closed"):
        await p.publish([rig.message("q", "a")], timeout=10)


async def test_nothing_to_publish_is_nothing(rig):
    """An empty call is answered without a broker."""
    assert [] == await Publisher(rig.client, rig.url, name="p").publish([], timeout=1)


async def test_what_is_routed_nowhere_is_a_missing_log(rig):
    """A return means that the topology is gone, and is not confirmed; the next call is judged by itself."""
    queue = await rig.queue()
    p = await publisher(rig)
    await p.wait_connected()

    with pytest.raises(LogMissing, match="routed nowhere"):
        await p.publish([rig.message(queue, "a"), rig.message("nobody", "b")], timeout=10)

    assert [CONFIRMED] == await p.publish([rig.message(queue, "c")], timeout=10)


async def test_what_a_queue_refuses_is_told_by_message(rig):
    """A rejected message is the caller's to handle; its neighbours are confirmed."""
    queue, full = await rig.queue(), await rig.queue("classic", max_length=1, overflow="reject-publish")
    p = await publisher(rig)
    await p.wait_connected()
    await p.publish([rig.message(full, "a")], timeout=10)

    said = await p.publish([rig.message(queue, "b"), rig.message(full, "c")], timeout=10)

    assert [CONFIRMED, Settlement.REJECTED] == said


async def test_a_missing_exchange_is_a_missing_log_until_it_is_there(rig):
    """The broker closes the channel each time; whoever tries again lands when the exchange is there."""
    queue = await rig.queue()
    exchange = f"x-{queue}"
    p = await publisher(rig)
    await p.wait_connected()

    with pytest.raises(LogMissing, match=exchange):
        await p.publish([rig.message(queue, "a", exchange=exchange)], timeout=0.5)
    channel = await rig.channel()
    await channel.exchange_declare(exchange, exchange_type="fanout")
    await channel.queue_bind(queue, exchange)

    async def again():
        try:
            return await p.publish([rig.message(queue, "a", exchange=exchange)], timeout=10)
        except (LogMissing, BrokerUnavailable):
            # Between two connections, or returned between the exchange and its binding.
            await asyncio.sleep(0.05)
            return await again()

    assert [CONFIRMED] == await asyncio.wait_for(again(), 20)
    assert {"a"} == set(await ids_in(rig, queue, 1))


async def test_preparing_comes_before_the_window(rig, log):
    """At every connect, the topology is made again before anything goes out: here somebody took all of it away."""
    p = await publisher(rig, prepare=preparing(rig, log))
    await p.wait_connected()
    channel = await rig.channel()
    await channel.exchange_delete("loopcast.events")

    message = rig.message("exp.a", "a", exchange="loopcast.events")

    assert [CONFIRMED] == await p.publish([message], timeout=10)


async def test_a_full_window_refuses_what_is_new(rig):
    """Unconfirmed bytes are bounded; what was taken stays taken, and there is room when it is confirmed."""
    queue = await rig.queue()
    p = await publisher(rig, window_bytes=10_000)
    await p.wait_connected()

    first = asyncio.create_task(p.publish(batch(rig, queue, 0), timeout=10))
    await asyncio.sleep(0)
    with pytest.raises(WindowFull):
        await p.publish(batch(rig, queue, 10, body=b"x" * 1000), timeout=10)

    assert [CONFIRMED] * 10 == await first
    assert [CONFIRMED] * 10 == await p.publish(batch(rig, queue, 10, body=b"x" * 1000), timeout=10)


async def test_a_caller_that_goes_leaves_its_messages_in_their_place(rig):
    """A cancelled call breaks no order and keeps nobody waiting."""
    queue = await rig.queue()
    p = await publisher(rig)
    await p.wait_connected()

    gone = asyncio.create_task(p.publish(batch(rig, queue, 0), timeout=10))
    stays = asyncio.create_task(p.publish(batch(rig, queue, 10), timeout=10))
    await asyncio.sleep(0)
    gone.cancel()

    assert [CONFIRMED] * 10 == await stays
    assert [str(n) for n in range(20)] == await ids_in(rig, queue, 20)
    assert {} == p._calls


async def test_closing_tells_who_still_waits(rig):
    """A call that the broker did not answer is told so when the publisher is closed."""
    queue = await rig.queue()
    async with rig.alarm():
        p = await publisher(rig)
        await p.wait_connected()
        call = asyncio.create_task(p.publish([rig.message(queue, "a")], timeout=60))
        await asyncio.sleep(0.1)

        await p.close()

        with pytest.raises(BrokerUnavailable, match="closed"):
            await call


async def test_an_alarm_is_told_and_what_was_sent_lands_once(rig):
    """
    A call during an alarm fails when its time is up, and yet its message lands: once, also when it is tried again.

    Regression: a publish that timed out may still have landed, so the id is kept and the retry joins it.
    """
    queue = await rig.queue()
    p = await publisher(rig)
    await p.wait_connected()

    async with rig.alarm():
        with pytest.raises(BrokerBlocked, match="takes nothing"):
            await p.publish([rig.message(queue, "a")], timeout=1)
        assert p.blocked is not None
        with pytest.raises(BrokerBlocked):
            await p.publish([rig.message(queue, "b")], timeout=60)
    await rig.eventually(lambda: p.blocked is None)

    assert [CONFIRMED] * 2 == await p.publish([rig.message(queue, "a"), rig.message(queue, "c")], timeout=10)
    assert ["a", "c"] == list(dict.fromkeys(await ids_in(rig, queue, 2)))


async def test_a_cut_connection_loses_nothing(rig, log):
    """Connections that are reset in the middle of many calls: all confirmed, first copies in order."""
    cable = await rig.cable()
    p = await log_publisher(rig, log, url=cable.url)

    async def cut():
        cable.cut()
        await rig.eventually(lambda: not p.connected)

    await drive(rig, p, log, cuts=3, cut=cut)

    assert 3 == p.losses


async def test_a_killed_broker_loses_nothing(rig, log):
    """
    SIGKILL of the broker in the middle of a window: nothing lost, order kept, only what was in flight twice.

    Regression: RabbitMQ 3.10 takes connections before it routes to its streams again, so that an event is returned, or,
    with another queue bound, confirmed and in no log. What is prepared before a connection waits for that.
    """
    await drive(rig, await log_publisher(rig, log), log, cuts=1, cut=functools.partial(kill, rig))


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_kills_lose_nothing(rig, log):
    """The same, again and again."""
    await drive(rig, await log_publisher(rig, log), log, cuts=10, cut=functools.partial(kill, rig))


def preparing(rig, log):
    return functools.partial(ensure, rig.client, rig.url, Topology(log=log), mode="declare", name="prepare")


async def log_publisher(rig, log, **options):
    """A publisher to the log as a producer has it, with a queue of somebody's own bound to the same exchange."""
    p = await publisher(rig, prepare=preparing(rig, log), **options)
    await p.wait_connected()
    other = await rig.queue("quorum")
    channel = await rig.channel()
    await channel.queue_bind(other, "loopcast.events", "#")
    return p


async def kill(rig):
    # A broker that is killed within half a second of making its first stream or quorum queue never finds it again: Ra
    # writes the list of its servers to the disk no sooner (ra_directory.erl, auto_save).
    await asyncio.sleep(1.5)
    await rig.kill()
    await rig.start()


async def drive(rig, p, log, *, cuts, cut):
    """Publish batch after batch, many in flight, while `cut` is called and a reader reads; then judge what it read."""
    event = functools.partial(rig.message, "exp.a", exchange="loopcast.events", body=b"x" * 300)
    calls, in_flight, most, n = [], set(), 0, 0

    async def cutter():
        for _ in range(cuts):
            await asyncio.sleep(0.3)
            await cut()
            await asyncio.wait_for(p.wait_connected(), 60)

    async def call(start):
        events = [event(str(i)) for i in range(start, start + 10)]
        assert [CONFIRMED] * 10 == await p.publish(events, timeout=60)

    read, reading = await following(rig, f"{log}.0")
    cutting = asyncio.create_task(cutter())
    while not cutting.done() or n < 500:
        await asyncio.wait_for(p.wait_connected(), 60)
        task = asyncio.create_task(call(n))
        await asyncio.sleep(0)
        if task.done():
            # Refused, for the connection went in this very moment: nothing was taken, and this batch is still the next.
            assert isinstance(task.exception(), BrokerUnavailable)
            continue
        n += 10
        calls.append(task)
        in_flight = {t for t in in_flight if not t.done()} | {task}
        most = max(most, len(in_flight))
        await asyncio.sleep(0.005 if len(in_flight) < 50 else 0.05)
    await cutting
    await asyncio.gather(*calls)
    wanted = [str(i) for i in range(n)]
    await rig.eventually(lambda: reading.done() or [d.message_id for d in read[-1:]] == wanted[-1:], seconds=60)
    ids, offsets = [d.message_id for d in read], [d.offset for d in read]
    assert wanted == list(dict.fromkeys(ids))
    assert sorted(set(offsets)) == offsets
    assert len(ids) - n <= cuts * most * 10


async def following(rig, stream):
    """What a reader gives that follows a stream until the test ends, and its task."""
    reader, read = LogReader(rig.client, rig.url, stream, name="r", backoff=rig.SOON), []

    async def follow():
        async with contextlib.aclosing(reader.batches("first")) as batches:
            async for batch in batches:
                read.extend(batch)

    task = asyncio.create_task(follow())

    async def end():
        await reader.close()
        await task

    rig.stack.push_async_callback(end)
    return read, task


@pytest.mark.slow
async def test_a_connection_that_is_half_open_is_given_up(rig):
    """A cable that is pulled sends no goodbye: missing heartbeats end the connection, and the window goes out again."""
    queue = await rig.queue()
    cable = await rig.cable()
    p = await publisher(rig, url=f"{cable.url}?heartbeat=1")
    await p.wait_connected()
    cable.pull()
    call = asyncio.create_task(p.publish(batch(rig, queue, 0), timeout=60))

    await rig.eventually(lambda: not p.connected, "the end of the heartbeats", seconds=15)
    cable.plug()

    assert [CONFIRMED] * 10 == await call
    assert [str(n) for n in range(10)] == list(dict.fromkeys(await ids_in(rig, queue, 10)))
