"""Reading the log for ever: each event once, in order, over lost connections; and never a silent hole."""

from __future__ import annotations

import asyncio
import contextlib
import uuid

import pytest
from structlog.testing import capture_logs

from loopcast.broker.log import LogReader
from loopcast.broker.supervisor import Backoff
from loopcast.errors import LogChanged, LogMissing


class Reading:
    """A reader in a task of its own, with what it handed over."""

    def __init__(self, rig, stream, start, **options):
        url = options.pop("url", rig.url)
        self.reader = LogReader(rig.client, url, stream, name="r", **{"backoff": rig.SOON, **options})
        self.batches = []
        self.deliveries = []
        self.go = asyncio.Event()
        self.go.set()
        self.task = asyncio.create_task(self._run(start))
        self._rig = rig

    async def _run(self, start):
        async with contextlib.aclosing(self.reader.batches(start)) as batches:
            async for batch in batches:
                self.batches.append(batch)
                self.deliveries.extend(batch)
                await self.go.wait()

    @property
    def ids(self):
        return [d.message_id for d in self.deliveries]

    async def until(self, count):
        await self._rig.eventually(lambda: len(self.deliveries) >= count or self.task.done(), f"{count} deliveries")
        return self.ids


@pytest.fixture
async def read(rig):
    """Start a reading; it ends with the test."""
    readings = []

    def start(stream, start="first", **options):
        readings.append(Reading(rig, stream, start, **options))
        return readings[-1]

    yield start
    for reading in readings:
        await reading.reader.close()
        reading.go.set()
        with contextlib.suppress(LogChanged):
            await reading.task


class Late(Backoff):
    """Leaves time to do something to the log before the reader is back."""

    def delay(self, tries, chance):
        return 2.0 + 0 * tries * chance


def numbers(*span):
    return [str(n) for n in range(*span)]


async def lost(rig, reading, cable):
    """Cut the cable, and wait until the reader noticed and came back."""
    losses = reading.reader.losses
    cable.cut()
    await rig.eventually(lambda: reading.reader.losses > losses and reading.reader.connected)


async def test_the_whole_log_is_read_in_order(rig, read):
    """Everything there is, and then what comes, each with its offset, under a prefetch smaller than the log."""
    stream = await rig.queue("stream")
    await rig.fill(stream, numbers(500))

    reading = read(stream, prefetch=64)
    await reading.until(500)
    await rig.fill(stream, numbers(500, 510))

    assert numbers(510) == await reading.until(510)
    assert list(range(510)) == [d.offset for d in reading.deliveries]


@pytest.mark.parametrize("start", [0, 127, 128, 255, 256])
async def test_an_offset_is_where_it_begins(rig, read, start):
    """Deliveries of the same chunk below the offset are dropped."""
    stream = await rig.queue("stream")
    await rig.fill(stream, numbers(260))

    assert numbers(start, 260) == await read(stream, start).until(260 - start)


async def test_a_slow_caller_holds_the_broker_back(rig, read):
    """What lies in memory is bounded by the prefetch while the caller is busy, and nothing is lost by it."""
    stream = await rig.queue("stream")
    await rig.fill(stream, numbers(2000), b"x" * 100)
    reading = read(stream, prefetch=100)
    reading.go.clear()

    await reading.until(1)
    await asyncio.sleep(0.5)
    held = len(reading.reader._feed._held)
    reading.go.set()

    assert held <= 200
    assert numbers(2000) == await reading.until(2000)


async def test_a_reconnect_goes_on_where_it_was(rig, read):
    """
    After the connection was lost, each event comes once, and those of the outage too.

    Regression: aio-pika's robust connection consumes from the original offset again and replays the whole stream.
    """
    stream = await rig.queue("stream")
    await rig.fill(stream, numbers(100))
    cable = await rig.cable()
    reading = read(stream, url=cable.url)
    await reading.until(100)

    await lost(rig, reading, cable)
    await rig.fill(stream, numbers(100, 200))

    assert numbers(200) == await reading.until(200)
    await asyncio.sleep(0.2)
    assert numbers(200) == reading.ids


async def test_a_reconnect_in_the_middle_of_much_loses_nothing(rig, read):
    """Cut again and again while the caller is slow: each once and in order all the same."""
    stream = await rig.queue("stream")
    await rig.fill(stream, numbers(1000))
    cable = await rig.cable()
    reading = read(stream, prefetch=50, url=cable.url)

    for _ in range(3):
        await reading.until(1)
        reading.go.clear()
        await lost(rig, reading, cable)
        reading.go.set()

    assert numbers(1000) == await reading.until(1000)
    assert list(range(1000)) == [d.offset for d in reading.deliveries]


async def test_next_misses_nothing_of_an_outage(rig, read):
    """
    A reader of what is new, that is cut off before anything came, gets what is published before it is back.

    Regression: `next` taken up again is the end after the outage.
    """
    stream = await rig.queue("stream")
    await rig.fill(stream, ["old"])
    await asyncio.sleep(0)
    cable = await rig.cable()
    reading = read(stream, "next", url=cable.url, backoff=Late())
    await reading.reader.wait_connected()

    cable.cut()
    await rig.fill(stream, ["new"])

    await rig.eventually(lambda: "new" in reading.ids)


async def test_a_log_that_is_not_there_is_waited_for(rig, read):
    """It is said once, not per try, and the reading begins when the log is there."""
    stream = f"a-log-to-come-{uuid.uuid4().hex[:12]}"
    with capture_logs() as logs:
        reading = read(stream)
        await rig.eventually(lambda: isinstance(reading.reader.reason, LogMissing))
        assert not reading.reader.connected
        await asyncio.sleep(0.5)
        await rig.queue("stream", stream)
        await rig.eventually(lambda: reading.reader.connected)
        await rig.fill(stream, ["a"])
        await reading.until(1)
        await rig.eventually(lambda: "broker_connected" in [line["event"] for line in logs])

    # A stream that was declared a moment ago may have no replica yet (406, RabbitMQ 4).
    said = [line["event"] for line in logs if line["event"] != "broker_unavailable"]
    assert ["log_missing", "broker_connected"] == said


async def test_a_truncated_log_is_not_read_over_the_hole(rig, read):
    """
    A reader that comes back to a log that lost what it read last is told so, and given nothing of it.

    Regression: the broker silently starts at the first offset that it still has.
    """
    stream = await rig.queue("stream", stream_max_segment_size_bytes=4000, max_length_bytes=8000)
    await rig.fill(stream, numbers(5), b"x" * 500)
    cable = await rig.cable()
    reading = read(stream, url=cable.url, backoff=Late())
    await reading.until(5)

    cable.cut()
    await rig.eventually(lambda: not reading.reader.connected)
    await rig.fill(stream, numbers(5, 200), b"x" * 500)

    with pytest.raises(LogChanged, match="has lost what was read last") as caught:
        await asyncio.wait_for(asyncio.shield(reading.task), 20)
    assert "truncated" == caught.value.reason
    assert numbers(5) == reading.ids


async def test_retention_that_overtakes_a_slow_reader_is_told(rig, read):
    """
    A reader whose connection stands, and which is so slow that retention takes what it has not read, is told so.

    Regression: the broker goes on with the first segment that is left, and says nothing; or it is silent for ever.
    """
    stream = await rig.queue("stream", stream_max_segment_size_bytes=4000, max_length_bytes=8000)
    await rig.fill(stream, numbers(5), b"x" * 500)
    reading = read(stream, prefetch=4, silent_seconds=1)
    reading.go.clear()
    await reading.until(1)
    for start in range(5, 405, 20):
        await rig.fill(stream, numbers(start, start + 20), b"x" * 500)
    reading.go.set()

    with pytest.raises(LogChanged, match="has lost what was read last") as caught:
        await asyncio.wait_for(asyncio.shield(reading.task), 20)
    assert "truncated" == caught.value.reason
    assert numbers(len(reading.ids)) == reading.ids


async def test_offsets_that_the_broker_uses_itself_are_no_loss(rig, read):
    """At the begin of a segment an offset is missing, and the reader goes on over it."""
    stream = await rig.queue("stream", stream_max_segment_size_bytes=4000)
    reading = read(stream)
    for start in range(0, 60, 10):
        await rig.fill(stream, numbers(start, start + 10), b"x" * 500)

    assert numbers(60) == await reading.until(60)
    assert reading.deliveries[-1].offset > 59


@pytest.mark.parametrize("count", [20, 3, 0])
async def test_a_log_made_anew_is_not_taken_for_the_old_one(rig, read, count):
    """
    A log that was deleted and made again is another one, whether it is longer than the old, shorter, or empty at first.

    Regression: the broker gives another message for the offset, or, past the end, nothing, ever.
    """
    stream = await rig.queue("stream")
    await rig.fill(stream, numbers(10))
    reading = read(stream, proof_seconds=0.3)
    await reading.until(10)

    await rig.delete(stream)
    await rig.queue("stream", stream)
    await rig.fill(stream, [f"new-{n}" for n in range(count)])
    if not count:
        await rig.eventually(lambda: "gives nothing" in str(reading.reader.reason))
        await rig.fill(stream, ["new-0"])

    with pytest.raises(LogChanged, match="is not the log it was") as caught:
        await asyncio.wait_for(asyncio.shield(reading.task), 20)
    assert "epoch_changed" == caught.value.reason
    assert numbers(10) == reading.ids


async def test_a_reading_may_begin_again_after_the_log_changed(rig, read):
    """The caller decides where to go on, with the same reader."""
    stream = await rig.queue("stream")
    await rig.fill(stream, ["a"])
    reading = read(stream, proof_seconds=0.3)
    await reading.until(1)
    await rig.delete(stream)
    await rig.queue("stream", stream)
    await rig.fill(stream, ["b"])
    with pytest.raises(LogChanged):
        await asyncio.wait_for(asyncio.shield(reading.task), 20)

    reading.task = asyncio.create_task(reading._run("first"))

    assert ["a", "b"] == await reading.until(2)


async def test_an_offset_past_the_end_is_silent(rig):
    """
    What the broker does with an offset that is not there yet: nothing, not even for what is published then.

    Regression: this is why a position is never proven by silence.
    """
    stream = await rig.queue("stream")
    await rig.fill(stream, ["a"])

    _, inbox = await rig.consumer(stream, offset=10_000_000)
    await rig.fill(stream, ["b"])
    await asyncio.sleep(0.5)

    assert [] == inbox.ids


async def test_closing_ends_the_iteration_and_the_connection(rig, read):
    """`close` from outside ends a reading that waits, and a closed reader gives nothing more."""
    stream = await rig.queue("stream")
    reading = read(stream)
    await reading.reader.wait_connected()

    await reading.reader.close()

    await asyncio.wait_for(reading.task, 5)
    assert not reading.reader.connected
    assert [] == [batch async for batch in reading.reader.batches("first")]


async def test_an_alarm_does_not_stop_who_only_reads(rig, read):
    """
    During a memory alarm the log goes on being read and acknowledged.

    Regression: the broker stops reading from a connection that has published, so readers have one of their own.
    """
    stream = await rig.queue("stream")
    await rig.fill(stream, numbers(1000))
    reading = read(stream, prefetch=20)
    reading.go.clear()
    await reading.until(1)

    async with rig.alarm():
        link, settled = await rig.publisher()
        link.publish([rig.message(stream, "blocked")])
        await rig.eventually(lambda: link.blocked)
        reading.go.set()
        await reading.until(1000)
        assert {} == settled.by_tag

    assert [*numbers(1000), "blocked"] == await reading.until(1001)
