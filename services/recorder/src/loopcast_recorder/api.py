"""The HTTP side: the gateway's history routes, answered from the database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import unquote

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from loopcast.auth import Authenticator
from loopcast.door import Door, grants_of
from loopcast.errors import InvalidExperiment, StorageError
from loopcast.history_query import BadQuery, read_query, read_run_query
from loopcast.origins import Origins
from loopcast.routing import ANYWHERE, check_experiment, partition_of
from loopcast_recorder.history import Gone, History, encode

__all__ = ["SinksOf", "make_app"]

JSON = "application/json"
PROBLEM_JSON = "application/problem+json"
QUESTIONS = 4
"""Questions to the database at the same time."""

T = TypeVar("T")
SinksOf = Callable[[], list[dict[str, object]]]


def make_app(
    history: History, origins: Origins, authenticator: Authenticator, *, partitions: int, sinks: SinksOf = list
) -> ASGIApp:
    """The ASGI application of the public port; `sinks` says how each sink of this process is."""
    slots = asyncio.Semaphore(QUESTIONS)

    async def ask(question: Callable[[], T]) -> T:
        async with slots:
            return await asyncio.to_thread(question)

    async def experiments(request: Request) -> Response:
        listed, complete = await ask(history.experiments)
        return _json({"experiments": _permitted(request, listed), "complete": complete})

    async def stats(_: Request) -> Response:
        return _json({**await ask(history.stats), "sinks": sinks()})

    async def runs(request: Request) -> Response:
        name = _experiment(request)
        query = read_run_query(request.query_params)
        listed, complete = await ask(lambda: history.runs(name, query))
        return _json({"runs": _permitted(request, listed), "complete": complete})

    async def events(request: Request) -> Response:
        name = _experiment(request)
        if name == ANYWHERE:
            raise BadQuery("Name an experiment: a recorder has no pages of all of them, a gateway does.")
        number = partition_of(name, partitions)
        query = read_query(request.query_params, range(number, number + 1))
        page = await ask(lambda: history.page(name, query, number))
        return Response(encode(page), media_type=JSON)

    app = Starlette(
        routes=[
            Route("/v1/experiments", experiments),
            Route("/v1/experiments/{experiment}/events", events),
            Route("/v1/experiments/{experiment}/runs", runs),
            Route("/v1/stats", stats),
        ],
        exception_handlers={
            HTTPException: _http,
            BadQuery: _refusing(422, "query", "The query is wrong"),
            InvalidExperiment: _refusing(422, "experiment", "The path names no experiment"),
            UnicodeDecodeError: _refusing(422, "experiment", "The path names no experiment"),
            Gone: _refusing(410, "position", "The position is gone"),
            StorageError: _refusing(503, "unavailable", "The database cannot be read now", retry_after=2),
        },
    )
    return Door(app, origins, authenticator, opened=lambda _method, _path: False)


def _permitted(request: Request, listed: list[dict[str, object]]) -> list[dict[str, object]]:
    permit = grants_of(request).subscribe.permit
    return [one for one in listed if permit(str(one["experiment_id"]))]


def _experiment(request: Request) -> str:
    return check_experiment(unquote(request.path_params["experiment"], errors="strict"))


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value), media_type=JSON)


async def _http(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    hint = "GET /v1/stats, /v1/experiments, /v1/experiments/<experiment>/events or /runs; an id's / is %2F."
    return _problem(error.status_code, "http", str(error.detail), hint)


def _refusing(status: int, kind: str, title: str, *, retry_after: int = 0) -> Callable[[Request, Exception], Response]:
    def refuse(_: Request, error: Exception) -> Response:
        return _problem(status, kind, title, str(error), retry_after=retry_after)

    return refuse


def _problem(status: int, kind: str, title: str, detail: str, *, retry_after: int = 0) -> Response:
    """Problem details (RFC 9457)."""
    body = {"type": f"urn:loopcast:problem:{kind}", "title": title, "status": status, "detail": detail}
    headers = {"Retry-After": str(retry_after)} if retry_after else None
    return Response(msgspec.json.encode(body), status_code=status, headers=headers, media_type=PROBLEM_JSON)
