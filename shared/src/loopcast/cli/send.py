"""`loopcast send`: one event, or the JSON lines of standard input, confirmed."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import quote

import httpx

from loopcast.cli.access import bearer_header
from loopcast.errors import ConfigurationError
from loopcast.routing import check_experiment, check_type
from loopcast.up.state import address

__all__ = ["run_send"]

BATCH_LINES = 500
"""Lines that go in one request."""


def run_send(experiment: str, type_: str, fields: list[str], *, run: str, url: str, data: Path) -> int:
    """
    Send, print what became of it, and return the exit code: 0 when all was accepted.

    Raises:
        ConfigurationError: no producer is named and none runs here, or a field is not `name=value`.
        InvalidEvent: the experiment or the type breaks its grammar.
    """
    check_experiment(experiment)
    target = f"{url or address(data, 'LOOPCAST_URL')}/v1/experiments/{quote(experiment, safe='')}/events"
    lines = [json.dumps(_event(type_, fields))] if type_ else sys.stdin
    headers = {"content-type": "application/x-ndjson", **bearer_header()} | ({"loopcast-run": run} if run else {})
    totals = {"accepted": 0, "duplicates": 0, "invalid": 0}
    with httpx.Client(timeout=60, headers=headers) as client:
        for batch in _batches(lines):
            for name, n in _post(client, target, batch).items():
                totals[name] += n
    print(", ".join(f"{n} {name}" for name, n in totals.items() if n or name == "accepted"))
    return 1 if totals["invalid"] else 0


def _post(client: httpx.Client, target: str, batch: str) -> dict[str, int]:
    try:
        answer = client.post(target, content=batch)
    except httpx.HTTPError as error:
        raise ConfigurationError(f"No producer answers at {target}: {error}. Is `loopcast up` running?") from None
    body = answer.json()
    if answer.status_code != 202:
        raise ConfigurationError(f"{answer.status_code}: {body.get('detail') or body.get('title')}")
    for item in body["events"]:
        if "error" in item:
            print(item["error"], file=sys.stderr)
    return {name: int(body[name]) for name in ("accepted", "duplicates", "invalid")}


def _batches(lines: Iterable[str]) -> Iterator[str]:
    batch: list[str] = []
    for line in lines:
        if line.strip():
            batch.append(line if line.endswith("\n") else line + "\n")
        if len(batch) >= BATCH_LINES:
            yield "".join(batch)
            batch = []
    if batch:
        yield "".join(batch)


def _event(type_: str, fields: list[str]) -> dict[str, object]:
    event: dict[str, object] = {"event": check_type(type_)}
    for field in fields:
        name, equals, value = field.partition("=")
        if not equals or not name:
            raise ConfigurationError(f"{field!r} is no field: write name=value.")
        try:
            event[name] = json.loads(value)
        except ValueError:
            event[name] = value
    return event
