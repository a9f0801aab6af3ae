"""
What the OpenTelemetry Collector makes of our signals: an OTLP receiver that nobody here wrote, read from behind.

Runs where `LOOPCAST_TEST_COLLECTOR` names its program, or is `build`: then Go makes it from `collector.yaml`, once.
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import httpx
import pytest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Status
from otel_receiver import AWAY, Receiver
from otel_service import Exporter, loops, publish, until
from otel_streams import fold

from loopcast.node.ports import free_ports
from loopcast_otel_exporter.encoding import encode_log, encode_span

COLLECTOR = os.environ.get("LOOPCAST_TEST_COLLECTOR", "")
MANIFEST = Path(__file__).with_name("collector.yaml")
BUILT = Path(__file__).parents[2] / ".loopcast" / "otelcol"
BUILDER = "go.opentelemetry.io/collector/cmd/builder"

pytestmark = [
    pytest.mark.skipif(not COLLECTOR, reason="LOOPCAST_TEST_COLLECTOR names no collector"),
    pytest.mark.timeout(900),
]


@pytest.fixture(scope="module")
def program():
    """The path of the collector's program."""
    if COLLECTOR != "build":
        return COLLECTOR
    if shutil.which("go") is None:
        pytest.skip("needs Go to build a collector")
    if not (BUILT / "otelcol").exists():
        BUILT.mkdir(parents=True, exist_ok=True)
        version = MANIFEST.read_text().partition("otlpreceiver ")[2].split()[0]
        manifest = BUILT / "manifest.yaml"
        manifest.write_text(MANIFEST.read_text().replace("dist:\n", f"dist:\n  output_path: {BUILT}\n"))
        command = ["go", "run", f"{BUILDER}@{version}", "--config", manifest]
        subprocess.run(command, check=True, env={**os.environ, "GOFLAGS": "-buildvcs=false"}, timeout=850)
    return BUILT / "otelcol"


class Collector:
    """A collector that passes on what it takes to `behind`; it is an endpoint for :class:`Exporter`."""

    def __init__(self, program, folder, behind):
        self._program, self._folder = program, folder
        grpc, http = free_ports(2)
        self.grpc_endpoint, self.http_endpoint = f"http://127.0.0.1:{grpc}", f"http://127.0.0.1:{http}"
        protocols = {name: {"endpoint": f"127.0.0.1:{port}"} for name, port in (("grpc", grpc), ("http", http))}
        pipeline = {"receivers": ["otlp"], "processors": ["batch"], "exporters": ["otlp_grpc"]}
        self._config = {
            "receivers": {"otlp": {"protocols": protocols}},
            "processors": {"batch": {"timeout": "100ms"}},
            "exporters": {
                "otlp_grpc": {
                    "endpoint": behind.grpc_endpoint.removeprefix("http://"),
                    "tls": {"insecure": True},
                    "retry_on_failure": {"initial_interval": "100ms", "max_interval": "500ms"},
                }
            },
            "service": {
                "telemetry": {"metrics": {"level": "none"}},
                "pipelines": dict.fromkeys(("traces", "logs", "metrics"), pipeline),
            },
        }

    def __enter__(self):
        config = self._folder / "collector.json"
        config.write_text(json.dumps(self._config))
        with (self._folder / "collector.log").open("wb") as log:
            self._process = subprocess.Popen([self._program, "--config", config], stderr=log, stdout=log)
        deadline = time.monotonic() + 30
        while True:
            with contextlib.suppress(httpx.TransportError):
                httpx.post(f"{self.http_endpoint}/v1/traces", json={})
                return self
            assert self._process.poll() is None, (self._folder / "collector.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def __exit__(self, *_):
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(20)


def items(kept):
    """The bytes behind the collector, without resource and scope, and without the empty messages that it writes out."""
    for _, item in kept.values():
        for name, empty in (("status", Status()), ("body", AnyValue())):
            if name in item.DESCRIPTOR.fields_by_name and getattr(item, name) == empty:
                item.ClearField(name)
    return {key: item.SerializeToString(deterministic=True) for key, (_, item) in kept.items()}


async def test_behind_a_collector_is_what_an_undisturbed_run_makes(vhost_url, program, tmp_path):
    """Over gRPC, killed in the middle, then over HTTP: every span and record byte for byte, and exact counts."""
    events = loops(30)
    output = fold(events).take()
    spans = {span.span_id: encode_span(span) for span in output.spans}
    records = {record.uid: encode_log(record) for record in output.logs}
    with Receiver() as behind, Collector(program, tmp_path, behind) as collector:
        with Exporter(vhost_url, collector, tmp_path / "log") as exporter:
            await publish(vhost_url, events[:400])
            await until(lambda: len(behind.spans) > 50)
            exporter.kill()
        over_http = {"otlp_endpoint": collector.http_endpoint, "otlp_protocol": "http/protobuf"}
        with Exporter(vhost_url, collector, tmp_path / "log", **over_http) as exporter:
            await publish(vhost_url, events[400:])
            await until(lambda: behind.spans.keys() >= spans.keys() and behind.logs.keys() >= records.keys(), 60)
            await asyncio.sleep(1)
            assert 0 == exporter.terminate()
        await until(lambda: _counted(behind) == len(events))

    assert (spans, records) == (items(behind.spans), items(behind.logs))
    assert [] == behind.faults()


async def test_a_collector_whose_backend_is_away_loses_nothing(vhost_url, program, tmp_path):
    """What the collector does not take while its queue is full stays in the log, and comes when it takes it again."""
    events = loops(60)
    spans = {span.span_id: encode_span(span) for span in fold(events).take().spans}
    away = [True]

    def behave(*_):
        if away[0]:
            raise AWAY

    with (
        Receiver(behave) as behind,
        Collector(program, tmp_path, behind) as collector,
        Exporter(vhost_url, collector, tmp_path / "log"),
    ):
        await publish(vhost_url, events)
        await until(lambda: len(behind.requests) > 3)
        away[0] = False
        await until(lambda: behind.spans.keys() >= spans.keys(), 60)

    assert spans == items(behind.spans)
    assert [] == behind.faults()


def _counted(receiver):
    return sum(value for (_, name, _), value in receiver.sums().items() if name == "loop.events")
