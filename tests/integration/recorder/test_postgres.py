"""The recorder into a real PostgreSQL: the same rows as in SQLite, and replicas that share partitions."""

import asyncio
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
from functools import partial
from pathlib import Path

import psycopg
import pytest
from recorder_log import cut, deliver, envelopes, lines
from recorder_service import Recorder, publish, until

from loopcast.errors import StorageError
from loopcast.history_query import Query
from loopcast_recorder.database import SqliteDatabase, SqliteReader
from loopcast_recorder.database_sink import DatabaseSink
from loopcast_recorder.history import History
from loopcast_recorder.postgres import PostgresDatabase
from loopcast_recorder.retention import Retention
from loopcast_recorder.sinks import Written

TABLES = ("events", "runs", "loops", "states", "actions", "evaluations", "usage", "experiments", "emitters")


def program(name):
    """The path of one of PostgreSQL's programs, wherever a system keeps them."""
    places = [shutil.which(name), *sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True)]
    return next((str(place) for place in places if place), None)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A PostgreSQL of the tests' own; its URL without a database."""
    if program("initdb") is None or program("postgres") is None:
        pytest.skip("needs PostgreSQL's initdb and postgres")
    # It refuses to run as root, and its user must reach the folder.
    user = "postgres" if os.getuid() == 0 else None
    folder = Path(subprocess.run(["mktemp", "-d"], check=True, capture_output=True, text=True).stdout.strip())
    if user:
        shutil.chown(folder, user)
    data = folder / "data"
    made = [program("initdb"), "-D", data, "-U", "test", "-A", "trust", "-N", "-E", "UTF8", "--no-locale"]
    subprocess.run(made, check=True, capture_output=True, user=user, cwd="/")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["-p", str(port), "-h", "127.0.0.1", "-k", str(folder), "-F"]
    process = subprocess.Popen(
        [program("postgres"), "-D", data, *options], stderr=subprocess.DEVNULL, user=user, cwd="/"
    )
    url = f"postgresql://test@127.0.0.1:{port}"
    try:
        until(lambda: _answers(url), 30, "PostgreSQL does not answer")
        yield url
    finally:
        process.send_signal(signal.SIGINT)  # a fast shutdown, which waits for no client
        process.wait(20)
        shutil.rmtree(folder, ignore_errors=True)


def _answers(url):
    try:
        psycopg.connect(f"{url}/postgres").close()
    except psycopg.OperationalError:
        return False
    return True


@pytest.fixture
def url(server, request):
    """The URL of an empty database."""
    name = f"t{abs(hash(request.node.nodeid))}"
    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return f"{server}/{name}"


def ask(url, sql):
    try:
        with psycopg.connect(url) as connection:
            return connection.execute(sql).fetchall()
    except psycopg.errors.UndefinedTable:
        return []


def sink_of(url):
    return DatabaseSink("postgresql", partial(PostgresDatabase, url), Retention(), lambda: 0)


def test_the_rows_are_those_of_sqlite(url, tmp_path):
    """Every table is the same, row for row, and so are the answers of the history routes."""
    raw = lines("demo-parent") + lines("demo-handoff") + lines("demo-handoff-resume")
    raw.append({"event": "note", "text": "null \0 und größer ✓", "n": 2**70})
    batches = cut(deliver(envelopes(raw)), 9)
    path = tmp_path / "r.db"
    lite = DatabaseSink("sqlite", partial(SqliteDatabase, path), Retention(), lambda: 0)
    for sink in (lite, sink_of(url)):
        sink.resume(0)
        for batch in batches:
            sink.write(0, batch)
        sink.close()

    connection = sqlite3.connect(path)
    for table in TABLES:
        order = f"SELECT * FROM {table} ORDER BY 1, 2"
        assert connection.execute(order).fetchall() == ask(url, order), table
    connection.close()
    histories = [
        History(connect) for connect in (partial(SqliteReader, path), partial(PostgresDatabase, url, read_only=True))
    ]
    pages = [history.page("exp", Query(limit=20, order="newest"), 0) for history in histories]
    assert pages[0] == pages[1]
    stats = [{**history.stats(), "bytes": None} for history in histories]
    assert stats[0] == stats[1]
    assert [(1,)] == ask(url, "SELECT count(*) FROM search WHERE words @@ to_tsquery('simple', 'größer')")


def test_a_replica_that_lost_its_partition_writes_nothing(url):
    """One that was frozen while another went on is refused, and goes on from where the other is."""
    log = deliver(envelopes(lines("demo-parent")))
    frozen, other = sink_of(url), sink_of(url)
    frozen.resume(0)
    frozen.write(0, log[:10])
    other.resume(0)
    other.write(0, log[10:20])

    with pytest.raises(StorageError, match="Another recorder"):
        frozen.write(0, log[10:20])

    assert 19 == frozen.resume(0).offset
    assert Written(len(log) - 20, 0) == frozen.write(0, log[20:])
    assert [(d.body.decode(),) for d in log] == ask(url, "SELECT event FROM events ORDER BY n")
    assert [("completed", len(log))] == ask(url, "SELECT status, events FROM runs")
    frozen.close()
    other.close()


def test_retention_works_there_too(url):
    """Old events, their runs and words go."""
    now = [1_795_196_400_000_000]
    sink = DatabaseSink("p", partial(PostgresDatabase, url), Retention(max_age_seconds=60), lambda: now[0])
    sink.write(0, deliver(envelopes(lines("demo-parent"))))
    sink.tick()
    sink.close()

    assert [(0,)] == ask(url, "SELECT count(*) FROM events") == ask(url, "SELECT count(*) FROM search")
    assert [] == ask(url, "SELECT * FROM runs")


@pytest.mark.slow
def test_replicas_share_partitions_and_take_over(vhost_url, url, tmp_path):
    """Two replicas record four partitions between them; when one is killed the other records all, and nothing twice."""
    first = [e for n in range(8) for e in envelopes(lines("demo-parent"), experiment=f"x{n}", run=f"a{n}")]
    second = [e for n in range(8) for e in envelopes(lines("demo-cycle"), experiment=f"x{n}", run=f"b{n}")]
    asyncio.run(publish(vhost_url, [], partitions=4))
    replicas = [
        Recorder(vhost_url, tmp_path / f"log{n}", recorder_postgres=url, partitions=4, log_format="json")
        for n in range(2)
    ]

    def count():
        return (ask(url, "SELECT count(*) FROM events") or [(0,)])[0][0]

    with replicas[0], replicas[1]:
        until(lambda: all("partition_taken" in r.log.read_text() for r in replicas))
        asyncio.run(publish(vhost_url, first, partitions=4))
        until(lambda: count() == len(first), 40)
        replicas[0].kill()
        asyncio.run(publish(vhost_url, second, partitions=4))
        until(lambda: count() >= len(first) + len(second), 40)

    ids = [i for (i,) in ask(url, "SELECT id FROM events")]
    assert sorted(e.id for e in (*first, *second)) == sorted(ids)
    assert {("completed",), ("failed",)} == set(ask(url, "SELECT status FROM runs"))
