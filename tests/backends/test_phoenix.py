"""
What arize-phoenix shows of our spans: a store where the first of two spans with one id wins, whatever its trace.

Runs where `LOOPCAST_TEST_PHOENIX` names one, as `http://127.0.0.1:6006,http://127.0.0.1:4317` (pages and OTLP/gRPC).
"""

import asyncio
import os

import httpx
import pytest
from otel_streams import envelopes, fold, lines

from loopcast.ids import uuid7
from loopcast.metrics import Metrics
from loopcast_otel_exporter.encoding import encode_span, traces_head
from loopcast_otel_exporter.instruments import Instruments
from loopcast_otel_exporter.sender import Sender
from loopcast_otel_exporter.transport import GrpcTransport, Signal

PHOENIX = os.environ.get("LOOPCAST_TEST_PHOENIX", "")

pytestmark = pytest.mark.skipif(not PHOENIX, reason="LOOPCAST_TEST_PHOENIX names no arize-phoenix")


async def bury(*_):
    """Nothing is refused."""
    raise AssertionError


async def shown(pages, project, count):
    """The spans that the backend has, when it has `count`: it stores them after it has said that it took them."""
    async with httpx.AsyncClient() as client:
        for _ in range(150):
            answer = await client.get(f"{pages}/v1/projects/{project}/spans", params={"limit": 1000})
            found = answer.json()["data"] if answer.status_code == 200 else []
            if len(found) >= count:
                return found
            await asyncio.sleep(0.2)
    raise AssertionError(f"{len(found)} of {count} spans")


async def test_every_span_is_shown_once_under_its_parent():
    """Sent three times, in two orders: names, parents, times and status as they were sent, each once."""
    pages, endpoint = PHOENIX.split(",")
    project = f"loopcast-{uuid7()[-8:]}"
    streams = [lines("demo-parent"), lines("demo-cycle"), [*lines("demo-handoff"), *lines("demo-handoff-resume")]]
    spans = []
    for number, stream in enumerate(streams):
        spans += fold(envelopes(stream, run=f"{project}-{number}", emitter=f"{number:016x}")).take().spans
    transport = GrpcTransport(endpoint, headers={}, timeout=10)
    head = traces_head({"service.name": "loopcast", "openinference.project.name": project})
    sender = Sender(transport, Signal.TRACES, head, Instruments(Metrics("t", "0")))
    items = [encode_span(span) for span in spans]
    for part in (items[:10], items, list(reversed(items))):
        await sender.send(part, bury)
    await transport.close()

    found = await shown(pages, project, len(spans))

    assert len(spans) == len(found)
    by_id = {span["context"]["span_id"]: span for span in found}
    for span in spans:
        there = by_id[span.span_id.hex()]
        assert (span.name, span.parent_id.hex() or None) == (there["name"], there["parent_id"])
        assert ("ERROR" if span.error is not None else "UNSET") == there["status_code"]
        assert span.trace_id.hex() == there["context"]["trace_id"]
    agent = next(span for span in found if span["name"] == "invoke_agent fake-model-1")
    assert 1946 == agent["attributes"]["llm.token_count.prompt"]
