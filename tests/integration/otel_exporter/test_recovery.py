"""Replicas that die, freeze and take over: the spans of an undisturbed run, byte for byte, and nothing else."""

import asyncio
import os
import random

import aiormq
import msgspec
import pytest
from otel_receiver import ANSWER_LOST, AWAY, BAD
from otel_service import Exporter, loops, publish, until
from otel_streams import expected, items

from loopcast.checkpoint.lease import Lease
from loopcast.checkpoint.record import Record
from loopcast.topology import checkpoint_stream

pytestmark = pytest.mark.timeout(180)


async def delete(url, queue):
    """Take a queue or stream away."""
    connection = await aiormq.connect(url)
    channel = await connection.channel()
    await channel.queue_delete(queue)
    await connection.close()


async def count(url, queue):
    """How many messages a queue has."""
    connection = await aiormq.connect(url)
    channel = await connection.channel()
    found = (await channel.queue_declare(queue, passive=True)).message_count
    await connection.close()
    return found


async def test_a_standby_takes_over_from_a_killed_replica(vhost_url, receiver, tmp_path):
    """Three replicas, the holder killed in the middle: the next goes on from the checkpoint."""
    events = loops(40)
    spans, logs = expected(events)
    replicas = [Exporter(vhost_url, receiver, tmp_path / "log").start() for _ in range(3)]
    try:
        await publish(vhost_url, events[:600])
        await until(lambda: len(receiver.spans) > 50)
        for replica in replicas[:2]:
            replica.kill()
        await publish(vhost_url, events[600:])
        await until(lambda: len(receiver.spans) >= len(spans) and len(receiver.logs) >= len(logs))
    finally:
        for replica in replicas:
            replica.__exit__()

    assert (spans, logs) == (items(receiver.spans), items(receiver.logs))
    assert [] == receiver.faults()


@pytest.mark.slow
async def test_a_frozen_holder_that_wakes_up_changes_nothing(vhost_url, receiver, tmp_path):
    """SIGSTOP beyond the heartbeat: another takes over; the first wakes, loses all it had, and stands by."""
    events = loops(40)
    spans, logs = expected(events)
    with Exporter(vhost_url, receiver, tmp_path / "first") as first:
        await publish(vhost_url, events[:400])
        await until(lambda: len(receiver.spans) > 30)
        with Exporter(vhost_url, receiver, tmp_path / "second"):
            first.freeze()
            await publish(vhost_url, events[400:800])
            await until(lambda: b"partition_taken" in (tmp_path / "second").read_bytes(), 60)
            first.thaw()
            await publish(vhost_url, events[800:])
            await until(lambda: len(receiver.spans) >= len(spans) and len(receiver.logs) >= len(logs), 60)
            await until(lambda: b"partition_given_up" in (tmp_path / "first").read_bytes())

    assert (spans, logs) == (items(receiver.spans), items(receiver.logs))
    assert [] == receiver.faults()
    receiver.sums()


@pytest.mark.parametrize("loss", ["deleted", "another version"])
async def test_without_a_checkpoint_the_log_is_folded_anew(vhost_url, receiver, tmp_path, loss):
    """Everything is exported again, with the same bytes, and the second half has the right parents."""
    events = loops(20)
    spans, logs = expected(events)
    with Exporter(vhost_url, receiver, tmp_path / "log") as exporter:
        await publish(vhost_url, events[:300])
        await until(lambda: len(receiver.spans) > 40)
        exporter.terminate()
    await delete(vhost_url, checkpoint_stream("otel", 0).name)
    if loss == "another version":
        async with await Lease.acquire(vhost_url, "otel", 0, name="test") as lease:
            await lease.write(Record(9, "", "otel-0.0", {"state": b"?"}))
    with Exporter(vhost_url, receiver, tmp_path / "log"):
        await publish(vhost_url, events[300:])
        await until(lambda: len(receiver.spans) >= len(spans) and len(receiver.logs) >= len(logs))

    assert (spans, logs) == (items(receiver.spans), items(receiver.logs))
    assert [] == receiver.faults()
    taken = [line for line in (tmp_path / "log").read_text().splitlines() if "partition_taken" in line]
    assert ['"source": "log"' in line for line in taken] == [True, True]


async def test_a_log_made_anew_is_read_from_its_beginning(vhost_url, receiver, tmp_path):
    """The position is of another log: said, and what is in the new one is exported."""
    first, second = loops(10), loops(10, seed=1, experiments=3)
    second = [event for event in second if event.experiment == "exp-1"]
    with Exporter(vhost_url, receiver, tmp_path / "log") as exporter:
        await publish(vhost_url, first)
        await until(lambda: len(receiver.spans) >= len(expected(first)[0]))
        exporter.terminate()
    await delete(vhost_url, "loopcast.log.0")
    receiver.spans.clear()
    renamed = [msgspec.structs.replace(event, run=f"second-{event.run}") for event in second]
    with Exporter(vhost_url, receiver, tmp_path / "log"):
        await publish(vhost_url, renamed)
        await until(lambda: len(receiver.spans) >= len(expected(renamed)[0]), 60)

    assert b"log_made_anew" in (tmp_path / "log").read_bytes()


async def test_what_is_refused_for_good_lies_in_the_dead_letters(vhost_url, receiver, tmp_path):
    """The span at fault alone, with the reason; the others arrive."""

    def behave(signal, request):
        if signal == "traces" and b"state sub" in request.SerializeToString():
            raise BAD

    receiver.behave = behave
    events = loops(3)
    with Exporter(vhost_url, receiver, tmp_path / "log"):
        await publish(vhost_url, events)
        await until(lambda: len(receiver.spans) == len(expected(events)[0]) - 1)
        await until(lambda: b"refused" in (tmp_path / "log").read_bytes())
        await asyncio.sleep(1)

    assert 1 == await count(vhost_url, "loopcast.otel.dead")


async def test_partitions_are_shared_and_every_span_arrives_once(vhost_url, receiver, tmp_path):
    """Four partitions: the first replica reads all, a second takes half, and when that one dies the first has all."""
    events = loops(24)
    spans, logs = expected(events)

    def taken(name):
        return (tmp_path / name).read_text().count("partition_taken")

    with Exporter(vhost_url, receiver, tmp_path / "first", partitions=4):
        await publish(vhost_url, events[:200], partitions=4)
        await until(lambda: taken("first") == 4, 60)
        with Exporter(vhost_url, receiver, tmp_path / "second", partitions=4):
            await until(lambda: taken("second") == 2, 60)
            await publish(vhost_url, events[200:500], partitions=4)
            await asyncio.sleep(2)
        await publish(vhost_url, events[500:], partitions=4)
        await until(lambda: len(receiver.spans) >= len(spans) and len(receiver.logs) >= len(logs), 60)
        assert taken("first") >= 6

    assert (spans, logs) == (items(receiver.spans), items(receiver.logs))
    assert [] == receiver.faults()


@pytest.mark.slow
@pytest.mark.timeout(1200)
async def test_killed_every_two_seconds(vhost_url, receiver, tmp_path):
    """Three replicas, 200 interleaved loops, SIGKILL every 2 s, a backend that fails in every way: the same spans."""
    seconds = float(os.environ.get("LOOPCAST_TEST_CHAOS_SECONDS", "600"))
    chance = random.Random(7)
    events = loops(200)
    spans, logs = expected(events)

    def behave(*_):
        fault = chance.random()
        if fault < 0.1:
            raise AWAY
        if fault < 0.2:
            raise ANSWER_LOST

    receiver.behave = behave
    replicas = [Exporter(vhost_url, receiver, tmp_path / "log").start() for _ in range(3)]
    chunk = max(1, int(len(events) / (seconds * 0.8)))
    publishing = asyncio.create_task(publish(vhost_url, events, chunk=chunk, pause=1.0))
    kills = 0
    try:
        deadline = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(2)
            victim = chance.choice(replicas)
            victim.kill()
            victim.start()
            kills += 1
        await publishing
        await until(lambda: len(receiver.spans) >= len(spans) and len(receiver.logs) >= len(logs), 120)
        await asyncio.sleep(3)
    finally:
        for replica in replicas:
            replica.__exit__()

    print(f"{kills} kills, {len(receiver.requests)} requests, {len(spans)} spans")
    assert (spans, logs) == (items(receiver.spans), items(receiver.logs))
    assert [] == receiver.faults()
    receiver.sums()
