"""The trace context that a loop runs in goes along with its events."""

import pytest
from scripted import ScriptedProducer

from loopcast import LoopcastTransport

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OTHER = "00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def producer():
    """A producer that takes everything."""
    with ScriptedProducer() as running:
        yield running


def sent(producer, **arguments):
    """The trace context of each event of a run that is resumed, as it was posted."""
    transport = LoopcastTransport(producer.url, "e", **arguments)
    for event in ({"event": "loop_resume", "loop": "l"}, {"event": "x"}):
        transport.send(event)
    assert transport.close(10).complete
    return {
        (event.get("traceparent"), event.get("tracestate"), list(event)[-1])
        for _, _, batch, _ in producer.requests
        for event in batch
    }


@pytest.mark.parametrize(
    ("environ", "arguments", "expected"),
    [
        ({}, {}, (None, None)),
        ({}, {"traceparent": PARENT}, (PARENT, None)),
        ({}, {"traceparent": PARENT, "tracestate": "a=1, b=2"}, (PARENT, "a=1,b=2")),
        ({}, {"traceparent": PARENT, "tracestate": "A"}, (PARENT, None)),
        ({}, {"traceparent": "nonsense", "tracestate": "a=1"}, (None, None)),
        ({"TRACEPARENT": PARENT, "TRACESTATE": "a=1"}, {}, (PARENT, "a=1")),
        ({"TRACEPARENT": PARENT, "TRACESTATE": "a=1"}, {"traceparent": OTHER}, (OTHER, None)),
        ({"TRACESTATE": "a=1"}, {}, (None, None)),
    ],
)
def test_each_event_carries_the_context(producer, monkeypatch, environ, arguments, expected):
    """As it is given, else of the environment; what breaks the grammar is left out. The data stays last."""
    monkeypatch.delenv("TRACEPARENT", raising=False)
    monkeypatch.delenv("TRACESTATE", raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)

    assert {(*expected, "data")} == sent(producer, **arguments)
