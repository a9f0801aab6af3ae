"""What `/v1/openapi.json` says, and the answer to every address that is none: FastAPI's part of the public port."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import Annotated, Literal

from fastapi import FastAPI, Path, Request, Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from loopcast.descriptions import OPENAPI, OPENAPI_ALIAS
from loopcast.intervals import PULSE_SECONDS
from loopcast_producer.problems import PROBLEM_JSON, Refusal, method_not_allowed, not_found
from loopcast_producer.receipt import MAX_STREAM_RESULTS
from loopcast_producer.schemas import BODIES, EXAMPLES, HEARTBEAT, ID, RUN, TRACEPARENT, Schema

__all__ = ["documented_app"]

STATUSES: dict[int, str] = {
    400: "The body is not JSON, or was damaged on its way.",
    401: "A token or API key is needed, or the one that came permits nothing.",
    403: "The token does not permit this experiment; or a page of somewhere else sends.",
    408: "The body came too slowly; what came before is counted.",
    413: "The body, or its one event, is too large.",
    415: "The content type or encoding is not taken.",
    422: "The experiment id, the run id or the request's one event breaks the grammar.",
    429: "The key sent more events than it may: send again after Retry-After.",
    503: "The broker did not confirm, or too much is on its way: send again, with the same ids.",
}


class ResultModel(BaseModel):
    """What became of one event."""

    status: Literal["accepted", "duplicate", "invalid"]
    id: str | None = Field(None, description="Its id, where it is an event.")
    error: str | None = Field(None, description="What is wrong with it, where it is none.")


class ReceiptModel(BaseModel):
    """What became of each event, in their order."""

    accepted: int
    duplicates: int
    invalid: int
    events: list[ResultModel]
    omitted: int = Field(
        0, description=f"Events that are counted, not listed: of a stream of lines those after {MAX_STREAM_RESULTS:,}."
    )


class ProblemModel(BaseModel):
    """Problem details (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    accepted: int | None = Field(None, description="Events that were confirmed before.")
    duplicates: int | None = None
    invalid: int | None = None
    retry_after: int = Field(0, description="Seconds, as in Retry-After.")


TEXT: Schema = {"type": "string"}
KEY = (
    "Gives events without an id the same ones whenever the request is sent again. It is for one body: another one of "
    "the same experiment, run and source under the same key is answered `duplicate`, and not published."
)
HEADERS: dict[str, tuple[Schema, str]] = {
    "Loopcast-Run": (RUN, "The run of events that name none."),
    "Loopcast-Source": (TEXT, "What the events come from; the run is derived from it where nothing names one."),
    "Idempotency-Key": (TEXT, KEY),
    "traceparent": (TRACEPARENT, "The trace context of events that have none (W3C Trace Context)."),
    "tracestate": (TEXT, "What tracing vendors add to it; carried on where traceparent is."),
}


def documented_app() -> FastAPI:
    """The application behind the API: it documents the two addresses and never answers them."""
    # The pages that FastAPI has for people load their script from somewhere else.
    app = FastAPI(
        title="Loopcast producer",
        version=version("loopcast-producer"),
        docs_url=None,
        redoc_url=None,
        openapi_url=OPENAPI,
    )

    async def publish_to_experiment(experiment: Annotated[str, Path(json_schema_extra=ID)]) -> Response:
        raise HTTPException(404, experiment)

    async def heartbeat(
        experiment: Annotated[str, Path(json_schema_extra=ID)], run: Annotated[str, Path(json_schema_extra=RUN)]
    ) -> Response:
        raise HTTPException(404, experiment + run)

    async def publish() -> Response:
        raise HTTPException(404)

    _document(app, "/v1/experiments/{experiment}/events", publish_to_experiment, "Publish events of one experiment.")
    _document(app, "/v1/events", publish, "Publish events that each name their own experiment, as `experiment_id`.")
    app.add_api_route(
        "/v1/experiments/{experiment}/runs/{run}/heartbeat",
        heartbeat,
        methods=["POST"],
        status_code=204,
        response_description="The log has it.",
        summary=f"Say that the process of an open run lives; every {PULSE_SECONDS} seconds.",
        responses={status: _answer(status, text) for status, text in STATUSES.items()},
        openapi_extra={"requestBody": HEARTBEAT},
    )

    @app.get(OPENAPI_ALIAS, include_in_schema=False)
    async def described() -> Response:
        return JSONResponse(app.openapi())

    app.add_exception_handler(HTTPException, _not_here)
    return app


def _document(app: FastAPI, path: str, endpoint: Callable[..., Awaitable[Response]], words: str) -> None:
    app.add_api_route(
        path,
        endpoint,
        methods=["POST"],
        status_code=202,
        response_model=ReceiptModel,
        response_description="The broker has the events.",
        summary=words,
        responses={status: _answer(status, text) for status, text in STATUSES.items()},
        openapi_extra={"requestBody": _request_body(named="{experiment}" in path), "parameters": _headers()},
    )


def _answer(status: int, text: str) -> dict[str, object]:
    answer: dict[str, object] = {
        "description": text,
        "content": {PROBLEM_JSON.decode(): {"schema": ProblemModel.model_json_schema()}},
    }
    if status in {429, 503}:
        answer["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}}
    return answer


def _request_body(*, named: bool) -> Schema:
    return {
        "required": True,
        "description": "As it is, or with `Content-Encoding: gzip`.",
        "content": {
            shape.value: {"schema": schema, "example": EXAMPLES[shape]} for shape, schema in BODIES[named].items()
        },
    }


def _headers() -> list[dict[str, object]]:
    return [
        {"name": name, "in": "header", "required": False, "schema": schema, "description": text}
        for name, (schema, text) in HEADERS.items()
    ]


async def _not_here(request: Request, error: Exception) -> Response:
    wrong_method = isinstance(error, HTTPException) and error.status_code == 405
    refusal: Refusal = method_not_allowed(request.method, "GET") if wrong_method else not_found(request.url.path)
    headers = {name.decode(): value.decode() for name, value in refusal.headers}
    return Response(refusal.problem.encode(), refusal.problem.status, headers, PROBLEM_JSON.decode())
