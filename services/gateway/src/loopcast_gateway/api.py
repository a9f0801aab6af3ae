"""The HTTP side: experiments, history, numbers, and the page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib import resources
from typing import TYPE_CHECKING

import msgspec
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from loopcast.descriptions import OPENAPI, OPENAPI_ALIAS
from loopcast.door import Door, grants_of
from loopcast.errors import BrokerError, InvalidExperiment
from loopcast.history_query import BadQuery
from loopcast_gateway import asyncapi, openapi
from loopcast_gateway.history_api import gone, history_routes, unavailable
from loopcast_gateway.login import SESSION, add_session
from loopcast_gateway.openapi import Experiments
from loopcast_gateway.pages import Gone
from loopcast_gateway.problems import JSON, problem
from loopcast_gateway.trace_api import trace_routes

if TYPE_CHECKING:
    from loopcast_gateway.gateway import Gateway

__all__ = ["make_app"]

_DESCRIBED = openapi.document()
DESCRIPTIONS = {OPENAPI: _DESCRIBED, OPENAPI_ALIAS: _DESCRIBED, asyncapi.DESCRIPTION: asyncapi.document()}
"""What this service is, for machines, by path."""
MAX_EXPERIMENTS = 10_000
_SCRIPT = "text/javascript; charset=utf-8"
_SCRIPTS = (
    *("address", "client", "dom", "experiments", "feed", "overview"),
    *("page", "pills", "runs", "signin", "timeline", "views"),
)
STATIC = {
    "/": ("index.html", "text/html; charset=utf-8"),
    **{f"/static/{name}.js": (f"{name}.js", _SCRIPT) for name in _SCRIPTS},
    "/static/client.d.ts": ("client.d.ts", "text/plain; charset=utf-8"),
    "/static/page.css": ("page.css", "text/css; charset=utf-8"),
    "/static/icon.svg": ("icon.svg", "image/svg+xml"),
}
SHARED = ("/static/client.js", "/static/client.d.ts")
"""What pages of other origins may import."""

PAGE_HEADERS = {
    # Nothing of the page comes from elsewhere, and nobody frames it.
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def make_app(gateway: Gateway) -> ASGIApp:
    """The ASGI application of the public port, WebSockets not included."""
    app = FastAPI(title="Loopcast gateway", docs_url=None, redoc_url=None, openapi_url=None)
    for path, text in DESCRIPTIONS.items():
        app.add_api_route(path, _fixed(msgspec.json.encode(text)), include_in_schema=False)

    @app.get("/v1/experiments")
    async def experiments(request: Request) -> Response:
        """Every experiment that was seen and may be, the most recently active first."""
        permit = grants_of(request).subscribe.permit
        listed = [
            one
            for tail in gateway.tails
            for one in tail.partition.catalog.listing(tail.partition.number)
            if permit(one.experiment_id)
        ]
        listed.sort(key=lambda one: one.last.recordedtime or "", reverse=True)
        whole = all(tail.partition.whole and tail.ready.is_set() for tail in gateway.tails)
        return _json(Experiments(experiments=listed[:MAX_EXPERIMENTS], complete=whole))

    app.include_router(history_routes(gateway))
    app.include_router(trace_routes(gateway.settings.trace_url))

    @app.get("/v1/stats")
    async def stats(request: Request) -> Response:
        """What this process is doing."""
        return _json(gateway.stats(grants_of(request)))

    for path in STATIC:
        app.add_api_route(path, _static(path), include_in_schema=False)
    add_session(app)
    _handle_errors(app, gateway)
    return Door(app, gateway.origins, gateway.authenticator, opened=_opened)


def _opened(method: str, path: str) -> bool:
    """What is for everybody: the page, which has nothing in it, the descriptions, and leaving."""
    return path in STATIC or path in DESCRIPTIONS or (method, path) == ("DELETE", SESSION)


def _handle_errors(app: FastAPI, gateway: Gateway) -> None:
    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> Response:
        return problem(error.status_code, "http", str(error.detail), f"{error.detail}: see {OPENAPI}.")

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
    async def lost(request: Request, error: Gone) -> Response:
        return await gone(gateway, request, error)

    @app.exception_handler(TimeoutError)
    @app.exception_handler(BrokerError)
    async def broker(_: Request, error: Exception) -> Response:
        return unavailable(str(error) or "The log does not answer.")


def _static(path: str) -> Callable[[], Awaitable[Response]]:
    name, media_type = STATIC[path]
    headers = {**PAGE_HEADERS, "Access-Control-Allow-Origin": "*"} if path in SHARED else PAGE_HEADERS
    content = resources.files("loopcast_gateway").joinpath("static", name).read_bytes()

    async def serve() -> Response:
        return Response(content, media_type=media_type, headers=headers)

    return serve


def _fixed(content: bytes) -> Callable[[], Awaitable[Response]]:
    async def serve() -> Response:
        return Response(content, media_type=JSON)

    return serve


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value), media_type=JSON)
