"""The HTTP side: experiments, history, numbers, and the page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib import resources
from typing import TYPE_CHECKING
from urllib.parse import unquote

import msgspec
from fastapi import FastAPI, Request, Response
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from loopcast.errors import BrokerError, InvalidExperiment
from loopcast.origins import Origins
from loopcast.routing import check_experiment, partition_of
from loopcast_gateway.catalog import Listed
from loopcast_gateway.entry import Entry
from loopcast_gateway.pages import Gone, Page
from loopcast_gateway.problems import JSON, problem
from loopcast_gateway.query import DEFAULT_LIMIT, MAX_LIMIT, BadQuery, read_query

if TYPE_CHECKING:
    from loopcast_gateway.gateway import Gateway

__all__ = ["make_app"]

MAX_EXPERIMENTS = 10_000
STATIC = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/static/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/static/client.js": ("client.js", "text/javascript; charset=utf-8"),
    "/static/page.css": ("page.css", "text/css; charset=utf-8"),
    "/static/icon.svg": ("icon.svg", "image/svg+xml"),
}
PAGE_HEADERS = {
    # Nothing of the page comes from elsewhere, and nobody frames it.
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}

_PARAMETERS = [
    {"name": name, "in": "query", "schema": schema, "description": text}
    for name, schema, text in (
        ("after", {"type": "string"}, "A `pos`: events behind it."),
        ("before", {"type": "string"}, "A `pos`: events in front of it."),
        ("since_ts", {"type": "number", "minimum": 0}, "Unix seconds: events recorded later."),
        ("until_ts", {"type": "number", "minimum": 0}, "Unix seconds: no events recorded later."),
        (
            "limit",
            {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
            "At most so many.",
        ),
        ("order", {"enum": ["oldest", "newest"]}, "From which end; newest goes with `before`."),
    )
]


def make_app(gateway: Gateway) -> ASGIApp:
    """The ASGI application of the public port, WebSockets not included."""
    app = FastAPI(title="Loopcast gateway", docs_url=None, redoc_url=None, openapi_url="/v1/openapi.json")
    pages = gateway.pages

    @app.get("/v1/experiments")
    async def experiments() -> Response:
        """Every experiment that was seen, the most recently active first."""
        listed = [one for tail in gateway.tails for one in tail.partition.catalog.listing()]
        listed.sort(key=lambda one: one.last.recordedtime, reverse=True)
        whole = all(tail.partition.whole and tail.ready.is_set() for tail in gateway.tails)
        return _json(_Experiments(experiments=listed[:MAX_EXPERIMENTS], complete=whole))

    @app.get("/v1/experiments/{experiment}/events", openapi_extra={"parameters": _PARAMETERS})
    async def events(experiment: str, request: Request) -> Response:
        """A page of an experiment's history."""
        name = check_experiment(unquote(experiment, errors="strict"))
        partition = partition_of(name, len(pages))
        query = read_query(request.query_params, partition)
        if not gateway.tails[partition].ready.is_set():
            return _unavailable("This gateway has not reached the end of the log yet.")
        return Response(_page(await pages[partition].page(name, query)), media_type=JSON)

    @app.get("/v1/stats")
    async def stats() -> Response:
        """What this process is doing."""
        return _json(gateway.stats())

    for path in STATIC:
        app.add_api_route(path, _static(path), include_in_schema=False)
    _handle_errors(app)
    return _Door(app, gateway.origins)


class _Experiments(msgspec.Struct):
    experiments: list[Listed]
    complete: bool


class _Door:
    """
    Turns away who reached this service under another's name, and leaves `%2F` in a path as it came.

    Starlette matches the decoded path, in which the slash of an experiment's id would be one between segments.
    """

    def __init__(self, app: ASGIApp, origins: Origins) -> None:
        self._app = app
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            host = Headers(scope=scope).get("host")
            if not self._origins.allows_host(host):
                refusal = problem(403, "host", "Not this service", f"This service is not {host!r}.")
                return await refusal(scope, receive, send)
            scope = {**scope, "path": scope["raw_path"].decode("ascii")}
        await self._app(scope, receive, send)
        return None


def _handle_errors(app: FastAPI) -> None:
    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> Response:
        return problem(error.status_code, "http", str(error.detail), f"{error.detail}: see /v1/openapi.json.")

    @app.exception_handler(BadQuery)
    async def query(_: Request, error: BadQuery) -> Response:
        return problem(422, "query", "The query is wrong", str(error))

    @app.exception_handler(InvalidExperiment)
    async def experiment(_: Request, error: InvalidExperiment) -> Response:
        return problem(422, "experiment", "The path names no experiment", str(error))

    @app.exception_handler(UnicodeDecodeError)
    async def undecodable(_: Request, error: UnicodeDecodeError) -> Response:
        return problem(422, "experiment", "The path names no experiment", f"It is not UTF-8: {error.reason}.")

    @app.exception_handler(Gone)
    async def gone(_: Request, error: Gone) -> Response:
        detail = "The log no longer proves this position: begin without it, or with one that is newer."
        return problem(410, "position", "The position is gone", detail, reason=str(error))

    @app.exception_handler(TimeoutError)
    @app.exception_handler(BrokerError)
    async def broker(_: Request, error: Exception) -> Response:
        return _unavailable(str(error) or "The log does not answer.")


def _unavailable(detail: str) -> Response:
    return problem(503, "unavailable", "The log cannot be read now", detail, retry_after=2)


def _static(path: str) -> Callable[[], Awaitable[Response]]:
    name, media_type = STATIC[path]
    content = resources.files("loopcast_gateway").joinpath("static", name).read_bytes()

    async def serve() -> Response:
        return Response(content, media_type=media_type, headers=PAGE_HEADERS)

    return serve


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value), media_type=JSON)


def _page(page: Page) -> bytes:
    events = b",".join(map(_event, page.entries))
    end = msgspec.json.encode({"next": page.next, "complete": page.complete})[1:]
    return b'{"events":[' + events + b"]," + end


def _event(entry: Entry) -> bytes:
    return b'{"pos":"' + entry.pos.encode("ascii") + b'","event":' + entry.envelope + b"}"
