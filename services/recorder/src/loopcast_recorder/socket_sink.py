"""
The sink that serves the Unix socket. Its state file knows the position and the open runs, so that a restart knows them.

It listens when it has caught up: the log was silent for a moment, or gave what is as new as the process. So the first
lines that a client gets are the runs that are open now, and then each event once.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import msgspec

from loopcast.broker.interface import Delivery
from loopcast.errors import StorageError
from loopcast.events import format_time
from loopcast.holes import Hole
from loopcast.position import Position
from loopcast_recorder.database import Database, SqliteDatabase
from loopcast_recorder.entry import place, to_entry
from loopcast_recorder.fold import Fold
from loopcast_recorder.ledger import Ledger
from loopcast_recorder.lines import Format, line_of
from loopcast_recorder.migrations import migrate
from loopcast_recorder.open_runs import SILENT_MICROSECONDS, is_open, seeds
from loopcast_recorder.run_state import RunState
from loopcast_recorder.schema import socket_statements
from loopcast_recorder.sinks import Written
from loopcast_recorder.socket_server import SocketServer, check_free

__all__ = ["SocketSink"]

QUIET_MICROSECONDS = 1_000_000
CLOSE_SECONDS = 5.0

_PUT = "INSERT INTO open_runs VALUES (?, ?, ?) ON CONFLICT (experiment, run) DO UPDATE SET fold = excluded.fold"


class SocketSink:
    """
    Lines for local clients. Made in the event loop that serves them; its methods run in the sink's thread.

    Args:
        now: microseconds since 1970.
    """

    def __init__(
        self,
        name: str,
        path: Path,
        *,
        format_: Format = "original",
        max_clients: int = 32,
        queue_bytes: int = 8 * 1024 * 1024,
        now: Callable[[], int],
    ) -> None:
        self.name = name
        self.server = SocketServer(path, self._first, max_clients=max_clients, queue_bytes=queue_bytes)
        self._path = path
        self._format: Format = format_
        self._line = line_of(format_)
        self._now = now
        self._began = now()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = -1
        self._database: Database | None = None
        self._ledger: Ledger | None = None
        self._runs: dict[tuple[str, str], RunState] = {}
        self._shown: list[RunState] = []
        """What the event loop tells new clients: the open runs as of the last line that was queued."""
        self._wrote = 0

    def serve_in(self, loop: asyncio.AbstractEventLoop) -> None:
        """Say which loop the clients are served in; before anything else."""
        self._loop = loop

    def resume(self, partition: int) -> Position | None:
        """Take the socket's name where it is free, and say up to where `partition` was told."""
        _, ledger = self._opened()
        self._wrote = self._now()
        return ledger.place(partition)[1]

    def write(self, partition: int, deliveries: Sequence[Delivery]) -> Written:
        """Tell `deliveries` to everybody who is connected, and remember who is open."""
        try:
            database, ledger = self._opened()
            with database.transaction():
                lines, written, recorded = self._fold(database, ledger, partition, deliveries)
                last = deliveries[-1]
                ledger.save(partition, Position.of(partition, last.offset, last.message_id))
        except BaseException:
            self._drop()
            raise
        self._wrote = self._now()
        self._in_loop(self._tell(lines, list(self._runs.values())))
        if recorded >= self._began:
            self._listen()
        return written

    def gap(self, partition: int, reason: str, *, anew: bool) -> None:
        """Write down that events are missing."""
        database, ledger = self._opened()
        with database.transaction():
            ledger.gap(partition, reason, anew=anew)

    def tick(self) -> None:
        """Listen, once the log has nothing older to tell."""
        if self._ledger is not None and self._now() - self._wrote >= QUIET_MICROSECONDS:
            self._listen()

    def close(self) -> None:
        """Deliver what is queued, and let go."""
        self._in_loop(self.server.close(CLOSE_SECONDS))
        self._drop()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _listen(self) -> None:
        if not self.server.listening:
            self._in_loop(self.server.listen())

    def _first(self) -> list[bytes]:
        since = format_time(self._now() - SILENT_MICROSECONDS)
        return seeds(self._shown, self._format, since=since)

    async def _tell(self, lines: Sequence[bytes], runs: list[RunState]) -> None:
        self._shown = runs
        await self.server.broadcast(lines)

    def _in_loop(self, work: Coroutine[Any, Any, None]) -> None:
        assert self._loop is not None
        done: Future[None] = asyncio.run_coroutine_threadsafe(work, self._loop)
        done.result()

    def _fold(
        self, database: Database, ledger: Ledger, partition: int, deliveries: Sequence[Delivery]
    ) -> tuple[list[bytes], Written, int]:
        epoch, _ = ledger.place(partition)
        fold = Fold(lambda *key: self._runs.get(key))
        lines: list[bytes] = []
        holes: list[Hole] = []
        repeats = recorded = 0
        for delivery in deliveries:
            entry = to_entry(delivery)
            if entry is None:
                continue
            n = place(epoch, partition, entry.offset)
            missing = ledger.take(entry, n)
            if missing is None:
                repeats += 1
                continue
            if missing:
                holes.append(Hole(entry.experiment, entry.run, missing))
            lines.append(self._line(entry))
            fold.add(n, entry, entry.read(), missing)
            recorded = entry.recorded
        self._keep(database, fold.taken()[1])
        return lines, Written(len(lines), repeats, tuple(holes)), recorded

    def _keep(self, database: Database, changed: Sequence[RunState]) -> None:
        for run in changed:
            key = (run.experiment, run.run)
            if is_open(run):
                self._runs[key] = run
                database.run(_PUT, (*key, run.dump()))
            elif self._runs.pop(key, None) is not None:
                database.run("DELETE FROM open_runs WHERE experiment = ? AND run = ?", key)

    def _opened(self) -> tuple[Database, Ledger]:
        if self._database is None or self._ledger is None:
            self._take_lock()
            if not self.server.listening:
                check_free(self._path)
            self._database = database = SqliteDatabase(self._path.with_name(f"{self._path.name}.state"))
            migrate(database, socket_statements)
            self._ledger = Ledger(database, lambda: format_time(self._now()))
            found = (RunState.load(row[0]) for row in database.rows("SELECT fold FROM open_runs"))
            try:
                self._runs = {(run.experiment, run.run): run for run in found}
            except msgspec.MsgspecError as error:
                self._drop()
                raise StorageError(f"{self._path}.state cannot be read ({error}): delete it.") from None
            self._shown = list(self._runs.values())
        return self._database, self._ledger

    def _take_lock(self) -> None:
        """One recorder for one name, also while both still catch up and neither listens."""
        if self._lock >= 0:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            lock = os.open(f"{self._path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StorageError(f"{self._path}: {error.strerror or error}.") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise StorageError(f"{self._path}: another recorder serves it; name another file.") from None
        self._lock = lock

    def _drop(self) -> None:
        if self._database is not None:
            with contextlib.suppress(StorageError):
                self._database.close()
        self._database = self._ledger = None
        self._runs = {}
