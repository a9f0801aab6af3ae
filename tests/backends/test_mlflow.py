"""
What MLflow shows of our spans: a store where the last of two spans with one id wins.

Runs where `LOOPCAST_TEST_MLFLOW` names one, as `http://127.0.0.1:5000`.
"""

import os
from base64 import b64decode

import httpx
import pytest
from otel_streams import envelopes, fold, lines

from loopcast.ids import uuid7
from loopcast.metrics import Metrics
from loopcast_otel_exporter.encoding import encode_span, traces_head
from loopcast_otel_exporter.instruments import Instruments
from loopcast_otel_exporter.sender import Sender
from loopcast_otel_exporter.transport import HttpTransport, Signal

MLFLOW = os.environ.get("LOOPCAST_TEST_MLFLOW", "")

pytestmark = pytest.mark.skipif(not MLFLOW, reason="LOOPCAST_TEST_MLFLOW names no MLflow")


async def bury(*_):
    """Nothing is refused."""
    raise AssertionError


@pytest.mark.parametrize(("stream", "state"), [("demo-parent", "OK"), ("demo-cycle", "ERROR")])
async def test_every_span_is_shown_once_under_its_parent(stream, state):
    """Sent twice, the second time backwards: one span for each id, its parent, and the trace's state."""
    spans = fold(envelopes(lines(stream), run=uuid7())).take().spans
    transport = HttpTransport(MLFLOW, headers={"x-mlflow-experiment-id": "0"}, timeout=30)
    sender = Sender(transport, Signal.TRACES, traces_head({"service.name": "loopcast"}), Instruments(Metrics("t", "0")))
    items = [encode_span(span) for span in spans]
    await sender.send(items, bury)
    await sender.send(items[::-1], bury)
    await transport.close()

    async with httpx.AsyncClient(base_url=MLFLOW, timeout=30) as client:
        trace = f"tr-{spans[0].trace_id.hex()}"
        found = await client.get("/ajax-api/2.0/mlflow/get-trace-artifact", params={"request_id": trace})
        info = await client.get("/api/3.0/mlflow/traces/get", params={"trace_id": trace})

    shown = found.json()["spans"]
    assert {s.span_id: (s.name, s.parent_id) for s in spans} == {
        b64decode(s["span_id"]): (s["name"], b64decode(s["parent_span_id"] or "")) for s in shown
    }
    assert len(spans) == len(shown)
    assert state == info.json()["trace"]["trace_info"]["state"]
