"""
The addresses that events and heartbeats are posted to, as a plain ASGI application; all else goes to FastAPI.

Plain, because routing, validation and middleware of a framework would cost more than taking an event does; and because
ASGI hands frameworks the decoded path, in which the `%2F` of an experiment id is a slash like any other
(https://asgi.readthedocs.io/en/latest/specs/www.html, `raw_path`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote_to_bytes

import msgspec
import structlog

from loopcast.cors import allow_page, answer_preflight
from loopcast.errors import BrokerError, InvalidEvent, InvalidExperiment
from loopcast.trace_context import trace_context
from loopcast_producer.admission import Admission
from loopcast_producer.bodies import Lines, OverlongLine, Shape, is_gzip, shape_of, single_or_array
from loopcast_producer.ending import refusable
from loopcast_producer.envelopes import NotJson, Origin, cloudevent, loop_event, too_large
from loopcast_producer.gate import Gate, Visitor
from loopcast_producer.heartbeats import Heartbeats, is_heartbeat, origin_of
from loopcast_producer.incoming import ClientGone, Incoming
from loopcast_producer.ingest import Ingest, Item
from loopcast_producer.instruments import Instruments
from loopcast_producer.problems import (
    PROBLEM_JSON,
    Refusal,
    broker_problem,
    internal_error,
    invalid_event,
    method_not_allowed,
    not_json,
)
from loopcast_producer.receipt import MAX_STREAM_RESULTS, Receipt
from loopcast_producer.remembered import remembered

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["Answer", "Api", "Headers", "takes"]

log = structlog.get_logger(__name__)

SLICE_ITEMS = 1000
SLICE_BYTES = 1024 * 1024
"""What of a large body is published at a time, so that other requests get their turn."""

_PREFIX, _SUFFIX, _ANY = b"/v1/experiments/", b"/events", b"/v1/events"
_WANTED = {
    b"content-type": "type",
    b"content-encoding": "encoding",
    b"content-length": "length",
    b"loopcast-run": "run",
    b"loopcast-source": "source",
    b"traceparent": "traceparent",
    b"tracestate": "tracestate",
    b"idempotency-key": "key",
}


Headers = Sequence[tuple[bytes, bytes]]


class Answer(NamedTuple):
    """What a request is answered with."""

    status: int
    kind: bytes
    """Content-Type."""
    body: bytes
    headers: Headers = ()
    """More header fields."""


class Api:
    """The public port: `ingest` takes the events, `rest` answers every other address."""

    def __init__(
        self,
        ingest: Ingest,
        rest: ASGIApp,
        instruments: Instruments,
        gate: Gate,
        heartbeats: Heartbeats,
        *,
        max_event_bytes: int,
        max_body_bytes: int,
    ) -> None:
        self._ingest = ingest
        self._rest = rest
        self._instruments = instruments
        self._gate = gate
        self._heartbeats = heartbeats
        self._max_event_bytes = max_event_bytes
        self._max_body_bytes = max_body_bytes
        self._admission = Admission(4 * max_body_bytes)
        self._open = 0
        self._none_open = asyncio.Event()
        self._none_open.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        path: bytes = scope.get("raw_path") or b""
        if scope["type"] != "http" or not (takes(path) or is_heartbeat(path)):
            await self._rest(scope, receive, send)
            return
        with contextlib.suppress(ClientGone):
            answer = await self.respond(scope["method"], path, scope["headers"], refusable(scope, receive))
            await _send(send, answer)

    async def respond(self, method: str, path: bytes, headers: Headers, receive: Receive) -> Answer:
        """
        Take the events, or the heartbeat, of a request to an address that is for them.

        Raises:
            ClientGone: the client gave up, so that nobody is there to be answered.
        """
        self._open += 1
        self._none_open.clear()
        try:
            answer = await self._answer(method, path, headers, receive)
            for name, _ in headers:
                if name == b"origin":
                    answer = self._for_page(answer, method, headers)
                    break
            self._instruments.answered(answer.status)
        finally:
            self._open -= 1
            if not self._open:
                self._none_open.set()
        return answer

    def _for_page(self, answer: Answer, method: str, headers: Headers) -> Answer:
        """Let a page that may send read the answer, and tell one that asks first that it may."""
        try:
            origin = self._gate.check_page(headers).encode("latin-1")
        except Refusal:
            return answer
        if method == "OPTIONS":
            return Answer(204, answer.kind, b"", answer_preflight(origin, "POST"))
        return answer._replace(headers=(*answer.headers, *allow_page(origin)))

    def not_read(self) -> None:
        """Count an answer that its client did not take."""
        self._instruments.not_read()

    async def drained(self) -> None:
        """Wait until no request is being worked on."""
        await self._none_open.wait()

    async def _answer(self, method: str, path: bytes, headers: Headers, receive: Receive) -> Answer:
        receipt = Receipt()
        try:
            await self._take(method, path, headers, receive, receipt)
        except Refusal as refusal:
            return _refused(refusal, receipt)
        except BrokerError as error:
            return _refused(broker_problem(error), receipt)
        except ClientGone:
            raise
        except Exception:
            log.exception("request_failed", path=path[:200])
            return _refused(internal_error(), receipt)
        if is_heartbeat(path):
            return Answer(204, b"", b"")
        return Answer(202, b"application/json", receipt.encode())

    async def _take(self, method: str, path: bytes, headers: Headers, receive: Receive, receipt: Receipt) -> None:
        """Read the body, and publish what is in it."""
        if method != "POST":
            raise method_not_allowed(method)
        visitor = await self._gate.admit(headers)
        if is_heartbeat(path):
            await self._beat(path, headers, receive, visitor)
            return
        values = _values(headers)
        shape, gzip, origin = (
            shape_of(values.get("type", "")),
            is_gzip(values.get("encoding", "")),
            _origin(path, values),
        )
        if origin.experiment is not None:
            visitor.may_send_to(origin.experiment)
        length = values.get("length", "")
        incoming = Incoming(receive, self._admission, gzip=gzip, length=int(length) if length.isdigit() else None)
        taking = _Taking(shape, origin, visitor, receipt)
        with incoming:
            if shape is Shape.NDJSON:
                await self._take_lines(incoming, taking)
            else:
                await self._take_body(await incoming.whole(self._max_body_bytes), taking)

    async def _beat(self, path: bytes, headers: Headers, receive: Receive, visitor: Visitor) -> None:
        origin = origin_of(path)
        visitor.may_send_to(origin.experiment or "")
        gzip = is_gzip(next((value.decode("latin-1") for name, value in headers if name == b"content-encoding"), ""))
        with Incoming(receive, self._admission, gzip=gzip, length=None) as incoming:
            await self._heartbeats.take(origin, incoming)

    async def _take_body(self, body: bytes, taking: _Taking) -> None:
        raw = single_or_array(body, taking.shape)
        if isinstance(raw, list):
            for start, end in _slices(raw):
                await self._publish(raw[start:end], taking, start)
            return
        item = self._item(raw, taking, 0)
        if isinstance(item, InvalidEvent):
            self._instruments.invalid()
            raise not_json(str(item)) if isinstance(item, NotJson) else invalid_event(item)
        taking.visitor.sends(1)
        await self._ingest.publish((item,), taking.receipt, named=taking.named)

    async def _take_lines(self, incoming: Incoming, taking: _Taking) -> None:
        lines = Lines(self._max_event_bytes)
        taking.receipt.room = MAX_STREAM_RESULTS
        count = 0
        async with contextlib.aclosing(incoming.pieces()) as pieces:
            async for piece in pieces:
                items = lines.feed(piece)
                for start, end in _slices(items):
                    taking.visitor.may_go_on(taking.origin.experiment)
                    await self._publish(items[start:end], taking, count + start)
                count += len(items)
        await self._publish(lines.finish(), taking, count)

    async def _publish(self, raws: Sequence[bytes | OverlongLine], taking: _Taking, first: int) -> None:
        await self._ingest.publish(self._items(raws, taking, first), taking.receipt, named=taking.named)

    def _items(self, raws: Sequence[bytes | OverlongLine], taking: _Taking, first: int) -> list[Item]:
        taking.visitor.sends(len(raws))
        return [self._item(raw, taking, index) for index, raw in enumerate(raws, first)]

    def _item(self, raw: bytes | OverlongLine, taking: _Taking, index: int) -> Item:
        try:
            if isinstance(raw, OverlongLine):
                return too_large(self._max_event_bytes)
            if taking.shape.cloudevents:
                event = cloudevent(raw, taking.origin, max_bytes=self._max_event_bytes)
            else:
                event = loop_event(raw, taking.origin, index, max_bytes=self._max_event_bytes)
            return taking.visitor.check(event)
        except InvalidEvent as error:
            return error


class _Taking(NamedTuple):
    """What is known of a request before its body is read."""

    shape: Shape
    origin: Origin
    visitor: Visitor
    receipt: Receipt

    @property
    def named(self) -> bool:
        """Whether the sender gave the ids."""
        return self.shape.cloudevents or self.origin.key is not None


def _refused(refusal: Refusal, receipt: Receipt) -> Answer:
    problem = refusal.problem
    if receipt.events or receipt.omitted:
        problem = problem.counted(receipt.accepted, receipt.duplicates, receipt.invalid)
    return Answer(problem.status, PROBLEM_JSON, problem.encode(), refusal.headers)


async def _send(send: Send, answer: Answer) -> None:
    # 204 has no content, and says nothing of one (RFC 9110, 8.6).
    content = [(b"content-type", answer.kind), (b"content-length", b"%d" % len(answer.body))]
    fields = [*(content if answer.status != 204 else ()), *answer.headers]
    try:
        await send({"type": "http.response.start", "status": answer.status, "headers": fields})
        await send({"type": "http.response.body", "body": answer.body})
    except (OSError, RuntimeError) as error:
        # uvloop says so of a connection that the client closed a moment before the server hears of it.
        log.debug("answer_not_sent", reason=str(error))


def _values(headers: Headers) -> dict[str, str]:
    values: dict[str, str] = {}
    for name, value in headers:
        if (wanted := _WANTED.get(name)) is None:
            continue
        text = value.decode("utf-8", "surrogateescape")
        # It may come in several fields, which are one list (W3C Trace Context, 3.3.1).
        before = values.get(wanted) if wanted == "tracestate" else None
        values[wanted] = text if before is None else f"{before},{text}"
    return values


def _origin(path: bytes, values: dict[str, str]) -> Origin:
    try:
        known = _known_origin((path, values.get("run"), values.get("source", "")))
        if "traceparent" not in values and "key" not in values:
            return known
        parent, state = trace_context(values.get("traceparent"), values.get("tracestate"))
        return msgspec.structs.replace(known, traceparent=parent, tracestate=state, key=values.get("key"))
    except InvalidEvent as error:
        raise invalid_event(error) from None


@remembered
def takes(path: bytes) -> bool:
    """Whether events are posted to this address, as the request line has it."""
    return path == _ANY or (
        path.startswith(_PREFIX)
        and path.endswith(_SUFFIX)
        and len(path) >= len(_PREFIX) + len(_SUFFIX)
        and b"/" not in path[len(_PREFIX) : -len(_SUFFIX)]
    )


@remembered
def _known_origin(said: tuple[bytes, str | None, str]) -> Origin:
    """The origin of a request's path, `Loopcast-Run` and `Loopcast-Source`."""
    path, run, source = said
    experiment = None if path == _ANY else _experiment(path)
    return Origin(experiment=experiment, run=run, source=source).checked()


def _experiment(path: bytes) -> str:
    try:
        return unquote_to_bytes(path[len(_PREFIX) : -len(_SUFFIX)]).decode()
    except UnicodeDecodeError:
        raise InvalidExperiment("The experiment id in the path is not percent-encoded UTF-8.") from None


def _slices(items: Sequence[bytes | OverlongLine]) -> Iterable[tuple[int, int]]:
    """Where to cut `items`, by number and by size."""
    start = size = 0
    for index, item in enumerate(items):
        size += 0 if isinstance(item, OverlongLine) else len(item)
        if index - start >= SLICE_ITEMS or size > SLICE_BYTES:
            if index > start:
                yield start, index
            start, size = index, 0 if isinstance(item, OverlongLine) else len(item)
    if start < len(items):
        yield start, len(items)
