"""`loopcast query` and `loopcast export`: their arguments and help."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from loopcast.up.state import DATA

__all__ = ["export", "query"]

Database = Annotated[
    Path | None, typer.Option("--db", envvar="LOOPCAST_RECORDER_SQLITE", help="The recorder's SQLite file.")
]
Data = Annotated[Path, typer.Option(help="Where `loopcast up` keeps its data.")]


def query(
    *,
    question: Annotated[str, typer.Argument(help="runs, states, failures, tokens or search.")] = "",
    text: Annotated[str, typer.Argument(help="What to search for; of runs, a status.")] = "",
    sql: Annotated[str, typer.Option(help="A statement of your own instead.")] = "",
    experiment: Annotated[str | None, typer.Option(help="Of this experiment only.")] = None,
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, help="At most so many rows.")] = 20,
    json: Annotated[bool, typer.Option("--json", help="A JSON object a line.")] = False,
    db: Database = None,
    data: Data = DATA,
) -> None:
    """Ask what happened: runs, slow states, failures, tokens by model, words in any event."""
    from loopcast.cli.query import run_query
    from loopcast.cli.questions import Scope

    scope = Scope(experiment=experiment, text=text, limit=limit)
    sys.exit(run_query(question, scope, sql=sql, json=json, file=db, data=data))


def export(
    *,
    table: Annotated[
        str, typer.Argument(help="events, runs, loops, states, actions, evaluations, usage, experiments or gaps.")
    ],
    target: Annotated[Path, typer.Argument(metavar="FILE", help="A file that ends in .parquet or .csv.")],
    sql: Annotated[str, typer.Option(help="The answer to this statement instead of the whole table.")] = "",
    experiment: Annotated[str | None, typer.Option(help="Of this experiment only.")] = None,
    db: Database = None,
    data: Data = DATA,
) -> None:
    """Write a table of what was recorded to a Parquet or CSV file."""
    from loopcast.cli.export import run_export

    sys.exit(run_export(table, target, experiment=experiment, sql=sql, file=db, data=data))
