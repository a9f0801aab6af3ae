"""`loopcast export`: a table of the recorder's database as a Parquet or CSV file, written by pyarrow in pieces."""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loopcast.cli.database import columns_of, opened
from loopcast.errors import ConfigurationError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["TABLES", "run_export"]

TABLES = ("events", "runs", "loops", "states", "actions", "evaluations", "usage", "experiments", "gaps")
ROWS = 50_000
"""Rows held at once."""
NO_ARROW = "Exporting needs pyarrow: in a checkout of Loopcast, pip install './shared[export]'"


def run_export(table: str, target: Path, *, experiment: str | None, sql: str, file: Path | None, data: Path) -> int:
    """
    Write a table, or the answer to `sql`, to `target`; the exit code.

    Raises:
        ConfigurationError: there is no database or no such table, the file's kind is unknown, or pyarrow is missing.
    """
    if target.suffix not in (".parquet", ".csv"):
        raise ConfigurationError(f"{target} must end in .parquet or .csv.")
    with opened(file, data) as connection:
        columns, values = "*", () if experiment is None else (experiment,)
        if not sql:
            if table not in TABLES:
                raise ConfigurationError(f"There is no table {table!r}: export one of {', '.join(TABLES)}.")
            columns = ", ".join(name for name, kind in _declared(connection, table).items() if kind != "BLOB")
        where = "" if experiment is None else " WHERE experiment = ?"
        statement = sql or f"SELECT {columns} FROM {table}{where}"  # noqa: S608
        cursor = connection.execute(statement, () if sql else values)
        rows = _write(cursor, {} if sql else _declared(connection, table), target)
    print(f"{rows:,} rows in {target}", file=sys.stderr)
    return 0


def _declared(connection: sqlite3.Connection, table: str) -> dict[str, str]:
    return {row[1]: row[2] for row in connection.execute(f"PRAGMA table_info({table})")}


def _write(cursor: sqlite3.Cursor, declared: dict[str, str], target: Path) -> int:
    """Write to a file beside `target`, which appears whole or not at all."""
    try:
        import pyarrow as pa
        from pyarrow import csv, parquet
    except ImportError:
        raise ConfigurationError(NO_ARROW) from None
    names = columns_of(cursor)
    rows = cursor.fetchmany(ROWS)
    schema = pa.schema([(name, _type(declared.get(name), n, rows)) for n, name in enumerate(names)])
    open_writer = parquet.ParquetWriter if target.suffix == ".parquet" else csv.CSVWriter
    temporary = target.with_name(f".{target.name}.part")
    count = 0
    try:
        with open_writer(temporary, schema) as writer:
            while rows:
                writer.write_batch(_batch(rows, schema))
                count += len(rows)
                rows = cursor.fetchmany(ROWS)
        temporary.replace(target)
    except (OSError, pa.ArrowException) as error:
        temporary.unlink(missing_ok=True)
        raise ConfigurationError(f"{target} cannot be written: {error}.") from None
    return count


def _batch(rows: list[tuple[Any, ...]], schema: pa.Schema) -> pa.RecordBatch:
    import pyarrow as pa

    columns = zip(*rows, strict=True)
    arrays = [pa.array(column, type=field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.record_batch(arrays, schema=schema)


def _type(declared: str | None, at: int, rows: list[tuple[Any, ...]]) -> pa.DataType:
    """A column's type: as the table has it, or for a statement of one's own as its first rows have it."""
    import pyarrow as pa

    if declared:
        return {"INTEGER": pa.int64(), "REAL": pa.float64()}.get(declared, pa.string())
    kinds = {type(row[at]) for row in rows if row[at] is not None}
    if kinds == {int}:
        return pa.int64()
    if kinds and kinds <= {int, float}:
        return pa.float64()
    return pa.binary() if kinds == {bytes} else pa.string()
