"""The subcommands that ask a gateway for what was and what is, their arguments and help."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from loopcast.up.state import DATA

__all__ = ["MOMENT", "Data", "Exclude", "Json", "Types", "Url", "replay", "runs"]

MOMENT = "2h, 7d, or 2026-11-20T12:00:00Z"

Types = Annotated[list[str] | None, typer.Option(help="Only such types of events; loop_* for example.")]
Exclude = Annotated[list[str] | None, typer.Option(help="No such types of events; action_output for example.")]
Json = Annotated[bool, typer.Option("--json", help="The CloudEvents, one a line.")]
Url = Annotated[str, typer.Option(envvar="LOOPCAST_GATEWAY_URL", help="The gateway.")]
Data = Annotated[Path, typer.Option(help="Where `loopcast up` keeps its data.")]


def runs(
    *,
    experiment: Annotated[str, typer.Argument(help="An experiment; all without one.")] = "*",
    everything: Annotated[bool, typer.Option("--all", "-a", help="Those that ended lately too.")] = False,
    limit: Annotated[int, typer.Option("-n", "--limit", help="At most so many.", min=1, max=1000)] = 100,
    json: Annotated[bool, typer.Option("--json", help="A JSON object a line.")] = False,
    url: Url = "",
    data: Data = DATA,
) -> None:
    """Show what runs now: its loop and sub-loops, its state, for how long, and when it last said something."""
    from loopcast.cli.runs import run_runs

    sys.exit(run_runs(experiment, everything=everything, limit=limit, json=json, url=url, data=data))


def replay(
    *,
    experiment: Annotated[str, typer.Argument(help="An experiment, or '*' for all.")],
    run: Annotated[str, typer.Option(help="Only this run of it.")] = "",
    since: Annotated[str, typer.Option(help=f"Only what was recorded later: {MOMENT}.")] = "",
    until: Annotated[str, typer.Option(help="Only what was recorded up to then.")] = "",
    types: Types = None,
    exclude: Exclude = None,
    speed: Annotated[float, typer.Option(help="1 is in its own time, 10 ten times as fast, 0 at once.", min=0)] = 0,
    longest: Annotated[float, typer.Option(help="With --speed: seconds of the longest wait.", min=0)] = 5,
    limit: Annotated[int, typer.Option("-n", "--limit", help="End after so many events; 0 is all.", min=0)] = 0,
    json: Json = False,
    url: Url = "",
    data: Data = DATA,
) -> None:
    """Show an experiment's past from the log, oldest first, and end; with --speed as if it happened now."""
    from loopcast.cli.moments import parse_moment
    from loopcast.cli.replay import Choice, Pace, run_replay

    sys.exit(
        run_replay(
            experiment,
            Choice(run=run, types=types or (), exclude=exclude or ()),
            Pace(speed, longest),
            since=parse_moment(since) if since else None,
            until=parse_moment(until, "--until") if until else None,
            limit=limit,
            json=json,
            url=url,
            data=data,
        )
    )
