"""The SQLite sink: rows and position in one transaction, over failures, repeats and restarts."""

import sqlite3
import threading
import time
from functools import partial

import msgspec
import pytest
from recorder_log import cut, deliver, envelopes, lines, recorded_seconds

from loopcast.errors import ConfigurationError, StorageError
from loopcast.events import parse
from loopcast.holes import Hole
from loopcast.position import Position
from loopcast_recorder.database import SqliteDatabase
from loopcast_recorder.database_sink import DatabaseSink
from loopcast_recorder.migrations import migrate
from loopcast_recorder.retention import Retention
from loopcast_recorder.schema import statements
from loopcast_recorder.sinks import Written


class Clock:
    """Microseconds that a test sets."""

    def __init__(self):
        self.now = 1_795_196_400_000_000

    def __call__(self):
        return self.now


@pytest.fixture
def path(tmp_path):
    """Where the database is."""
    return tmp_path / "recorder.db"


@pytest.fixture
def make(path):
    """Makes sinks on the same file; closed after the test."""
    made = []

    def sink(retention=None, clock=None, busy_seconds=0.1):
        connect = partial(SqliteDatabase, path, busy_seconds=busy_seconds)
        made.append(DatabaseSink("sqlite", connect, retention or Retention(), clock or Clock()))
        return made[-1]

    yield sink
    for one in made:
        one.close()


def ask(path, sql, *values):
    with sqlite3.connect(path) as connection:
        rows = connection.execute(sql, values).fetchall()
    connection.close()
    return rows


def dump(path):
    """Every row of every table, except for the times at which something was written."""
    tables = ("events", "runs", "loops", "states", "actions", "evaluations", "usage", "experiments", "emitters")
    found = {table: ask(path, f"SELECT * FROM {table} ORDER BY 1, 2") for table in tables}
    return {**found, "search": ask(path, "SELECT rowid, text FROM search ORDER BY 1")}


LOG = deliver(envelopes(lines("demo-parent") + lines("demo-cycle")))


def test_events_and_position_are_kept_together(make, path):
    """What was written is there for the next start, byte for byte, with the place where it goes on."""
    sink = make()
    sink.resume(0)
    for batch in cut(LOG, 10):
        sink.write(0, batch)
    sink.close()

    assert Position.of(0, LOG[-1].offset, LOG[-1].message_id) == make().resume(0)
    assert [(d.offset, d.body.decode()) for d in LOG] == ask(path, "SELECT n, event FROM events ORDER BY n")


def test_a_repeat_is_kept_once_also_over_a_restart(make, path):
    """The same event again, in the same batch or after a restart, adds no row and counts as a repeat."""
    sink = make()
    sink.resume(0)
    sink.write(0, LOG[:20])
    sink.close()
    again = deliver(envelopes(lines("demo-parent")[:20]), offset=20)

    sink = make()
    sink.resume(0)

    assert Written(0, 20) == sink.write(0, again)
    assert [(20,)] == ask(path, "SELECT count(*) FROM events")
    assert [(20,)] == ask(path, "SELECT events FROM runs")


def test_a_repeat_without_a_number_is_known_by_its_id(make, path):
    """Events that nobody numbered are dropped by id, over a restart too."""
    strange = deliver(envelopes([{"event": "note", "n": n} for n in range(5)], emitter=None))
    sink = make()
    sink.resume(0)
    sink.write(0, strange)
    sink.close()
    again = deliver(envelopes([{"event": "note", "n": n} for n in range(5)], emitter=None), offset=5)

    assert Written(0, 5) == make().write(0, again)


def test_a_write_that_fails_leaves_nothing_and_is_done_again(make, path):
    """While another program holds the write lock a write fails whole; afterwards the same batch goes in once."""
    sink = make()
    sink.resume(0)
    sink.write(0, LOG[:10])
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")

    with pytest.raises(StorageError, match="locked"):
        sink.write(0, LOG[10:20])
    holder.execute("ROLLBACK")
    holder.close()

    assert LOG[9].offset == sink.resume(0).offset
    assert Written(10, 0) == sink.write(0, LOG[10:20])
    assert [(20,)] == ask(path, "SELECT count(*) FROM events")


def test_rows_are_those_of_one_undisturbed_reading_whatever_failed(make, path, tmp_path):
    """After failures between all batches, each table is what it is without any."""
    sink = make()
    for batch in cut(LOG, 6):
        sink.resume(0)
        sink.write(0, batch)
        sink.close()
    quiet = DatabaseSink("sqlite", partial(SqliteDatabase, tmp_path / "quiet.db"), Retention(), Clock())
    quiet.write(0, LOG)
    quiet.close()

    assert dump(tmp_path / "quiet.db") == dump(path)


def test_a_reader_never_blocks_the_writer(make, path):
    """A reader in the middle of a long question sees its moment, and writing goes on."""
    sink = make()
    sink.resume(0)
    sink.write(0, LOG[:10])
    reader = sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)
    reader.execute("BEGIN")
    before = reader.execute("SELECT count(*) FROM events").fetchone()

    sink.write(0, LOG[10:])

    assert (10,) == before == reader.execute("SELECT count(*) FROM events").fetchone()
    reader.execute("COMMIT")
    assert (len(LOG),) == reader.execute("SELECT count(*) FROM events").fetchone()
    reader.close()


def test_two_recorders_on_one_file_do_not_mix(make, path):
    """The one that comes second is refused, because the position moved under it."""
    first, second = make(), make()
    first.resume(0)
    second.resume(0)
    first.write(0, LOG[:10])

    with pytest.raises(StorageError, match="Another recorder"):
        second.write(0, LOG[:10])

    assert [(10,)] == ask(path, "SELECT count(*) FROM events")


def test_a_log_made_anew_begins_another_epoch(make, path):
    """Offsets that come again are other events: both are kept, in order, and the gap is written down."""
    sink = make()
    sink.resume(0)
    sink.write(0, LOG[:10])
    anew = deliver(envelopes(lines("demo-cycle"), emitter="b" * 16))

    sink.gap(0, "epoch_changed", anew=True)

    assert sink.resume(0) is None
    assert Written(len(anew), 0) == sink.write(0, anew)
    assert [("epoch_changed",)] == ask(path, "SELECT reason FROM gaps")
    bodies = [d.body.decode() for d in (*LOG[:10], *anew)]
    assert bodies == [event for (event,) in ask(path, "SELECT event FROM events ORDER BY n")]


def test_texts_are_found(make, path):
    """Full-text search finds an event by its words, in any case and without accents."""
    sink = make()
    sink.write(0, deliver(envelopes([{"event": "action_output", "line": "Größe: VARIANTE"}, {"event": "note"}])))

    sql = "SELECT rowid FROM search WHERE search MATCH ?"
    assert [(0,)] == ask(path, sql, "variante") == ask(path, sql, "grosse OR große")


def test_retention_by_age_takes_the_old_and_leaves_the_new(make, path):
    """Events that are too old go, with their runs, words and rows; a run that still gets events keeps its row."""
    events = envelopes(lines("demo-cycle")) + envelopes(lines("demo-handoff"), emitter="c" * 16)
    log = deliver(events)
    clock, old = Clock(), len(lines("demo-cycle"))
    sink = make(Retention(max_age_seconds=60), clock)
    sink.write(0, log)

    between = (recorded_seconds(events[old - 1]) + recorded_seconds(events[old])) / 2
    clock.now = int((between + 60) * 1e6)
    sink.tick()

    assert [(n,) for n in range(old, len(log))] == ask(path, "SELECT n FROM events")
    assert [("demo-handoff",)] == ask(path, "SELECT loop FROM runs")
    assert [(0,)] == ask(path, "SELECT count(*) FROM search WHERE rowid < ?", old)
    for table in ("loops", "states", "actions", "evaluations"):
        assert {"demo-handoff"} == {loop for (loop,) in ask(path, f"SELECT loop FROM {table}")}


def test_retention_by_size_keeps_the_file_within_it(make, path):
    """While events keep coming, the file stays near the size that was asked for, and the newest are there."""
    clock = Clock()
    sink = make(Retention(max_bytes=3_000_000), clock)
    filler = [{"event": "action_output", "line": f"{n} " + "word " * 100} for n in range(12_000)]
    log = deliver(envelopes(filler, run="r"))
    for batch in cut(log, 1000):
        sink.write(0, batch)
        for _ in range(4):
            clock.now += 11_000_000
            sink.tick()

    assert path.stat().st_size < 9_000_000
    (newest,) = ask(path, "SELECT max(n) FROM events")[0]
    assert log[-1].offset == newest


def newest():
    return statements("sqlite", 0)[-1][0]


def test_an_older_database_is_brought_up_to_date_and_a_newer_refused(path):
    """Migrations run once each, in order, and a database of a newer program is left alone with a sentence."""
    database, last = SqliteDatabase(path), newest()
    migrate(database)

    def later(dialect, version):
        more = [
            (last + 1, ["ALTER TABLE runs ADD COLUMN colour TEXT"]),
            (last + 2, ["UPDATE runs SET colour = 'red'"]),
        ]
        return [*statements(dialect, version), *(step for step in more if step[0] > version)]

    assert last + 2 == migrate(database, later) == migrate(database, later)
    assert [(n,) for n in range(1, last + 3)] == database.rows("SELECT version FROM schema_version")
    with pytest.raises(ConfigurationError, match=f"version {last + 2}"):
        migrate(database)
    database.close()


def test_a_failed_migration_changes_nothing(path):
    """A version whose last statement fails leaves the version before, whole."""
    database, last = SqliteDatabase(path), newest()
    migrate(database)

    def broken(dialect, version):
        return [*statements(dialect, version), (last + 1, ["ALTER TABLE runs ADD COLUMN colour TEXT", "NONSENSE"])]

    with pytest.raises(StorageError):
        migrate(database, broken)

    assert last == migrate(database)
    assert "colour" not in [row[1] for row in database.rows("PRAGMA table_info(runs)")]
    database.close()


def test_what_was_recorded_before_missing_events_were_counted_goes_on(make, path):
    """A run in a database of version 1 gets its next events, keeps its figures, and counts from then on."""
    log = deliver(envelopes([{"event": "note"}] * 10, run="r"))
    sink = make()
    sink.write(0, log[:3])
    sink.close()
    with sqlite3.connect(path) as connection:
        (record,) = connection.execute("SELECT fold FROM runs").fetchone()
        older = msgspec.msgpack.encode(msgspec.msgpack.decode(record)[:-1])
        connection.execute("UPDATE runs SET fold = ?", (older,))
        connection.execute("ALTER TABLE runs DROP COLUMN missing")
        connection.execute("DELETE FROM schema_version WHERE version > 1")
    connection.close()

    sink = make()
    sink.resume(0)
    written = sink.write(0, log[7:])

    assert Written(3, 0, (Hole("exp", "r", 4),)) == written
    assert [(6, 4)] == ask(path, "SELECT events, missing FROM runs")


def jumping(*numbers, emitter="00000000000000aa", attempt=None):
    """The log of one run whose emitter gave these numbers."""
    events = envelopes([{"event": "note", "n": n} for n in range(max(numbers) + 1)], run="r", emitter=emitter, first=0)
    chosen = [events[n] for n in numbers]
    return deliver(chosen if attempt is None else [msgspec.structs.replace(e, attempt=attempt) for e in chosen])


def missing(path):
    return ask(path, "SELECT missing FROM runs")[0][0]


@pytest.mark.parametrize("size", [1, 2, 9])
def test_what_an_emitter_dropped_is_missing_in_its_runs_row(make, path, size):
    """However the log is cut, repeated and interrupted by restarts, the row has the size of all holes."""
    log = jumping(4, 5, 9, 5, 9, 10, 13, 10, 14)
    holes = []
    for batch in cut(log, size):
        sink = make()
        sink.resume(0)
        holes += sink.write(0, batch).holes
        sink.close()

    assert [Hole("exp", "r", 3), Hole("exp", "r", 2)] == holes
    assert 5 == missing(path)


def test_numbers_that_may_jump_are_not_missing(make, path):
    """Nothing is missing before an emitter's first number that came, and nothing where a producer numbered."""
    sink = make()
    sink.write(0, jumping(7, 8))
    assert 0 == missing(path)

    sink.write(0, deliver([parse(d.body) for d in jumping(2, 9, emitter="b" * 16, attempt=0)], offset=2))
    assert 0 == missing(path)


@pytest.mark.parametrize(("reason", "anew"), [("truncated", False), ("epoch_changed", True)])
@pytest.mark.parametrize("restart", [True, False])
def test_what_the_log_lost_is_not_what_an_emitter_dropped(make, path, reason, anew, restart):
    """Over a gap in the log each emitter's next number may jump, once; what is missing after that is told."""
    sink = make()
    sink.resume(0)
    first, second = jumping(1, 2), jumping(1, 2, emitter="b" * 16)
    sink.write(0, [*first, *deliver([parse(d.body) for d in second], offset=2)])
    sink.gap(0, reason, anew=anew)
    if restart:
        sink.close()
        sink = make()
    sink.resume(0)
    # A repeat of what was before the gap makes nothing certain.
    behind = [parse(d.body) for d in (*jumping(2, 9, 11), *jumping(20, 24, emitter="b" * 16))]

    assert (Hole("exp", "r", 1), Hole("exp", "r", 3)) == sink.write(0, deliver(behind, offset=0 if anew else 50)).holes
    assert 4 == missing(path)


def test_a_run_that_retention_took_is_missing_nothing(make, path):
    """An emitter that goes on after its run was deleted begins anew: what came before was there once."""
    clock = Clock()
    sink = make(Retention(max_age_seconds=60), clock)
    sink.write(0, jumping(1, 2, 3))
    clock.now += 10_000_000_000_000
    sink.tick()
    assert [] == ask(path, "SELECT run FROM runs")

    sink.write(0, deliver([parse(d.body) for d in jumping(4, 6)], offset=3))
    assert 1 == missing(path)


def test_another_partition_knows_nothing_of_this_ones_numbers(make, path):
    """When the number of partitions changes, a run's next event is read by another lane, which may be ahead."""
    sink = make()
    sink.write(0, jumping(1, 2))
    sink.close()
    sink = make()
    sink.resume(1)

    assert () == sink.write(1, jumping(5)).holes


def test_writing_and_reading_at_the_same_time_loses_nothing(make, path):
    """Readers that ask all the time slow nothing to a stop and see only whole transactions."""
    sink = make()
    sink.resume(0)
    stop, seen = threading.Event(), []

    def read():
        reader = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        while not stop.is_set():
            seen.append(reader.execute("SELECT count(*), (SELECT sum(events) FROM runs) FROM events").fetchone())
            time.sleep(0.001)
        reader.close()

    thread = threading.Thread(target=read)
    thread.start()
    try:
        for batch in cut(LOG, 3):
            sink.write(0, batch)
    finally:
        stop.set()
        thread.join()

    assert [(len(LOG),)] == ask(path, "SELECT count(*) FROM events")
    assert all(events == (runs or 0) for events, runs in seen)
