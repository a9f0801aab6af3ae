"""The same words as :mod:`loopcast_recorder.database`, said to PostgreSQL."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

import psycopg
from psycopg.conninfo import conninfo_to_dict

from loopcast.errors import ConfigurationError, StorageError
from loopcast_recorder.database import Row
from loopcast_recorder.schema import Dialect

__all__ = ["PostgresDatabase", "check_url"]

CONNECT_SECONDS = 10


class PostgresDatabase:
    """
    A connection to PostgreSQL, 13 or newer.

    Raises:
        StorageError: it cannot be reached.
    """

    dialect: Dialect = "postgresql"

    def __init__(self, url: str, *, read_only: bool = False) -> None:
        with _told():
            self._connection = psycopg.connect(url, autocommit=True, connect_timeout=CONNECT_SECONDS)
            self._connection.read_only = read_only

    def run(self, sql: str, values: Sequence[object] = ()) -> int:
        """Run one statement; how many rows it changed."""
        with _told():
            return self._connection.execute(_spoken(sql), values).rowcount

    def run_many(self, sql: str, rows: Iterable[Sequence[object]]) -> None:
        """Run one statement for each row."""
        with _told(), self._connection.cursor() as cursor:
            cursor.executemany(_spoken(sql), list(rows))

    def rows(self, sql: str, values: Sequence[object] = ()) -> list[Row]:
        """The rows of a question."""
        with _told():
            return self._connection.execute(_spoken(sql), values).fetchall()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing of what the block writes."""
        with _told(), self._connection.transaction():
            yield

    def close(self) -> None:
        """Let go. Safe to call again."""
        with contextlib.suppress(psycopg.Error):
            self._connection.close()


def check_url(url: str, name: str) -> str:
    """
    Return `url` if libpq can read it; `name` is where it was written.

    Raises:
        ConfigurationError: it cannot. Its own words have the whole of what it was given, so they are not shown.
    """
    try:
        conninfo_to_dict(url)
    except psycopg.Error:
        example = "postgresql://user:password@host/database"
        raise ConfigurationError(f"{name} is no address of a database: write it as {example}.") from None
    return url


@lru_cache(maxsize=256)
def _spoken(sql: str) -> bytes:
    """The statement with psycopg's signs for values; no statement of ours has a question mark in a text."""
    return sql.replace("%", "%%").replace("?", "%s").encode()


@contextlib.contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        # The first line says what is wrong, the others where in the statement.
        sentence = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise StorageError(f"PostgreSQL: {sentence}.") from error
