"""The gateway's pages of history out of the database, which goes further back than the log."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from loopcast.errors import LoopcastError
from loopcast.events import format_time
from loopcast.history_query import Query, RunQuery
from loopcast.outcome import RUNNING, WAITING
from loopcast.position import Position, anchor_hash
from loopcast.routing import ANYWHERE
from loopcast_recorder.database import Database, Row
from loopcast_recorder.entry import OFFSET_BITS, place
from loopcast_recorder.retention import used_bytes

__all__ = ["Gone", "History", "Page", "encode"]

MAX_EXPERIMENTS = 10_000

_RUN = (
    "run", "loop", "own_run", "parent_run", "status", "attempts", "started", "ended", "duration_ms", "final_state",
    "terminated_by", "error", "iterations", "current_state", "iteration", "events", "missing", "actions",
    "input_tokens", "output_tokens", "cache_read_tokens", "cache_creation_tokens", "cost_usd",
)  # fmt: skip


class Gone(LoopcastError):
    """A position that nothing recorded proves."""


class Page(NamedTuple):
    """Events in the order that was asked for."""

    events: Sequence[tuple[str, str]]
    """Positions and envelopes."""
    next: str | None
    """The position to ask with for the following page; None where there can be none."""
    complete: bool
    """Whether these are all the events that were asked for."""


class History:
    """
    Answers from what is recorded. Each answer has a connection of its own, so that none waits for another.

    Every method raises :exc:`~loopcast.errors.StorageError` where the database cannot be read.
    """

    def __init__(self, connect: Callable[[], Database]) -> None:
        self._connect = connect

    def experiments(self) -> tuple[list[dict[str, object]], bool]:
        """The experiments that were recorded, the most recently active first, and whether these are all."""
        columns = "first_n, first_id, first_type, first_recorded, last_n, last_id, last_type, last_recorded"
        sql = f"SELECT experiment, events, {columns} FROM experiments ORDER BY last_recorded DESC LIMIT ?"  # noqa: S608
        with contextlib.closing(self._connect()) as database:
            rows = database.rows(sql, (MAX_EXPERIMENTS + 1,))
        listed: list[dict[str, object]] = [
            {"experiment_id": row[0], "events": row[1], "first": _mark(row[2:6]), "last": _mark(row[6:10])}
            for row in rows[:MAX_EXPERIMENTS]
        ]
        return listed, len(rows) <= MAX_EXPERIMENTS

    def runs(self, experiment: str, query: RunQuery) -> tuple[list[dict[str, object]], bool]:
        """The runs of `experiment` (`*` is all) that are asked for, the last active first; whether these are all."""
        tests: list[tuple[str, tuple[str, ...]]] = []
        if experiment != ANYWHERE:
            tests.append(("experiment = ?", (experiment,)))
        if query.open:
            tests.append(("status IN (?, ?)", (RUNNING, WAITING)))
        where = f"WHERE {' AND '.join(test for test, _ in tests)}" if tests else ""
        given = [value for _, values in tests for value in values]
        sql = f"SELECT experiment, {', '.join(_RUN)} FROM runs {where} ORDER BY last_n DESC LIMIT ?"  # noqa: S608
        with contextlib.closing(self._connect()) as database:
            rows = database.rows(sql, (*given, query.limit + 1))
        names = ("experiment_id", *_RUN)
        return [dict(zip(names, row, strict=True)) for row in rows[: query.limit]], len(rows) <= query.limit

    def stats(self) -> dict[str, object]:
        """What there is: how much, how the runs stand, how far each partition is recorded, and what is missing."""
        with contextlib.closing(self._connect()) as database:
            ((experiments, first, last),) = database.rows(
                "SELECT count(*), min(first_recorded), max(last_recorded) FROM experiments"
            )
            runs = database.rows("SELECT status, count(*), sum(events) FROM runs GROUP BY status")
            places = database.rows("SELECT partition, epoch, pos, changed FROM positions ORDER BY partition")
            ((gaps,),) = database.rows("SELECT count(*) FROM gaps")
            size = used_bytes(database)
        return {
            "experiments": experiments,
            "events": sum(int(events) for _, _, events in runs),
            "runs": {status or "none": count for status, count, _ in sorted(runs, key=lambda row: row[0] or "")},
            "first": None if first is None else format_time(first),
            "last": None if last is None else format_time(last),
            "bytes": size,
            "partitions": [dict(zip(("partition", "epoch", "pos", "changed"), place, strict=True)) for place in places],
            "gaps": gaps,
        }

    def page(self, experiment: str, query: Query, partition: int) -> Page:
        """
        The events of `experiment`, which are in `partition`, that `query` asks for.

        Raises:
            Gone: nothing that was recorded proves the position that was given.
        """
        with contextlib.closing(self._connect()) as database:
            behind, ahead = query.after.get(partition), query.before.get(partition)
            after = None if behind is None else _proven(database, behind)
            before = None if ahead is None else _proven(database, ahead)
            since = None if query.since is None else int(query.since * 1e6)
            until = None if query.until is None else int(query.until * 1e6)
            bounds = [("n > ?", after), ("n < ?", before), ("recorded > ?", since), ("recorded <= ?", until)]
            used = [(condition, value) for condition, value in bounds if value is not None]
            where = " AND ".join(["experiment = ?", *(condition for condition, _ in used)])
            sql = (
                f"SELECT n, coalesce(message_id, id), event FROM events WHERE {where} "  # noqa: S608
                f"ORDER BY n {'DESC' if query.order == 'newest' else 'ASC'} LIMIT ?"
            )
            rows = database.rows(sql, (experiment, *(value for _, value in used), query.limit + 1))
        shown = [(_pos(n, message_id), event) for n, message_id, event in rows[: query.limit]]
        given = behind or ahead
        last = shown[-1][0] if shown else None if given is None else str(given)
        return Page(shown, last, complete=len(rows) <= query.limit)


def _proven(database: Database, position: Position) -> int:
    """The number of what stands at `position`: the newest log that has the very message there."""
    epochs = database.rows("SELECT epoch FROM positions WHERE partition = ?", (position.partition,))
    for epoch in range(epochs[0][0] if epochs else -1, -1, -1):
        n = place(epoch, position.partition, position.offset)
        for table in ("events", "beats"):
            column = "coalesce(message_id, id)" if table == "events" else "message_id"
            rows = database.rows(f"SELECT {column} FROM {table} WHERE n = ?", (n,))  # noqa: S608
            if rows and anchor_hash(rows[0][0]) == position.anchor:
                return n
    raise Gone("Nothing that was recorded proves this position: begin without it, or with since_ts.")


def _pos(n: int, message_id: str) -> str:
    partition, offset = (n >> OFFSET_BITS) & 0xFF, n & ((1 << OFFSET_BITS) - 1)
    return str(Position.of(partition, offset, message_id))


def _mark(row: Row) -> dict[str, object]:
    n, message_id, type_, recorded = row
    return {"pos": _pos(n, message_id), "type": type_, "recordedtime": format_time(recorded)}


def encode(page: Page) -> bytes:
    """A page as the gateway answers it, each event byte for byte."""
    events = ",".join(f'{{"pos":"{pos}","event":{event}}}' for pos, event in page.events).encode()
    end = msgspec.json.encode({"next": page.next, "complete": page.complete})[1:]
    return b'{"events":[' + events + b"]," + end
