"""The recorder as a process: from a real log into SQLite, over kills, full disks and logs that change."""

import asyncio
import contextlib
import random
import re
import socket
import sqlite3
import subprocess
import threading
import time
from functools import partial

import aiormq
import httpx
import pytest
import zstandard
from recorder_log import envelopes, lines
from recorder_service import CLIENT, Recorder, publish, until

from loopcast.broker.publisher import Publisher
from loopcast.events import to_microseconds
from loopcast.metrics import Metrics
from loopcast.telemetry import Telemetry
from loopcast.topology import Topology
from loopcast.wire import to_message
from loopcast_recorder.database import SqliteDatabase
from loopcast_recorder.database_sink import DatabaseSink
from loopcast_recorder.instruments import Instruments
from loopcast_recorder.lane import Lane, Thread
from loopcast_recorder.retention import Retention


def ask(path, sql, *values):
    if not path.exists():
        return []
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return connection.execute(sql, values).fetchall()
    except sqlite3.OperationalError:
        return []  # its tables are not there yet
    finally:
        connection.close()


def count(path):
    return (ask(path, "SELECT count(*) FROM events") or [(0,)])[0][0]


def lag(recorder, sink="sqlite"):
    """How far behind a recorder says that a sink is, in seconds."""
    text = httpx.get(f"{recorder.address('ops')}/metrics").text
    name = re.escape(f'loopcast_recorder_lag_seconds{{partition="0",sink="{sink}"}}')
    return float(re.search(rf"^{name} (\S+)$", text, re.MULTILINE)[1])


def stream(runs, *, first=0, experiments=3):
    """`runs` runs of the recorded loops in several experiments."""
    names = ["demo-parent", "demo-cycle"]
    return [
        event
        for n in range(first, first + runs)
        for event in envelopes(lines(names[n % 2]), experiment=f"exp/{n % experiments}", run=f"run-{n}")
    ]


@pytest.mark.parametrize("partitions", [1, 3])
def test_what_is_in_the_log_is_in_the_database(vhost_url, tmp_path, partitions):
    """Every event, byte for byte and in its experiment's order, from every partition; SIGTERM ends it with 0."""
    path, events = tmp_path / "a" / "recorder.db", stream(12)
    asyncio.run(publish(vhost_url, events, partitions=partitions))

    with Recorder(vhost_url, tmp_path / "log", recorder_sqlite=path, partitions=partitions) as recorder:
        until(lambda: count(path) == len(events))
        history = httpx.get(f"{recorder.address('public')}/v1/experiments/exp%2F1/events?limit=1000").json()
        stats = httpx.get(f"{recorder.address('public')}/v1/stats").json()
        code = recorder.terminate()

    assert 0 == code
    assert (len(events), 12) == (stats["events"], sum(stats["runs"].values()))
    assert [{"sink": "sqlite", "failing": False, "reading": [*range(partitions)]}] == stats["sinks"]
    assert [e.id for e in events if e.experiment == "exp/1"] == [one["event"]["id"] for one in history["events"]]
    for experiment in {event.experiment for event in events}:
        expected = [event.encode().decode() for event in events if event.experiment == experiment]
        assert expected == [
            e for (e,) in ask(path, "SELECT event FROM events WHERE experiment = ? ORDER BY n", experiment)
        ]
    assert 12 == len(ask(path, "SELECT 1 FROM runs WHERE status IS NOT NULL"))


def killed_at_random(url, tmp_path, rounds):
    """Publish while a recorder is killed and started again `rounds` times; what was published, and the database."""
    path, chance, published = tmp_path / "recorder.db", random.Random(rounds), []
    sinks = {"recorder_sqlite": path, "recorder_jsonl": tmp_path / "lines", "recorder_jsonl_seconds": 0.2}

    async def work():
        for number in range(rounds):
            events = stream(30, first=30 * number)
            published.extend(events)
            with Recorder(url, tmp_path / "log", **sinks):
                # Some of it again: a producer whose answer was lost sends twice.
                await publish(url, [*events, *events[-40:]])
                await asyncio.sleep(chance.uniform(0.2, 1.6))

    asyncio.run(work())
    with Recorder(url, tmp_path / "log", **sinks) as recorder:
        until(lambda: count(path) >= len(published) and len(written(tmp_path / "lines")) >= len(published))
        time.sleep(0.5)
        assert 0 == recorder.terminate()
    return published, path


def written(folder, experiment="*"):
    """The lines of an experiment's files, oldest first, compressed or not: a recorded stream's day may be over."""
    files = {}
    for path in folder.glob(f"{experiment}/*.jsonl*"):
        day, part = re.fullmatch(r"([0-9-]+)(?:\.([0-9]+))?\.jsonl(?:\.zst)?(?:\.part)?", path.name).groups()
        # Packing leaves the plain file until the packed one is there.
        if path.name.endswith(".jsonl") or (path.name.endswith(".zst") and not path.with_suffix("").exists()):
            files[path.parent.name, day, int(part or 0)] = path
    found = b""
    for key in sorted(files):
        with contextlib.suppress(FileNotFoundError):
            raw = files[key].read_bytes()
            found += zstandard.ZstdDecompressor().decompressobj().decompress(raw) if raw[:1] == b"(" else raw
    return found.splitlines()


def check_once(published, path):
    for experiment in {event.experiment for event in published}:
        expected = [bytes(e.data) for e in published if e.experiment == experiment]
        assert expected == written(path.parent / "lines", experiment.replace("/", "%2F"))
    assert sorted(event.id for event in published) == sorted(i for (i,) in ask(path, "SELECT id FROM events"))
    runs = {event.run for event in published}
    assert {(run, "completed") if int(run[4:]) % 2 == 0 else (run, "failed") for run in runs} == set(
        ask(path, "SELECT run, status FROM runs")
    )
    assert ask(path, "SELECT count(*) FROM events") == ask(path, "SELECT sum(events) FROM runs")


def test_kill_9_loses_and_repeats_nothing(vhost_url, tmp_path):
    """Killed three times under load: rows and lines are the log's events, none twice, and each run's row is right."""
    check_once(*killed_at_random(vhost_url, tmp_path, 3))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_kill_9_at_random_20_times(vhost_url, tmp_path):
    """The same, twenty times."""
    check_once(*killed_at_random(vhost_url, tmp_path, 20))


def test_a_file_that_may_not_grow_is_waited_for(vhost_url, tmp_path):
    """
    On a disk without room the recorder goes on trying; with room again it keeps everything, once.

    Meanwhile its lag is the age of the oldest event that it has not kept, and then nothing.
    """
    path, events = tmp_path / "recorder.db", stream(60)
    asyncio.run(publish(vhost_url, events))
    # Enough for the tables and not for the events.
    limited = ("prlimit", "--fsize=600000:unlimited")
    recorder = Recorder(vhost_url, tmp_path / "log", recorder_sqlite=path).start(*limited)
    try:
        until(lambda: "sink_failing" in recorder.log.read_text())
        assert count(path) < len(events)
        # The events were taken long ago, when the loops were recorded.
        kept, late = count(path), lag(recorder)
        age = time.time() - to_microseconds(events[kept].recorded_time) / 1e6
        assert age == pytest.approx(late, abs=600)
        subprocess.run(["prlimit", f"--pid={recorder.process.pid}", "--fsize=unlimited"], check=True)
        until(lambda: count(path) == len(events))
        until(lambda: lag(recorder) == 0)
    finally:
        recorder.kill()

    assert sorted(event.id for event in events) == sorted(i for (i,) in ask(path, "SELECT id FROM events"))


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_stops_one_sink_and_no_other(vhost_url, tmp_path, small_disk):
    """While the lines find no room the rows come as ever; with room again, the lines are all there, once."""
    events, path = stream(60), tmp_path / "recorder.db"
    (small_disk / "filler").write_bytes(bytes(850_000))
    asyncio.run(publish(vhost_url, events))

    with Recorder(vhost_url, tmp_path / "log", recorder_sqlite=path, recorder_jsonl=small_disk / "lines") as recorder:
        until(lambda: count(path) == len(events))
        until(lambda: "sink_failing" in recorder.log.read_text())
        assert len(written(small_disk / "lines")) < len(events)
        (small_disk / "filler").unlink()
        until(lambda: len(written(small_disk / "lines")) >= len(events))
        until(lambda: "sink_works_again" in recorder.log.read_text())

    assert sorted(bytes(event.data) for event in events) == sorted(written(small_disk / "lines"))


async def record(url, path, done):
    """Record in this process, with little patience for silence, until `done()`."""
    sink = DatabaseSink("sqlite", partial(SqliteDatabase, path), Retention(), lambda: time.time_ns() // 1000)
    async with Thread(sink, Instruments(Metrics("recorder", "0"), "sqlite")) as thread:
        lane = Lane(
            CLIENT, url, Topology().streams[0], 0, thread, telemetry=Telemetry("test", "0"), silence_seconds=0.5
        )
        task = asyncio.create_task(lane.run())
        async with asyncio.timeout(20):
            await asyncio.to_thread(until, done)
        await lane.stop()
        await task


@pytest.mark.parametrize("size", [2, 8], ids=["shorter", "longer"])
def test_a_log_made_anew_is_noticed_and_read_from_its_beginning(vhost_url, tmp_path, size):
    """A log that was deleted while the recorder was away gives other events at the same offsets: both are kept."""
    path, old, new = tmp_path / "recorder.db", stream(4), stream(size, first=50)

    async def delete_log():
        connection = await aiormq.connect(vhost_url)
        channel = await connection.channel()
        await channel.queue_delete(Topology().streams[0])
        await connection.close()

    async def work():
        await publish(vhost_url, old)
        await record(vhost_url, path, lambda: count(path) == len(old))
        await delete_log()
        await publish(vhost_url, new)
        await record(vhost_url, path, lambda: count(path) == len(old) + len(new))

    asyncio.run(work())

    assert [("epoch_changed",)] == ask(path, "SELECT reason FROM gaps")
    assert [e.id for e in (*old, *new)] == [i for (i,) in ask(path, "SELECT id FROM events ORDER BY n")]


class HeldUp(DatabaseSink):
    """Takes its time, as a database does that is away, until it is `freed`."""

    freed = threading.Event()

    def write(self, partition, deliveries):
        assert self.freed.wait(30)
        return super().write(partition, deliveries)


async def test_what_retention_takes_before_a_slow_sink_has_it_is_a_gap(vhost_url, tmp_path):
    """
    The connection stands all the time, and the broker says nothing of the events between: the database does.

    Regression: in about one of ten such cases the consumer of RabbitMQ 3.10.8 got nothing any more, for ever.
    """
    path, log, events = tmp_path / "recorder.db", "short", stream(20)
    connection = await aiormq.connect(vhost_url)
    channel = await connection.channel()
    short = {"x-queue-type": "stream", "x-stream-max-segment-size-bytes": 8000, "x-max-length-bytes": 16000}
    await channel.queue_declare(log, durable=True, arguments=short)
    await connection.close()

    async def put(part):
        messages = [to_message(event, 0) for event in part]
        for message in messages:
            message.exchange, message.routing_key = "", log
        await publisher.publish(messages, timeout=30)

    sink = HeldUp("sqlite", partial(SqliteDatabase, path), Retention(), lambda: time.time_ns() // 1000)
    async with (
        Publisher(CLIENT, vhost_url, name="test") as publisher,
        Thread(sink, Instruments(Metrics("recorder", "0"), "sqlite")) as thread,
    ):
        await publisher.wait_connected()
        await put(events[:5])
        patience = {"prefetch": 4, "silence_seconds": 0.5}
        lane = Lane(CLIENT, vhost_url, log, 0, thread, telemetry=Telemetry("test", "0"), **patience)
        task = asyncio.create_task(lane.run())
        for start in range(5, len(events), 10):
            await put(events[start : start + 10])
        sink.freed.set()
        last = "SELECT id FROM events ORDER BY n DESC LIMIT 1"
        await asyncio.to_thread(until, lambda: [(events[-1].id,)] == ask(path, last))
        await lane.stop()
        await task

    kept, ids = [i for (i,) in ask(path, "SELECT id FROM events ORDER BY n")], [event.id for event in events]
    assert [("truncated",)] == ask(path, "SELECT reason FROM gaps")
    assert len(kept) < len(ids)
    assert [i for i in ids if i in set(kept)] == kept


def test_a_local_client_follows_a_real_log(vhost_url, tmp_path):
    """With all three sinks at once, a client of the socket gets what is published after it came, and the end."""
    sinks = {"recorder_sqlite": tmp_path / "r.db", "recorder_jsonl": tmp_path / "l", "recorder_socket": tmp_path / "s"}
    old, new = stream(2), stream(2, first=20)
    asyncio.run(publish(vhost_url, old))
    with Recorder(vhost_url, tmp_path / "log", **sinks) as recorder, socket.socket(socket.AF_UNIX) as client:
        until((tmp_path / "s").exists)
        client.settimeout(20)
        client.connect(str(tmp_path / "s"))
        follower = client.makefile("rb")
        asyncio.run(publish(vhost_url, new))
        got = [follower.readline() for _ in new]
        recorder.terminate()
        rest = follower.readlines()
        follower.close()

    assert [bytes(event.data) + b"\n" for event in new] == got
    assert [] == rest
    assert not (tmp_path / "s").exists()


def test_it_waits_for_the_broker(tmp_path):
    """Without a broker it starts, says that it waits, and ends when it is told to."""
    recorder = Recorder("amqp://guest:guest@127.0.0.1:1/", tmp_path / "log", recorder_sqlite=tmp_path / "r.db")
    with recorder:
        until(lambda: "serving" in recorder.log.read_text())
        assert 0 == recorder.terminate()
