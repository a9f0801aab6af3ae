"""The routes of one experiment, or of `*`: pages of history, and the live stream."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING
from urllib.parse import unquote

import msgspec
from fastapi import APIRouter, Request, Response
from starlette.responses import StreamingResponse

from loopcast.door import grants_of
from loopcast.errors import BrokerError
from loopcast.history_query import read_query, read_run_query
from loopcast.routing import ANYWHERE, check_experiment
from loopcast_gateway.entry import Entry
from loopcast_gateway.openapi import RunList
from loopcast_gateway.pages import Gone
from loopcast_gateway.problems import JSON, problem
from loopcast_gateway.protocol import Earliest
from loopcast_gateway.query import joined, read_stream_query
from loopcast_gateway.replay import Reading
from loopcast_gateway.sse import MEDIA_TYPE, STREAM_HEADERS, EventStream

if TYPE_CHECKING:
    from loopcast_gateway.gateway import Gateway

__all__ = ["gone", "history_routes", "unavailable"]


def history_routes(gateway: Gateway) -> APIRouter:
    """The routes under `/v1/experiments/{experiment}`; `*`, percent-encoded or not, is every experiment."""
    router = APIRouter()

    @router.get("/v1/experiments/{experiment}/events")
    async def events(experiment: str, request: Request) -> Response:
        """A page of an experiment's history."""
        name = _name(experiment)
        covered = gateway.hub.covered(name)
        query = read_query(request.query_params, covered)
        if not all(gateway.tails[number].ready.is_set() for number in covered):
            return unavailable("This gateway has not reached the end of the log yet.")
        reading = Reading()
        found = await gateway.replays.page(name, query, reading)
        permit = grants_of(request).subscribe.permit
        found = [entry for entry in found if permit(entry.experiment)]
        return Response(_page(found, reading), media_type=JSON)

    @router.get("/v1/experiments/{experiment}/runs")
    async def runs(experiment: str, request: Request) -> Response:
        """The runs of an experiment that go on, and unless only those are wanted, those that ended lately."""
        name = _name(experiment)
        partitions = [gateway.tails[number].partition for number in gateway.hub.covered(name)]
        query = read_run_query(request.query_params)
        wanted, now = None if name == ANYWHERE else name, time.time()
        found = [run for one in partitions for run in one.digest.runs.of(wanted, now) if run.open or not query.open]
        permit = grants_of(request).subscribe.permit
        found = [run for run in found if permit(run.experiment_id)]
        found.sort(key=lambda run: run.updated or "", reverse=True)
        complete = len(found) <= query.limit and all(one.whole for one in partitions)
        return Response(msgspec.json.encode(RunList(runs=found[: query.limit], complete=complete)), media_type=JSON)

    @router.get("/v1/experiments/{experiment}/stream")
    async def stream(experiment: str, request: Request) -> Response:
        """An experiment's events as they come, as Server-Sent Events."""
        name = _name(experiment)
        covered = gateway.hub.covered(name)
        query = read_stream_query(request.query_params, request.headers.get("last-event-id"), covered)
        if (refusal := _room(gateway)) is not None:
            return refusal
        if query.after and not all(gateway.tails[number].ready.is_set() for number in query.after):
            return unavailable("This gateway has not reached the end of the log yet.")
        for number, position in query.after.items():
            await gateway.pages[number].check(position)
        viewer = EventStream(gateway, name, query, grants_of(request))
        return StreamingResponse(viewer.chunks(), media_type=MEDIA_TYPE, headers=STREAM_HEADERS)

    return router


def unavailable(detail: str) -> Response:
    """503 for a log that cannot be read now."""
    return problem(503, "unavailable", "The log cannot be read now", detail, retry_after=2)


async def gone(gateway: Gateway, request: Request, error: Gone) -> Response:
    """410 for a position that the log does not prove: the earliest that it has, and where older events may be."""
    detail = "The log no longer proves this position: begin without it, or with one that is newer."
    earliest: Earliest | None = None
    with contextlib.suppress(BrokerError, TimeoutError):
        earliest = await gateway.pages[error.partition].earliest()
        detail = f"The log no longer proves this position; its earliest is {earliest.pos}."
    recorder: str | None = None
    if gateway.settings.recorder_url:
        # The recorder has the same route for what the log has no more.
        recorder = (
            f"{gateway.settings.recorder_url.rstrip('/')}/v1/experiments/{request.path_params['experiment']}/events"
        )
        detail += f" Older events may be at {recorder}."
    title = "The position is gone"
    return problem(410, "position", title, detail, reason=str(error), earliest=earliest, recorder=recorder)


def _name(encoded: str) -> str:
    name = unquote(encoded, errors="strict")
    return name if name == ANYWHERE else check_experiment(name)


def _room(gateway: Gateway) -> Response | None:
    capacity = gateway.capacity()
    if capacity.draining:
        detail = "This gateway is stopping: try another, or again in a moment."
        return problem(503, "draining", "No room", detail, retry_after=2)
    if capacity.connections >= capacity.limit:
        detail = f"This gateway has its {capacity.limit} connections: try another, or later."
        return problem(503, "limit", "No room", detail, retry_after=5)
    return None


def _page(entries: list[Entry], reading: Reading) -> bytes:
    events = b",".join(map(_event, entries))
    said: dict[str, object] = {"next": joined(reading.next), "complete": reading.complete}
    end = msgspec.json.encode(said if reading.reason is None else {**said, "reason": reading.reason})[1:]
    return b'{"events":[' + events + b"]," + end


def _event(entry: Entry) -> bytes:
    return b'{"pos":"' + entry.pos.encode("ascii") + b'","event":' + entry.envelope + b"}"
