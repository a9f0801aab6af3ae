"""
What the HTTP side is, as OpenAPI 3.1: served where :mod:`loopcast.descriptions` says.

Written here rather than derived from the routes, because they answer with bytes that are made without models; a test
compares the two, and another one calls every operation with what its description allows and what it does not.
"""

from __future__ import annotations

from importlib.metadata import version

import msgspec

from loopcast.auth.cookies import COOKIE
from loopcast.history_query import DEFAULT_LIMIT, MAX_LIMIT
from loopcast_gateway.catalog import Listed
from loopcast_gateway.login import Session
from loopcast_gateway.open_runs import Run
from loopcast_gateway.schemas import Schema, components
from loopcast_gateway.trace_api import MAX_ATTEMPT, TraceOfRun

__all__ = ["Experiments", "RunList", "document"]


class Experiments(msgspec.Struct):
    """Experiments, the most recently active first."""

    experiments: list[Listed]
    complete: bool
    """Whether there are no others."""


class RunList(msgspec.Struct):
    """Runs, the one that spoke last first."""

    runs: list[Run]
    complete: bool
    """Whether these are all that the log tells of, as far as it is remembered."""


_EXPERIMENT: Schema = {
    "name": "experiment",
    "in": "path",
    "required": True,
    "description": "An experiment's id, percent-encoded whole, its slashes too; `*` is every experiment.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
    "example": "exp-42",
}

_ONE = "An experiment's id, percent-encoded whole, its slashes too."
_RUN: Schema = {
    "name": "run",
    "in": "path",
    "required": True,
    "description": "A run's id, percent-encoded whole.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
    "example": "20261120T173828Z-refine-4f09c2",
}


def _parameter(name: str, schema: Schema, text: str) -> Schema:
    return {"name": name, "in": "query", "description": text, "schema": schema}


_TIME: Schema = {"type": "number", "minimum": 0, "exclusiveMaximum": 1e12}
_PLACE: Schema = {"$ref": "#/components/schemas/Position"}
_PLACES: Schema = {"$ref": "#/components/schemas/Positions"}
_LIMIT = _parameter(
    "limit", {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT}, "At most so many."
)
_OPEN = _parameter(
    "open", {"type": "boolean", "default": False}, "Only runs that go on or wait to, not those that ended."
)
_PAGE_PARAMETERS = [
    _parameter("after", _PLACES, "Events behind this position."),
    _parameter("before", _PLACES, "Events in front of this position. One of after and before at most."),
    _parameter("since_ts", _TIME, "Unix seconds: events recorded later."),
    _parameter("until_ts", _TIME, "Unix seconds: no events recorded later."),
    _LIMIT,
    _parameter("order", {"enum": ["oldest", "newest"]}, "From which end; `newest` goes with before."),
]
_ATTEMPT = _parameter(
    "attempt", {"type": "integer", "minimum": 1, "maximum": MAX_ATTEMPT, "default": 1}, "Which attempt of the run."
)
_PATTERNS: Schema = {"type": "string", "pattern": "^[A-Za-z0-9_.%*?-]{1,100}(,[A-Za-z0-9_.%*?-]{1,100}){0,31}$"}
_STREAM_PARAMETERS = [
    _parameter("after", _PLACES, "Events behind this position; `Last-Event-ID` counts more."),
    _parameter("from", {"enum": ["now", "earliest"], "default": "now"}, "Where to begin without a position."),
    _parameter("types", _PATTERNS, "Patterns of types, with commas between them: only these."),
    _parameter("exclude", _PATTERNS, "Patterns of types: not these."),
    {
        "name": "Last-Event-ID",
        "in": "header",
        "description": "The last `id`: a browser sends it by itself.",
        "schema": _PLACES,
    },
]


def document() -> Schema:
    """The whole description."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "Loopcast gateway", "version": version("loopcast-gateway"), "description": _ABOUT},
        "paths": {
            "/v1/experiments": {"get": _operation("listExperiments", "What there is to watch.", _json("Experiments"))},
            "/v1/experiments/{experiment}/events": {
                "parameters": [_EXPERIMENT],
                "get": _operation(
                    "readEvents", "A page of history.", _json("Page"), _PAGE_PARAMETERS, gone=True, query=True
                ),
            },
            "/v1/experiments/{experiment}/runs": {
                "parameters": [_EXPERIMENT],
                "get": _operation(
                    "listRuns", "Runs that go on or ended lately.", _json("RunList"), [_LIMIT, _OPEN], query=True
                ),
            },
            "/v1/experiments/{experiment}/stream": {
                "parameters": [_EXPERIMENT],
                "get": _operation(
                    "streamEvents", "Events as they come.", _STREAM, _STREAM_PARAMETERS, gone=True, query=True
                ),
            },
            "/v1/experiments/{experiment}/runs/{run}/trace": {
                "parameters": [{**_EXPERIMENT, "description": _ONE}, _RUN],
                "get": _operation(
                    "findTrace", "Where the trace of a run is.", _json("TraceOfRun"), [_ATTEMPT], query=True
                ),
            },
            "/v1/stats": {"get": _operation("readStats", "What this process is doing.", _json("Stats"))},
            "/v1/session": {
                "get": _operation("whoAmI", "Who asks, and what that permits.", _json("Session")),
                "post": {
                    **_operation("beginSession", "Keep the token of `Authorization` as a cookie.", _json("Session")),
                    "security": [{"bearer": []}],
                },
                "delete": {
                    "operationId": "endSession",
                    "summary": "Take the cookie away.",
                    "responses": {"204": {"description": "It is gone."}, "403": _REFUSALS["403"]},
                },
            },
        },
        "components": {
            "schemas": {**components([Experiments, RunList, Session, TraceOfRun]), "Page": _PAGE, "Stats": _STATS},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "cookie": {"type": "apiKey", "in": "cookie", "name": COOKIE},
            },
        },
        # Where the gateway asks nobody, nothing is needed.
        "security": [{}, {"bearer": []}, {"cookie": []}],
    }


_ABOUT = "Events of agent loops and experiments. WebSockets are at `/ws`: `/v1/asyncapi.json` describes them."

_PAGE: Schema = {
    "type": "object",
    "required": ["events", "next", "complete"],
    "properties": {
        "events": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["pos", "event"],
                "properties": {"pos": _PLACE, "event": {"$ref": "#/components/schemas/CloudEvent"}},
            },
        },
        "next": {
            "anyOf": [_PLACES, {"type": "null"}],
            "description": "The `after` (for `newest`: the `before`) of the next page, with the same times; "
            "null where nothing is to be had any more.",
        },
        "complete": {"type": "boolean", "description": "Whether these are all the events that were asked for."},
        "reason": {"enum": ["truncated"], "description": "Retention has taken some of what was asked for."},
    },
}

_COUNTS: Schema = {"type": "object", "additionalProperties": {"type": "integer", "minimum": 0}}
_STATS: Schema = {
    "type": "object",
    "required": ["total_connections", "global_subscribers", "experiment_subscriptions", "replay_buffer_sizes", "log"],
    "properties": {
        "total_connections": {"type": "integer", "minimum": 0},
        "global_subscribers": {"type": "integer", "minimum": 0},
        "experiment_subscriptions": _COUNTS,
        "replay_buffer_sizes": _COUNTS,
        "draining": {"type": "boolean"},
        "log": {
            "type": "array",
            "description": "The partitions, as this process reads them.",
            "items": {
                "type": "object",
                "required": ["partition", "connected", "ready", "offset", "pos"],
                "properties": {
                    "partition": {"type": "integer", "minimum": 0},
                    "connected": {"type": "boolean"},
                    "ready": {"type": "boolean"},
                    "offset": {"type": "integer", "minimum": -1},
                    "pos": {"anyOf": [_PLACE, {"type": "null"}]},
                },
            },
        },
    },
}

_STREAM: Schema = {
    "description": "`data` is a CloudEvent and `id` its position; `subscribed`, `caught_up` and `gap` are events with "
    "those names, and have the frames of the WebSocket as their data.",
    "content": {"text/event-stream": {"schema": {"type": "string"}}},
}


def _json(name: str) -> Schema:
    return {
        "description": "As asked for.",
        "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}},
    }


def _problem(text: str) -> Schema:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {"description": text, "content": {"application/problem+json": {"schema": schema}}}


def _operation(
    name: str,
    summary: str,
    answer: Schema,
    parameters: list[Schema] | None = None,
    *,
    gone: bool = False,
    query: bool = False,
) -> Schema:
    responses = {"200": answer, **_REFUSALS}
    if query:
        responses["422"] = _problem("A parameter, or the experiment's id, is wrong: the detail says which.")
    if gone:
        responses["410"] = _problem("The log does not prove this position any more; `earliest` is what it has.")
        responses["503"] = _problem("The log cannot be read now, or there is no room: `Retry-After`.")
    return {"operationId": name, "summary": summary, "parameters": parameters or [], "responses": responses}


_REFUSALS = {
    "401": _problem("A token is needed, or the one that came permits nothing."),
    "403": _problem("This service has another name, or this is not for you."),
}
