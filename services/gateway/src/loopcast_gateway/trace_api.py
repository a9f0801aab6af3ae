"""Where a run's trace is: its id, which anybody can compute, and its address where the backend's is known."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import unquote

import msgspec
from fastapi import APIRouter, Request, Response

from loopcast.history_query import BadQuery
from loopcast.routing import check_experiment
from loopcast.trace_ids import trace_id, trace_url
from loopcast_gateway.problems import JSON

__all__ = ["TraceOfRun", "trace_routes"]

MAX_ATTEMPT = 1_000_000


class TraceOfRun(msgspec.Struct):
    """The trace of one attempt of a run; of a very long one, its first chapter."""

    trace_id: str
    """32 hexadecimal digits, as `loopcast otel trace-id` prints them."""
    url: str | None
    """Where the backend shows it; null where `LOOPCAST_TRACE_URL` is not set."""


def trace_routes(template: str) -> APIRouter:
    """The route of a run's trace; `template` is the address of a trace, with a place for its id, or nothing."""
    router = APIRouter()

    @router.get("/v1/experiments/{experiment}/runs/{run}/trace")
    async def trace(experiment: str, run: str, request: Request) -> Response:
        """The id and the address of a run's trace, whether it has begun or not."""
        name, attempt = check_experiment(unquote(experiment, errors="strict")), _attempt(request.query_params)
        whole = check_experiment(unquote(run, errors="strict"), what="run id")
        url = trace_url(template, name, whole, attempt) if template else None
        found = TraceOfRun(trace_id(name, whole, attempt).hex(), url)
        return Response(msgspec.json.encode(found), media_type=JSON)

    return router


def _attempt(parameters: Mapping[str, str]) -> int:
    for name in parameters:
        if name != "attempt":
            raise BadQuery(f"There is no parameter {name[:40]!r}; there is attempt.")
    text = parameters.get("attempt", "1")
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= MAX_ATTEMPT):
        raise BadQuery(f"attempt must be a number from 1 to {MAX_ATTEMPT}, not {text[:40]!r}.")
    return int(text)
