"""`loopcast webhooks`: look at endpoints, try them, pause them, put events back."""

from __future__ import annotations

import asyncio
import importlib.util
import json as jsonlib
import os
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from loopcast.cli.moments import parse_moment, span
from loopcast.errors import ConfigurationError
from loopcast.up.state import DATA, address

if TYPE_CHECKING:
    from loopcast_webhook_forwarder.operator import Operator

__all__ = ["make_webhooks"]

MAX_EVENTS = 1_000_000_000
_ENDPOINTS = ("name", "state", "queued", "dead", "failures", "failing", "next try", "last")
_LETTERS = ("id", "experiment", "type", "age", "attempts", "reason")

T = TypeVar("T")
Name = Annotated[str, typer.Argument(help="The endpoint's name.")]
File = Annotated[Path | None, typer.Option("--file", envvar="LOOPCAST_WEBHOOKS_FILE", help="The endpoints file.")]
Amqp = Annotated[str, typer.Option(envvar="LOOPCAST_AMQP_URL", help="The broker.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def make_webhooks() -> typer.Typer:
    """The subcommands."""
    app = typer.Typer(no_args_is_help=True, help="Endpoints that events are posted to.")
    app.command("list")(list_)
    app.command("test")(try_)
    for command in (dead, replay, pause, resume, drop):
        app.command()(command)
    return app


def list_(file: File = None, amqp: Amqp = "", json: Json = False) -> None:
    """Show every endpoint, also one that is in the broker alone: its state, what waits, and what came back last."""

    async def work(operator: Operator) -> list[dict[str, object]]:
        return [asdict(row) for row in await operator.rows()]

    rows = _run(file, amqp, work)
    if json:
        _print_json(rows)
        return
    for row in rows:
        row["failing"] = _ago(row.pop("failing_since"))
        row["next try"] = _ahead(row.pop("next_try"))
    _print_rows(_ENDPOINTS, rows, empty="the file has no endpoints")


def try_(name: Name, file: File = None, amqp: Amqp = "", json: Json = False) -> None:
    """Post one signed test event to an endpoint; exit code 1 where it is not taken."""
    from loopcast_webhook_forwarder.answers import Answer, Delivered, judge

    outcome = _run(file, amqp, lambda operator: operator.test(name))
    taken = isinstance(judge(outcome), Delivered)
    text = outcome.body.decode("utf-8", "replace")[:500] if isinstance(outcome, Answer) else ""
    if json:
        _print_json({"taken": taken, "result": outcome.sentence, "answer": text})
    else:
        typer.echo(f"{'taken' if taken else 'not taken'}: {outcome.sentence}" + (f"\n{text}" if text else ""))
    sys.exit(0 if taken else 1)


def dead(
    name: Name,
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, help="How many, the oldest first.")] = 20,
    file: File = None,
    amqp: Amqp = "",
    json: Json = False,
) -> None:
    """Show dead letters; they stay where they are."""
    letters = _run(file, amqp, lambda operator: operator.dead(name, limit))
    if json:
        _print_json(letters)
        return
    rows = [{**letter, "age": _ago(letter["at"])} for letter in letters]
    _print_rows(_LETTERS, rows, empty="no dead letters")


def replay(
    *,
    name: Name,
    since: Annotated[str, typer.Option(help="Read the log from then: 2h, 7d, or 2026-11-20T12:00:00Z.")] = "",
    from_dead: Annotated[
        bool, typer.Option("--dead", help="With --since: of the dead letters, not of the log.")
    ] = False,
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, help="At most so many.")] = MAX_EVENTS,
    file: File = None,
    amqp: Amqp = "",
    json: Json = False,
) -> None:
    """Put events into an endpoint's queue again, under their ids: its dead letters, or the log's since a time."""
    moment = parse_moment(since) if since else 0.0

    async def work(operator: Operator) -> int:
        if since and not from_dead:
            return await operator.replay_log(name, since=moment, limit=limit)
        return await operator.replay_dead(name, since=moment, limit=limit)

    count = _run(file, amqp, work)
    _say(json, f"{count} events are in the queue of {name} again", {"replayed": count})


def pause(
    name: Name,
    reason: Annotated[str, typer.Option(help="Shown by `list`.")] = "paused by a person",
    file: File = None,
    amqp: Amqp = "",
    json: Json = False,
) -> None:
    """Post nothing to an endpoint until `resume`; its queue keeps what comes."""
    _run(file, amqp, lambda operator: operator.set_mode(name, "paused", reason))
    _say(json, f"{name} is paused", {"name": name, "state": "paused", "reason": reason})


def resume(name: Name, file: File = None, amqp: Amqp = "", json: Json = False) -> None:
    """Go on after a pause or a 410, and end a wait."""
    _run(file, amqp, lambda operator: operator.set_mode(name, "running", ""))
    _say(json, f"{name} goes on", {"name": name, "state": "running"})


def drop(
    *,
    name: Name,
    dead: Annotated[bool, typer.Option("--dead", help="Its dead letters too.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    file: File = None,
    amqp: Amqp = "",
    json: Json = False,
) -> None:
    """Delete the queue of an endpoint that the file no longer has, with the events in it."""
    if not yes:
        # The question goes to stderr, so that stdout is the answer alone.
        typer.confirm(f"Delete what waits for {name}?", abort=True, err=True)
    count = _run(file, amqp, lambda operator: operator.drop(name, dead=dead))
    _say(json, f"{name} is gone, and {count} events with it", {"name": name, "dropped": count})


def _run(file: Path | None, amqp: str, work: Callable[[Operator], Awaitable[T]]) -> T:
    if importlib.util.find_spec("loopcast_webhook_forwarder") is None:
        raise ConfigurationError(
            "This needs the forwarder's code: "
            "in a checkout of Loopcast, pip install ./shared ./services/webhook-forwarder"
        )
    from loopcast.settings import WebhookForwarderSettings, load
    from loopcast_webhook_forwarder.operator import Operator

    if file is not None:
        os.environ["LOOPCAST_WEBHOOKS_FILE"] = str(file)
    os.environ["LOOPCAST_AMQP_URL"] = amqp or address(DATA, "LOOPCAST_AMQP_URL")

    async def run() -> T:
        async with Operator(load(WebhookForwarderSettings)) as operator:
            return await work(operator)

    return asyncio.run(run())


def _ago(at: object) -> str:
    return "" if not isinstance(at, int | float) else span(time.time() - at)


def _ahead(at: object) -> str:
    return "" if not isinstance(at, int | float) else "in " + span(at - time.time())


def _say(json: bool, sentence: str, answer: Mapping[str, object]) -> None:
    if json:
        _print_json(answer)
    else:
        typer.echo(sentence)


def _print_json(value: object) -> None:
    sys.stdout.write(jsonlib.dumps(value) + "\n")


def _print_rows(columns: Sequence[str], rows: Sequence[Mapping[str, object]], *, empty: str) -> None:
    # Only whoever prints a table waits for what draws it.
    from loopcast.cli.tables import cells, print_table

    print_table(columns, (cells(row.get(column) for column in columns) for row in rows), empty=empty)
