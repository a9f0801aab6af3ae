"""
How fast the recorder keeps events, and how fast questions to a large database are answered.

A million events of recorded loops with much output go into SQLite, beside a baseline in the same run: the same
envelopes into a bare table. Then each question of `loopcast query`, and each history route, is timed.

    make bench T=tests/benchmarks/recorder.py ARGS="--events 1000000"
"""

import argparse
import asyncio
import contextlib
import io
import platform
import resource
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from recorder_log import deliver, envelopes, lines

from loopcast.broker.clients import client_of
from loopcast.broker.declare import ensure
from loopcast.broker.interface import Message
from loopcast.broker.log import LogReader
from loopcast.broker.publisher import Publisher
from loopcast.cli.query import run_query
from loopcast.cli.questions import Scope
from loopcast.history_query import Query, RunQuery
from loopcast.metrics import Metrics
from loopcast.node import Node
from loopcast.telemetry import Telemetry
from loopcast.topology import EVENTS, Topology
from loopcast_recorder.database import SqliteDatabase, SqliteReader
from loopcast_recorder.database_sink import DatabaseSink
from loopcast_recorder.history import History
from loopcast_recorder.instruments import Instruments
from loopcast_recorder.jsonl_sink import JsonlSink
from loopcast_recorder.lane import PREFETCH, Lane, Thread
from loopcast_recorder.retention import Retention

BATCH = 5_000
PUBLISHED = ("routing_key", "body", "message_id", "type", "headers", "content_type", "app_id", "timestamp")
OUTPUT = 60
EXPERIMENTS = 50
WORDS = ("loss", "prompt", "variant", "score", "tokens", "retry", "timeout", "judge", "passed", "failed", "better")


def stream(total):
    """Batches of deliveries: runs of a recorded loop with a prompt that prints much."""
    template = lines("demo-parent")
    at = next(n for n, line in enumerate(template) if line["event"] == "action_output")
    made, run, batch = 0, 0, []
    while made < total:
        output = [
            {**template[at], "line": f"step {n} of {run}: {WORDS[(n + run) % 11]} {WORDS[(n * 7) % 11]} 0.{n * run}"}
            for n in range(OUTPUT)
        ]
        raw = [*template[:at], *output, *template[at:]]
        name = f"20261120T173828Z-demo-parent-{run:06x}"
        batch += deliver(
            envelopes(raw, experiment=f"exp-{run % EXPERIMENTS}", run=name, emitter=f"{run:016x}"), offset=made
        )
        made, run = made + len(raw), run + 1
        if len(batch) >= BATCH or made >= total:
            yield batch
            batch = []


def baseline(folder, total):
    """Events a second into a bare table, in transactions of the same size."""
    connection = sqlite3.connect(folder / "baseline.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("CREATE TABLE events (n INTEGER PRIMARY KEY, event TEXT)")
    count, seconds = 0, 0.0
    for batch in stream(total):
        began = time.perf_counter()
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO events VALUES (?, ?)", [(d.offset, d.body.decode()) for d in batch])
        connection.execute("COMMIT")
        seconds += time.perf_counter() - began
        count += len(batch)
    connection.close()
    return count / seconds


def load(sink, total):
    """Events, events a second, and events a second of processor time."""
    count, seconds, cpu = 0, 0.0, 0.0
    sink.resume(0)
    for batch in stream(total):
        began, used = time.perf_counter(), time.process_time()
        sink.write(0, batch)
        seconds, cpu = seconds + time.perf_counter() - began, cpu + time.process_time() - used
        count += len(batch)
    began = time.perf_counter()
    sink.close()
    return count, count / (seconds + time.perf_counter() - began), count / cpu


async def from_the_log(folder, total):
    """Events a second from a real log into SQLite: read, folded, written, with a reader that does nothing beside it."""
    with Node(folder / "broker", cache=Path(".loopcast/rabbitmq")) as node:
        client, name = client_of("loopcast"), Topology().streams[0]
        await ensure(client, node.amqp_url, Topology(), mode="declare", name="bench")
        count = 0
        async with Publisher(client, node.amqp_url, name="bench") as publisher:
            await publisher.wait_connected()
            for batch in stream(total):
                messages = [Message(exchange=EVENTS, **{n: getattr(d, n) for n in PUBLISHED}) for d in batch]
                await publisher.publish(messages, timeout=120)
                count += len(batch)
        return count, await read_only(client, node, name, count), await recorded(client, node, name, count, folder)


async def read_only(client, node, name, count):
    """Events a second of the reader alone."""
    began, seen = time.perf_counter(), 0
    reader = LogReader(client, node.amqp_url, name, name="bench", prefetch=PREFETCH)
    async with reader, contextlib.aclosing(reader.batches("first")) as batches:
        async for batch in batches:
            seen += len(batch)
            if seen >= count:
                break
    return seen / (time.perf_counter() - began)


async def recorded(client, node, name, count, folder):
    """Events a second of a lane."""
    path = folder / "log.db"
    sink = DatabaseSink("sqlite", partial(SqliteDatabase, path), Retention(), lambda: time.time_ns() // 1000)
    async with Thread(sink, Instruments(Metrics("recorder", "0"), "sqlite")) as thread:
        lane = Lane(client, node.amqp_url, name, 0, thread, telemetry=Telemetry("bench", "0"))
        began, task = time.perf_counter(), asyncio.create_task(lane.run())
        while not path.exists() or written(path) < count:  # noqa: ASYNC110 - what is waited for is in a file
            await asyncio.sleep(0.1)
        seconds = time.perf_counter() - began
        await lane.stop()
        await task
    return count / seconds


def written(path):
    """How many events the database has, by its own count of experiments."""
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        try:
            return connection.execute("SELECT coalesce(sum(events), 0) FROM experiments").fetchone()[0]
        except sqlite3.OperationalError:
            return 0  # its tables are not there yet


def timed(work):
    """The median of five, in milliseconds."""
    taken = []
    for _ in range(5):
        began = time.perf_counter()
        work()
        taken.append((time.perf_counter() - began) * 1000)
    return statistics.median(taken)


def question(path, name, **scope):
    """Ask as the command does, without the terminal."""
    with contextlib.redirect_stdout(io.StringIO()):
        run_query(name, Scope(**scope), sql="", json=True, file=path, data=path.parent)


def answers(path):
    """Each question and route, and how long it took."""
    asked = {
        "runs": {},
        "runs of one experiment": {"experiment": "exp-7"},
        "states": {},
        "states of one experiment": {"experiment": "exp-7"},
        "failures": {},
        "failures of one experiment": {"experiment": "exp-7"},
        "tokens": {},
        "search, a rare word": {"text": "'step 59 of 77'"},
        "search, a word of every run": {"text": "timeout better"},
        "search in one experiment": {"text": "judge", "experiment": "exp-7"},
    }
    for title, scope in asked.items():
        name = title.split(",")[0].split()[0]
        yield f"loopcast query {title}", timed(lambda n=name, s=scope: question(path, n, **s))
    history = History(partial(SqliteReader, path))
    yield "GET /v1/experiments", timed(history.experiments)
    yield "GET …/runs", timed(lambda: history.runs("exp-7", RunQuery(limit=1000)))
    yield "GET …/events, oldest 1,000", timed(lambda: history.page("exp-7", Query(limit=1000), 0))
    yield "GET …/events, newest 1,000", timed(lambda: history.page("exp-7", Query(limit=1000, order="newest"), 0))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="where the files go; a temporary folder by default")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    now = partial(int, time.time() * 1e6)
    try:
        print(f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {options.events:,} events\n")
        bare = baseline(folder, min(options.events, 200_000))
        print(f"{'bare table, one column':40} {bare:>12,.0f} events/s")
        path = folder / "recorder.db"
        count, rate, cpu = load(
            DatabaseSink("sqlite", partial(SqliteDatabase, path), Retention(), lambda: time.time_ns() // 1000),
            options.events,
        )
        print(f"{'SQLite: rows, runs, states, search':40} {rate:>12,.0f} events/s ({cpu:,.0f} a second of processor)")
        print(f"{'':40} {path.stat().st_size / count:>12,.0f} bytes an event")
        _, rate, cpu = load(JsonlSink("jsonl", folder / "lines", now=now), min(options.events, 200_000))
        print(f"{'JSONL, fsync once a second':40} {rate:>12,.0f} events/s ({cpu:,.0f} a second of processor)")
        _, alone, rate = asyncio.run(from_the_log(folder, min(options.events, 200_000)))
        print(f"{'reader alone, from a real log':40} {alone:>12,.0f} events/s")
        print(f"{'from a real log into SQLite':40} {rate:>12,.0f} events/s")
        print(
            f"{'resident memory at most':40} {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:>12,.0f} MiB\n"
        )
        for title, milliseconds in answers(path):
            print(f"{title:40} {milliseconds:>12,.1f} ms")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
