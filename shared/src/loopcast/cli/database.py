"""The recorder's SQLite file, opened to be read: the recorder goes on writing meanwhile."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

from loopcast.errors import ConfigurationError
from loopcast.up.state import RECORDED

__all__ = ["columns_of", "opened"]


@contextlib.contextmanager
def opened(file: Path | None, data: Path) -> Iterator[sqlite3.Connection]:
    """
    A connection that cannot write to `file`, or to what `loopcast up` records under `data`.

    Raises:
        ConfigurationError: there is no such file, it is no database of a recorder, or a statement is wrong.
    """
    path = data / RECORDED if file is None else file
    if not path.is_file():
        raise ConfigurationError(f"There is no database at {path}: name the recorder's with --db.")
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
    try:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'events'").fetchone():
            raise ConfigurationError(f"{path} is no database of a recorder.")
        yield connection
    except sqlite3.Error as error:
        raise ConfigurationError(f"{path}: {error}.") from None
    finally:
        connection.close()


def columns_of(cursor: sqlite3.Cursor) -> Sequence[str]:
    """The names of an answer's columns."""
    return [column[0] for column in cursor.description or ()]
