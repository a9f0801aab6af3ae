"""What a consume link promises on queues and on streams, whichever client made it."""

from __future__ import annotations

import asyncio
import datetime as dt
import struct
import time

import pamqp.frame
import pytest
from aiormq.abc import ChannelFrame
from pamqp import commands

from loopcast.errors import BrokerUnavailable, LogMissing


async def test_a_queue_is_consumed_in_order(rig):
    """Deliveries come in order, tagged from 1, several in one call."""
    queue = await rig.queue()
    await rig.fill(queue, [str(n) for n in range(200)])

    _, inbox = await rig.consumer(queue)
    await inbox.until(200)

    assert [str(n) for n in range(200)] == inbox.ids
    assert list(range(1, 201)) == [d.tag for d in inbox.deliveries]
    assert inbox.calls < 200


async def test_prefetch_bounds_what_is_unacknowledged(rig):
    """No more than `prefetch` deliveries come before one is acknowledged."""
    queue = await rig.queue()
    await rig.fill(queue, [str(n) for n in range(20)])

    link, inbox = await rig.consumer(queue, prefetch=5)
    await inbox.until(5)
    await asyncio.sleep(0.2)
    before = len(inbox.deliveries)
    link.ack(3)

    assert 5 == before
    assert "7" == (await inbox.until(8))[-1].message_id


async def test_what_is_not_acknowledged_comes_again_in_its_place(rig):
    """Acknowledging one or many takes those out; closing puts the rest back, redelivered and in order."""
    queue = await rig.queue(delivery_limit=1_000_000_000)
    await rig.fill(queue, [str(n) for n in range(10)])
    link, inbox = await rig.consumer(queue)
    await inbox.until(10)

    link.ack(3)
    link.ack(6, multiple=False)
    await rig.eventually(lambda: True)
    await asyncio.sleep(0.2)
    await link.close()

    _, again = await rig.consumer(queue)
    await again.until(6)
    assert ["3", "4", "6", "7", "8", "9"] == again.ids
    assert all(d.redelivered for d in again.deliveries)


async def test_acknowledging_on_a_dead_link_is_nothing(rig):
    """Whoever acknowledges too late gets no error."""
    queue = await rig.queue()
    await rig.fill(queue, ["a"])
    link, inbox = await rig.consumer(queue)
    await inbox.until(1)

    await link.close()
    link.ack(1)
    await asyncio.sleep(0.05)

    assert 1 == await rig.ready(queue)


async def test_a_queue_that_is_not_there_is_missing(rig):
    """Consuming from nowhere is refused with its name."""
    with pytest.raises(LogMissing, match="no-such-queue"):
        await rig.consumer("no-such-queue")


async def test_a_queue_that_is_deleted_ends_the_link(rig):
    """The broker's cancel is the end of the link, not a silence."""
    queue = await rig.queue()
    link, _ = await rig.consumer(queue)

    await rig.delete(queue)

    assert isinstance(await asyncio.wait_for(link.wait_closed(), 10), LogMissing)


async def test_an_exclusive_consumer_is_alone(rig):
    """A second consumer is refused while an exclusive one holds the queue, and not afterwards."""
    queue = await rig.queue("classic")
    link, _ = await rig.consumer(queue, exclusive=True)

    with pytest.raises(BrokerUnavailable, match="exclusive"):
        await rig.consumer(queue, exclusive=True)
    await link.close()

    await rig.consumer(queue, exclusive=True)


async def test_headers_of_strange_types_are_left_out(rig):
    """What a stranger puts into tables, arrays, bytes, times and fractions does not reach us, and harms nothing."""
    queue = await rig.queue()
    channel = await rig.channel()
    strange = {
        "kept": "yes",
        "table": {"a": 1},
        "array": [1, "a"],
        "bytes": bytearray(b"\xff"),
        "time": dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
        "fraction": 0.5,
    }
    await channel.basic_publish(b"", routing_key=queue, properties=commands.Basic.Properties(headers=strange))

    _, inbox = await rig.consumer(queue)
    (got,) = await inbox.until(1)

    assert {"kept": "yes"} == got.headers


@pytest.fixture
async def stream(rig):
    """A stream of 300 messages, each with its offset as its id."""
    name = await rig.queue("stream")
    await rig.fill(name, [str(n) for n in range(300)])
    return name


async def test_a_stream_is_read_from_its_beginning(rig, stream):
    """`first` gives everything, each with its offset, as long as it is acknowledged."""
    link, inbox = await rig.consumer(stream, prefetch=50, offset="first")
    for count in range(50, 301, 50):
        await inbox.until(count)
        link.ack(count)

    assert [str(n) for n in range(300)] == inbox.ids
    assert list(range(300)) == [d.offset for d in inbox.deliveries]


@pytest.mark.parametrize("offset", [0, 1, 127, 128, 129, 255, 256, 299])
async def test_a_stream_is_read_from_an_offset(rig, stream, offset):
    """
    An offset delivers exactly itself first.

    Regression: 128 to 255 were once encoded wrongly (aio-pika issue 487).
    """
    _, inbox = await rig.consumer(stream, offset=offset)

    asked = [d for d in await inbox.until(1) if d.offset >= offset]
    assert (offset, str(offset)) == (asked[0].offset, asked[0].message_id)


async def test_next_is_what_comes_from_now_on(rig, stream):
    """`next` gives nothing that was there before, and everything after."""
    _, inbox = await rig.consumer(stream, offset="next")

    await rig.fill(stream, ["new"])

    assert [(300, "new")] == [(d.offset, d.message_id) for d in await inbox.until(1)]


async def test_last_begins_with_the_last_chunk(rig, stream):
    """`last` gives the last message, with those of its chunk."""
    _, inbox = await rig.consumer(stream, offset="last")

    await rig.eventually(lambda: "299" in inbox.ids)


async def test_a_time_begins_no_later_than_asked(rig):
    """A timestamp gives everything since; what it gives from before is for the caller to drop."""
    name = await rig.queue("stream")
    await rig.fill(name, ["old"])
    await asyncio.sleep(2.1)
    since = int(time.time())
    await rig.fill(name, ["new-1", "new-2"])

    _, inbox = await rig.consumer(name, offset=f"@{since}")

    await rig.eventually(lambda: ["new-1", "new-2"] == inbox.ids[-2:])
    _, early = await rig.consumer(name, offset=f"@{since - 3600}")
    await early.until(3)
    assert ["old", "new-1", "new-2"] == early.ids


async def test_what_no_library_can_write_is_read(rig, client):
    """A stranger's properties that make no sense, such as a time in the year 292277026596, hurt nobody."""
    if type(client).__name__ == "AioPikaClient":
        pytest.xfail("aiormq ends the connection at a time after the year 9999 (pamqp.decode.timestamp)")
    queue = await rig.queue()
    channel = await rig.channel()
    odd = header(message_id=b"caf\xe9", timestamp=2**63)
    frames = pamqp.frame.marshal(commands.Basic.Publish(routing_key=queue), channel.number) + odd(channel.number)
    await channel.connection.write_queue.put(ChannelFrame(payload=frames, should_close=False))
    await rig.fill(queue, ["after"])

    _, inbox = await rig.consumer(queue)

    assert "after" == (await inbox.until(2))[1].message_id


def header(*, message_id, timestamp):
    """A content header without a body, written by hand (AMQP 0-9-1, 2.3.5.2)."""
    flags = 1 << 7 | 1 << 6
    payload = (
        struct.pack(">HHQH", 60, 0, 0, flags) + bytes([len(message_id)]) + message_id + struct.pack(">Q", timestamp)
    )
    return lambda channel: struct.pack(">BHI", 2, channel, len(payload)) + payload + b"\xce"
