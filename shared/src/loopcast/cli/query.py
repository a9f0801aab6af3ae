"""`loopcast query`: questions to the recorder's database, answered as tables or as JSON lines."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import Literal

from rich.text import Text

from loopcast.cli.database import columns_of, opened
from loopcast.cli.questions import Query, Scope, ask
from loopcast.cli.tables import print_table
from loopcast.errors import ConfigurationError

__all__ = ["run_query"]

WIDTH = 60


def run_query(question: str, scope: Scope, *, sql: str, json: bool, file: Path | None, data: Path) -> int:
    """
    Print the answer to `question`, or to `sql`; the exit code.

    Raises:
        ConfigurationError: there is no database, or the question is none.
    """
    if bool(question) == bool(sql):
        raise ConfigurationError("Ask one question (runs, states, failures, tokens, search), or give --sql.")
    query = Query(sql, ()) if sql else ask(question, scope)
    with opened(file, data) as connection:
        cursor = connection.execute(*query)
        columns = columns_of(cursor)
        if json:
            for row in cursor:
                print(jsonlib.dumps(dict(zip(columns, map(_plain, row), strict=True)), ensure_ascii=False))
        else:
            rows = ((Text(_text(value), justify=_side(value)) for value in row) for row in cursor)
            print_table(columns, rows, empty="nothing found")
    return 0


def _text(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.4f}".rstrip("0").rstrip(".")
    if isinstance(value, int):
        return f"{value:,}"
    text = str(_plain(value)).replace("\n", "⏎ ")
    return text if len(text) <= WIDTH else text[: WIDTH - 1] + "…"


def _side(value: object) -> Literal["left", "right"]:
    return "right" if isinstance(value, int | float) else "left"


def _plain(value: object) -> object:
    return value.hex() if isinstance(value, bytes) else value
