"""`loopcast runs`: what runs now, where it is, and what ended lately."""

from __future__ import annotations

import datetime as dt
import json as jsonlib
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.text import Text

from loopcast.cli.gateway import Gateway
from loopcast.cli.moments import span
from loopcast.cli.tables import print_table
from loopcast.history_query import MAX_LIMIT

__all__ = ["row_of", "run_runs"]

COLUMNS = ("experiment", "run", "status", "loop", "state", "iteration", "for", "last event", "missing")
_COLOURS = {
    "running": "green",
    "awaiting_continuation": "yellow",
    "silent": "yellow",
    "failed": "red",
    "timed_out": "red",
}


def run_runs(experiment: str, *, everything: bool, limit: int, json: bool, url: str, data: Path) -> int:
    """
    Print the runs of `experiment` (`*` is all) that go on, with `everything` those that ended too; the exit code.

    Raises:
        ConfigurationError: no gateway answers, or it refuses what was asked for.
    """
    with Gateway(url, data) as gateway:
        # One that waits for a person all night stands behind all those that ended meanwhile.
        answer = gateway.get(experiment, "runs", {"limit": limit} if everything else {"limit": limit, "open": "true"})
    runs, complete = answer["runs"], answer.get("complete", True)
    if json:
        for run in runs:
            print(jsonlib.dumps(run, ensure_ascii=False))
    else:
        # A column of nothing is no news: it is there where something is missing.
        columns = COLUMNS if any(run.get("missing") for run in runs) else COLUMNS[:-1]
        rows = (_texts(row_of(run, time.time())[: len(columns)]) for run in runs)
        print_table(columns, rows, empty="no runs" if everything else "nothing runs")
    if not complete and len(runs) < limit:
        print("There may be more: the gateway has not read the whole log yet.", file=sys.stderr)
    elif not complete:
        more = "--limit shows more of them, " if limit < MAX_LIMIT else ""
        print(f"There may be more: {more}`loopcast query runs` the recorded ones.", file=sys.stderr)
    return 0


def row_of(run: Mapping[str, Any], now: float) -> tuple[str, ...]:
    """The cells of a run, in the order of :data:`COLUMNS`, at `now` (Unix seconds)."""
    loops = run.get("loops") or []
    # The innermost loop is where it is; the others only wait for it.
    inner = loops[-1] if loops else {}
    path = " > ".join(level.get("loop") or "?" for level in loops) or run.get("loop") or "-"
    began, ended = _seconds(run.get("started")), _seconds(run.get("ended"))
    updated = _seconds(run.get("updated"))
    # One that is silent lasted to its last sign of life, as far as anybody knows.
    until = max(updated or 0.0, _seconds(run.get("pulse")) or 0.0) if run.get("silent") else ended
    lasted = "-" if began is None else span((now if until is None else until) - began)
    return (
        run["experiment_id"],
        run["run"],
        "silent" if run.get("silent") else run.get("status") or "-",
        path,
        inner.get("state") or "-",
        str(inner.get("iteration") or "-"),
        lasted,
        "-" if updated is None else f"{span(now - updated)} ago",
        f"{missing:,}" if (missing := run.get("missing")) else "-",
    )


def _texts(row: Sequence[str]) -> Iterator[Text]:
    for name, text in zip(COLUMNS, row, strict=False):
        colour = _COLOURS.get(text, "") if name == "status" else "red" if name == "missing" and text != "-" else ""
        yield Text(text, colour)


def _seconds(text: object) -> float | None:
    try:
        return dt.datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return None
