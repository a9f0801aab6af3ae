"""`loopcast send`: one event, or the JSON lines of standard input, confirmed."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from loopcast.cli.access import bearer_header, refusal
from loopcast.errors import ConfigurationError
from loopcast.routing import check_experiment, check_type
from loopcast.up.state import http_address

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
    producer = http_address(url, data, "LOOPCAST_URL")
    target = f"{producer}/v1/experiments/{quote(experiment, safe='')}/events"
    lines = [json.dumps(_event(type_, fields))] if type_ else sys.stdin
    headers = {"content-type": "application/x-ndjson", **bearer_header()} | ({"loopcast-run": run} if run else {})
    totals = {"accepted": 0, "duplicates": 0, "invalid": 0}
    with httpx.Client(timeout=60, headers=headers) as client:
        for batch in _batches(lines):
            body = _post(client, producer, target, "".join(line for _, line in batch))
            for (number, _), item in zip(batch, body["events"], strict=True):
                if "error" in item:
                    print(item["error"] if type_ else f"line {number}: {item['error']}", file=sys.stderr)
            for name in totals:
                totals[name] += int(body[name])
    print(", ".join(f"{n} {name}" for name, n in totals.items() if n or name == "accepted"))
    return 1 if totals["invalid"] else 0


def _post(client: httpx.Client, producer: str, target: str, batch: str) -> dict[str, Any]:
    try:
        answer = client.post(target, content=batch)
    except httpx.HTTPError as error:
        raise ConfigurationError(f"No producer answers at {producer}: {error}. Is `loopcast up` running?") from None
    try:
        body: dict[str, Any] = answer.json()
        said = body.get("detail") or body.get("title")
    except (ValueError, AttributeError):
        body, said = {}, None
    if answer.status_code != 202 or "events" not in body:
        if said is None or answer.status_code in (404, 405):
            raise ConfigurationError(
                f"{producer} is no producer (it answered {answer.status_code}): correct --url or LOOPCAST_URL."
            )
        raise refusal("The producer", answer.status_code, said)
    return body


def _batches(lines: Iterable[str]) -> Iterator[list[tuple[int, str]]]:
    """Lines that say something, with their numbers."""
    batch: list[tuple[int, str]] = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            batch.append((number, line if line.endswith("\n") else line + "\n"))
        if len(batch) >= BATCH_LINES:
            yield batch
            batch = []
    if batch:
        yield batch


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
