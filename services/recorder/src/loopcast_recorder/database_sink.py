"""The sink that writes rows: events, what they fold into, and the position, in one transaction."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence

import msgspec

from loopcast.broker.interface import Delivery
from loopcast.errors import StorageError
from loopcast.events import format_time
from loopcast.holes import Hole
from loopcast.position import Position
from loopcast_recorder.database import Database
from loopcast_recorder.entry import Entry, place, to_entry
from loopcast_recorder.fold import Fold
from loopcast_recorder.ledger import Ledger
from loopcast_recorder.migrations import migrate
from loopcast_recorder.retention import Retention
from loopcast_recorder.run_state import RunState
from loopcast_recorder.sinks import Written
from loopcast_recorder.tables import insert, upsert
from loopcast_recorder.wording import searchable

__all__ = ["DatabaseSink"]

RUNS_IN_MEMORY = 10_000
EXPERIMENTS_IN_MEMORY = 10_000

_SEARCH = {
    "sqlite": "INSERT INTO search (rowid, text) VALUES (?, ?)",
    "postgresql": "INSERT INTO search (n, text) VALUES (?, ?)",
}


class DatabaseSink:
    """
    Rows in a database.

    Args:
        connect: opens the database; called again after a failure.
        retention: what is deleted when.
        now: microseconds since 1970.
    """

    def __init__(
        self, name: str, connect: Callable[[], Database], retention: Retention, now: Callable[[], int]
    ) -> None:
        self.name = name
        self._connect = connect
        self._retention = retention
        self._now = now
        self._database: Database | None = None
        self._ledger: Ledger | None = None
        self._runs: OrderedDict[tuple[str, str], RunState] = OrderedDict()
        self._experiments: OrderedDict[str, list[object]] = OrderedDict()

    def resume(self, partition: int) -> Position | None:
        """Open the database where it is not open, and say up to where `partition` is in it."""
        with self._whole() as (_, ledger):
            # Another replica may have written since.
            self._forget()
            ledger.forget()
            return ledger.place(partition)[1]

    def write(self, partition: int, deliveries: Sequence[Delivery]) -> Written:
        """Write the rows of `deliveries`, and the position behind them."""
        with self._whole() as (database, ledger):
            epoch = ledger.claim(partition)
            fold = Fold(self._run)
            events: list[tuple[object, ...]] = []
            words: list[tuple[int, str]] = []
            beats: list[tuple[int, str]] = []
            experiments: dict[str, list[object]] = {}
            holes: list[Hole] = []
            repeats = 0
            for delivery in deliveries:
                n, entry = place(epoch, partition, delivery.offset), to_entry(delivery)
                if entry is None:
                    beats.append((n, delivery.message_id))
                    continue
                missing = ledger.take(entry, n)
                if missing is None:
                    repeats += 1
                    continue
                if missing:
                    holes.append(Hole(entry.experiment, entry.run, missing))
                data = entry.read()
                events.append(_event_row(n, entry))
                if (text := searchable(data)) is not None:
                    words.append((n, text))
                fold.add(n, entry, data, missing)
                experiments[entry.experiment] = self._count(partition, n, entry)
            database.run_many(insert("events"), events)
            database.run_many(insert("beats"), beats)
            database.run_many(_SEARCH[database.dialect], words)
            database.run_many(upsert("experiments"), experiments.values())
            self._put(database, fold)
            last = deliveries[-1]
            ledger.save(partition, Position.of(partition, last.offset, last.message_id))
        return Written(len(events), repeats, tuple(holes))

    def gap(self, partition: int, reason: str, *, anew: bool) -> None:
        """Write down that events are missing."""
        with self._whole() as (_, ledger):
            ledger.gap(partition, reason, anew=anew)

    def tick(self) -> None:
        """Delete what is too old or too much, a slice at a time."""
        if self._database is None or not self._retention.due(self._now()):
            return
        with self._whole() as (database, ledger):
            deleted = self._retention.delete_slice(database, self._now())
            ledger.prune()
        if deleted:
            # A run's or an experiment's row may have gone.
            self._forget()
            self._retention.shrink(database)

    def close(self) -> None:
        """Let go of the database."""
        if self._database is not None:
            self._database.close()
        self._database = self._ledger = None
        self._forget()

    @contextlib.contextmanager
    def _whole(self) -> Iterator[tuple[Database, Ledger]]:
        """A transaction; where it fails, nothing in memory is believed any more and the database is opened anew."""
        try:
            if self._database is None or self._ledger is None:
                self._database = self._connect()
                migrate(self._database)
                self._ledger = Ledger(self._database, lambda: format_time(self._now()))
            with self._database.transaction():
                yield self._database, self._ledger
        except BaseException:
            self.close()
            raise

    def _forget(self) -> None:
        self._runs.clear()
        self._experiments.clear()

    def _run(self, experiment: str, run: str) -> RunState | None:
        key = (experiment, run)
        state = self._runs.get(key)
        if state is not None or self._database is None:
            return state
        rows = self._database.rows("SELECT fold FROM runs WHERE experiment = ? AND run = ?", key)
        try:
            return RunState.load(rows[0][0]) if rows else None
        except msgspec.MsgspecError as error:
            raise StorageError(f"The row of run {run!r} cannot be read: {error}.") from None

    def _put(self, database: Database, fold: Fold) -> None:
        rows, runs = fold.taken()
        for table, found in rows.items():
            database.run_many(upsert(table), found.values())
        database.run_many(upsert("runs"), [run.row() for run in runs])
        for run in runs:
            self._runs[run.experiment, run.run] = run
            self._runs.move_to_end((run.experiment, run.run))
        while len(self._runs) > RUNS_IN_MEMORY:
            self._runs.popitem(last=False)

    def _count(self, partition: int, n: int, entry: Entry) -> list[object]:
        """The row of the entry's experiment, with this event in it."""
        last = [n, entry.message_id, entry.type, entry.recorded]
        row = self._experiments.get(entry.experiment)
        if row is None and self._database is not None:
            found = self._database.rows("SELECT * FROM experiments WHERE experiment = ?", (entry.experiment,))
            row = list(found[0]) if found else [entry.experiment, partition, 0, *last, *last]
            self._experiments[entry.experiment] = row
            if len(self._experiments) > EXPERIMENTS_IN_MEMORY:
                self._experiments.popitem(last=False)
        assert row is not None
        assert isinstance(row[2], int)
        row[2] += 1
        row[7:] = last
        return row


def _event_row(n: int, entry: Entry) -> tuple[object, ...]:
    event = entry.envelope.decode("utf-8", "replace")
    message_id = None if entry.message_id == entry.id else entry.message_id
    return (
        n, entry.experiment, entry.run, entry.attempt, entry.type, entry.time, entry.recorded, entry.id, message_id,
        event,
    )  # fmt: skip
