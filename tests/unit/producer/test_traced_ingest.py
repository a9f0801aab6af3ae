"""Each batch that is published is a span, also where several are on their way."""

import asyncio

import msgspec
import pytest
from ingest_bench import Bench, event, tick
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from loopcast.errors import BrokerBlocked
from loopcast.metrics import Metrics
from loopcast.telemetry import Telemetry
from loopcast_producer.ingest import TracedIngest
from loopcast_producer.instruments import Instruments
from loopcast_producer.receipt import Receipt

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def spans(monkeypatch):
    """Telemetry that is on, and what it recorded."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    telemetry = Telemetry("producer", "1")
    telemetry._provider = provider
    return telemetry, exporter


def traced(bench, telemetry):
    return TracedIngest(bench.lanes, bench.repeats, Instruments(Metrics("producer", "0")), telemetry, seconds=5)


async def test_batches_are_spans_of_their_own(spans):
    """Two that are on their way at once are two spans, each linked to its caller, none inside the other."""
    telemetry, exporter = spans
    async with Bench() as bench:
        ingest = traced(bench, telemetry)
        tasks = []
        for index in range(2):
            item = msgspec.structs.replace(event(index=index), traceparent=CALLER, tracestate="a=1")
            tasks.append(asyncio.create_task(ingest.publish([item], Receipt(), named=True)))
        await tick()
        bench.link.confirm()
        await asyncio.gather(*tasks)

    found = exporter.get_finished_spans()
    assert ["publish loopcast.events"] * 2 == [span.name for span in found]
    assert [None, None] == [span.parent for span in found]
    assert [["a=1"]] * 2 == [[link.context.trace_state.to_header() for link in span.links] for span in found]


async def test_a_batch_that_is_refused_is_an_error(spans):
    """What the broker did not take is seen in the trace too."""
    telemetry, exporter = spans
    async with Bench() as bench:
        bench.link.blocked = "low on disk"
        with pytest.raises(BrokerBlocked):
            await traced(bench, telemetry).publish([event()], Receipt(), named=True)

    (span,) = exporter.get_finished_spans()
    assert StatusCode.ERROR == span.status.status_code
