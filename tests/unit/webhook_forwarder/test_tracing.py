"""Calls as spans: off unless asked for, linked to the traces of their events."""

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from loopcast.broker.interface import Delivery
from loopcast.telemetry import provider_of_environment
from loopcast_webhook_forwarder.answers import Answer, Fault
from loopcast_webhook_forwarder.tracing import Tracing

ONE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TWO = "00-1af7651916cd43dd8448eb211c80319c-c7ad6b7169203331-01"


def event(traceparent=None) -> Delivery:
    headers = {} if traceparent is None else {"traceparent": traceparent, "tracestate": "a=1"}
    return Delivery(tag=1, routing_key="a.b", body=b"", message_id="e", headers=headers)


@pytest.fixture
def spans():
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return Tracing(provider), exporter


def test_a_call_is_a_span_with_a_link_to_each_event_s_trace(spans):
    """Each trace once, what is no traceparent left out, and the endpoint told of the call's own span."""
    tracing, exporter = spans
    with tracing.call(
        "ci", "https://ci.example/x", [event(ONE), event(), event(TWO), event(ONE), event("?")], 3
    ) as call:
        headers = call.headers
        call.ended(Answer(status=200))
    span = exporter.get_finished_spans()[0]

    assert (span.name, span.kind, span.status.status_code) == ("POST ci", SpanKind.CLIENT, StatusCode.UNSET)
    assert [f"{link.context.trace_id:032x}" for link in span.links] == [ONE[3:35], TWO[3:35]]
    assert ["a=1", "a=1"] == [link.context.trace_state.to_header() for link in span.links]
    assert headers["traceparent"].split("-")[2] == f"{span.context.span_id:016x}"
    assert span.attributes["http.response.status_code"] == 200
    assert span.attributes["messaging.batch.message_count"] == 5
    assert span.attributes["loopcast.webhook.attempt"] == 3


@pytest.mark.parametrize("outcome", [Answer(status=503), Fault(reason="no answer")])
def test_a_call_that_is_not_taken_is_an_error(spans, outcome):
    """What was not delivered stands out in a trace, with why."""
    tracing, exporter = spans
    with tracing.call("ci", "https://ci.example/x", [event()], 1) as call:
        call.ended(outcome)
    status = exporter.get_finished_spans()[0].status

    assert (status.status_code, status.description) == (StatusCode.ERROR, outcome.sentence)


def test_nothing_is_traced_unless_the_environment_asks(monkeypatch):
    """Without OTEL_* no provider is made, and calls carry no traceparent of ours."""
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    assert provider_of_environment("s", "1") is None
    with Tracing(None).call("ci", "https://ci.example/x", [event(ONE)], 1) as call:
        assert call.headers == {}
        call.ended(Answer(status=500))
