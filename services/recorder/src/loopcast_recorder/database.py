"""One connection to SQLite or PostgreSQL, with the same words for both. `?` stands for a value."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from loopcast.errors import StorageError
from loopcast_recorder.schema import Dialect

__all__ = ["Database", "SqliteDatabase", "SqliteReader"]

BUSY_SECONDS = 5.0
"""How long a write waits for somebody else's."""
CACHE_KIB = 64 * 1024
WAL_PAGES = 4000
"""After so many pages (16 MB) the WAL is written back, where no reader holds it."""
WAL_BYTES = 64 * 1024 * 1024
"""To what it is cut when it was written back."""

Row = tuple[Any, ...]


class Database(Protocol):
    """What writes rows. Used by one thread at a time."""

    dialect: Dialect

    def run(self, sql: str, values: Sequence[object] = ()) -> int:
        """Run one statement; how many rows it changed."""
        ...

    def run_many(self, sql: str, rows: Iterable[Sequence[object]]) -> None:
        """Run one statement for each row."""
        ...

    def rows(self, sql: str, values: Sequence[object] = ()) -> list[Row]:
        """The rows of a question."""
        ...

    def transaction(self) -> contextlib.AbstractContextManager[None]:
        """
        All or nothing of what the block writes.

        Raises:
            StorageError: the database did not take it.
        """
        ...

    def close(self) -> None:
        """Let go. Safe to call again."""
        ...


class SqliteDatabase:
    """
    A SQLite file in WAL mode, which readers never keep from being written (https://sqlite.org/wal.html).

    With `synchronous=NORMAL` a power cut may take the last transactions, whole: the position goes back with the rows,
    and the log has the events again. A ledger of other files says FULL (`durable`), because they do not go back.

    Raises:
        StorageError: the file cannot be opened.
    """

    dialect: Dialect = "sqlite"

    def __init__(self, path: Path, *, durable: bool = False, busy_seconds: float = BUSY_SECONDS) -> None:
        self._path = path
        with self._told():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                path, timeout=busy_seconds, isolation_level=None, check_same_thread=False, cached_statements=256
            )
        try:
            with self._told():
                self._configure("FULL" if durable else "NORMAL")
        except StorageError:
            self._connection.close()
            raise

    def run(self, sql: str, values: Sequence[object] = ()) -> int:
        """Run one statement; how many rows it changed."""
        with self._told():
            return self._connection.execute(sql, values).rowcount

    def run_many(self, sql: str, rows: Iterable[Sequence[object]]) -> None:
        """Run one statement for each row."""
        with self._told():
            self._connection.executemany(sql, rows)

    def rows(self, sql: str, values: Sequence[object] = ()) -> list[Row]:
        """The rows of a question."""
        with self._told():
            return self._connection.execute(sql, values).fetchall()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing of what the block writes."""
        # IMMEDIATE: a transaction that begins by reading cannot always be made one that writes.
        self.run("BEGIN IMMEDIATE")
        try:
            yield
            self.run("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                # A full disk may have rolled it back already.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """Let go. Safe to call again."""
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()

    def _configure(self, synchronous: str) -> None:
        execute = self._connection.execute
        # Before the first table is made, or it does nothing: what retention frees goes back to the file system.
        execute("PRAGMA auto_vacuum = INCREMENTAL")
        execute("PRAGMA journal_mode = WAL")
        execute(f"PRAGMA synchronous = {synchronous}")
        execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}")
        execute(f"PRAGMA journal_size_limit = {WAL_BYTES}")

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise StorageError(f"{self._path}: {error}.") from error


class SqliteReader(SqliteDatabase):
    """
    A connection that only reads, and never keeps the writer waiting.

    Raises:
        StorageError: there is no such file.
    """

    def __init__(self, path: Path) -> None:  # what the writer configures is the file's, or is its own
        self._path = path
        with self._told():
            uri = f"{path.resolve().as_uri()}?mode=ro"
            self._connection = sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, check_same_thread=False)
