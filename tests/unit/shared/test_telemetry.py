"""A service's own traces: off unless the standard variables ask for them."""

import pytest
from otel_receiver import Receiver

from loopcast.broker.interface import Delivery
from loopcast.telemetry import Telemetry, is_configured
from loopcast.trace_context import trace_context

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, False),
        ({"OTEL_SERVICE_NAME": "x"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://h"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://h"}, True),
        ({"OTEL_TRACES_EXPORTER": "console"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://h", "OTEL_TRACES_EXPORTER": "none"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://h", "OTEL_SDK_DISABLED": "true"}, False),
    ],
)
def test_the_standard_variables_decide(environ, expected):
    """An endpoint or an exporter turns it on, `none` and `OTEL_SDK_DISABLED` off."""
    assert expected == is_configured(environ)


def test_off_it_does_nothing(monkeypatch):
    """No SDK, no span, no thread."""
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    telemetry = Telemetry("s", "1")
    with telemetry.processing("loopcast.log.0", 3, [trace_context(CALLER)]), telemetry.publishing("*", 1):
        pass
    with telemetry.reading("loopcast.log.0", [None]):
        pass

    assert not telemetry.is_on
    telemetry.close()


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_a_batch_is_linked_to_those_who_made_it(monkeypatch, protocol):
    """One CONSUMER span with the messaging conventions' attributes, and a link for each context, once."""
    with Receiver() as receiver:
        endpoint = receiver.grpc_endpoint if protocol == "grpc" else receiver.http_endpoint
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
        # The first call makes the connection; on a machine that does much else the SDK's 10 s are over before it.
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "60")
        telemetry = Telemetry("loopcast-test", "1")
        parents = [CALLER, None, "rubbish", CALLER, CALLER.replace("-b7", "-b8")]
        with telemetry.processing("loopcast.log.0", 4, [trace_context(parent, "a=1") for parent in parents]):
            pass
        telemetry.close()

    [(_, span)] = receiver.spans.values()
    attributes = {a.key: a.value.string_value or a.value.int_value for a in span.attributes}
    assert ("process loopcast.log.0", 5) == (span.name, span.kind)
    assert ("rabbitmq", "process", 4) == (
        attributes["messaging.system"], attributes["messaging.operation.type"],
        attributes["messaging.batch.message_count"],
    )  # fmt: skip
    assert ["b7ad6b7169203331", "b8ad6b7169203331"] == [link.span_id.hex() for link in span.links]


def test_deliveries_are_linked_by_their_headers(monkeypatch):
    """A batch as it was delivered: counted, and linked to what its headers say, where that is text."""
    headers = [{"traceparent": CALLER}, {}, {"traceparent": 7}]
    batch = [Delivery(tag=n, routing_key="a.b", body=b"", headers=each) for n, each in enumerate(headers)]
    with Receiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.http_endpoint)
        telemetry = Telemetry("loopcast-test", "1")
        with telemetry.reading("loopcast.log.0", batch):
            pass
        telemetry.close()

    [(_, span)] = receiver.spans.values()
    count = next(a.value.int_value for a in span.attributes if a.key == "messaging.batch.message_count")
    assert (3, ["b7ad6b7169203331"]) == (count, [link.span_id.hex() for link in span.links])
