"""The services' own traces, as a real OTLP receiver gets them: who published, who processed, and of which traces."""

import contextlib
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import pytest
from environments import of_a_service
from otel_receiver import Receiver
from processes import Producer, free_port

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
CALLER = "b7ad6b7169203331"


@pytest.fixture
def receiver(monkeypatch):
    """A receiver that every service of the test is configured for, by the standard variables alone."""
    with Receiver() as running:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", running.http_endpoint)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
        yield running


@contextlib.contextmanager
def running(module, amqp_url, log, **settings):
    """A service as a process; ended as Kubernetes does, it sends what is left."""
    ops = free_port()
    ports = {"LOOPCAST_PORT": free_port(), "LOOPCAST_OPS_PORT": ops}
    environment = of_a_service(LOOPCAST_AMQP_URL=amqp_url, **ports, **settings)
    with log.open("ab") as out:
        process = subprocess.Popen([sys.executable, "-m", module], env=environment, stdout=out, stderr=out)
    try:
        for _ in range(600):
            assert process.poll() is None, log.read_text()
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"http://127.0.0.1:{ops}/readyz").status_code == 200:
                    break
            time.sleep(0.05)
        yield process
        process.send_signal(signal.SIGTERM)
        assert 0 == process.wait(40)
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def hook():
    """An endpoint that takes everything; the headers of its calls."""
    calls = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            calls.append({name.lower(): value for name, value in self.headers.items()})
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/", calls
        server.shutdown()
        thread.join()


def spans_of(receiver, service):
    """The spans of one service, by what its resource says."""
    return [span for resource, span in list(receiver.spans.values()) if service.encode() in resource]


def linked(receiver, service):
    """The spans that have a link to the caller."""
    return [s for s in spans_of(receiver, service) if CALLER in [link.span_id.hex() for link in s.links]]


def attributes(span):
    return {a.key: a.value.string_value or a.value.int_value for a in span.attributes}


def until(condition):
    for _ in range(400):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it did not come")


@pytest.mark.timeout(180)
def test_a_batch_is_seen_where_it_is_published_and_where_it_is_processed(receiver, vhost_url, tmp_path):
    """One event's trace is linked from the producer's publish span and from every reader's process span."""
    file = tmp_path / "endpoints.yaml"
    with contextlib.ExitStack() as stack:
        producer = stack.enter_context(Producer(vhost_url, tmp_path / "producer"))
        url, calls = stack.enter_context(hook())
        file.write_text(f"endpoints: [{{name: ci, url: '{url}', bindings: ['#'], allow_private: true}}]")
        for module, settings in {
            "loopcast_gateway": {},
            "loopcast_recorder": {"LOOPCAST_RECORDER_SQLITE": str(tmp_path / "events.sqlite")},
            "loopcast_webhook_forwarder": {"LOOPCAST_WEBHOOKS_FILE": str(file)},
        }.items():
            stack.enter_context(running(module, vhost_url, tmp_path / module, **settings))
        answer = producer.post(b'[{"event":"a"},{"event":"b"}]', traceparent=TRACEPARENT)
        assert 202 == answer.status_code
        for service in ("loopcast-producer", "loopcast-gateway", "loopcast-recorder", "loopcast-webhook-forwarder"):
            until(lambda service=service: linked(receiver, service))
        assert 0 == producer.stop()

    (published,) = linked(receiver, "loopcast-producer")
    assert ("publish loopcast.events", 4) == (published.name, published.kind)
    assert ("rabbitmq", "publish", "send", "loopcast.events", 2) == tuple(
        attributes(published)[f"messaging.{name}"]
        for name in ("system", "operation.name", "operation.type", "destination.name", "batch.message_count")
    )
    for service in ("loopcast-gateway", "loopcast-recorder"):
        processed = linked(receiver, service)
        assert {("process loopcast.log.0", 5)} == {(span.name, span.kind) for span in processed}
        assert {"loopcast.log.0"} == {attributes(span)["messaging.destination.name"] for span in processed}
    (called,) = linked(receiver, "loopcast-webhook-forwarder")
    assert called.span_id.hex() == calls[0]["traceparent"].split("-")[2]
    assert 0 < published.start_time_unix_nano < published.end_time_unix_nano < called.end_time_unix_nano


def test_a_refusal_is_an_error(receiver, tmp_path):
    """What the broker did not confirm stands out in a trace, with why."""
    producer = Producer("amqp://guest:guest@127.0.0.1:9/", tmp_path / "log").start(ready=False)
    try:
        assert 503 == producer.post(b"{}", traceparent=TRACEPARENT).status_code
        until(lambda: linked(receiver, "loopcast-producer"))
    finally:
        producer.kill()

    (span,) = linked(receiver, "loopcast-producer")
    assert 2 == span.status.code
    assert "BrokerUnavailable" in span.status.message


def test_a_receiver_that_is_away_costs_no_event(monkeypatch, vhost_url, tmp_path):
    """Telemetry that nobody takes is dropped by the SDK; events go on, and the process ends in its time."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    with Producer(vhost_url, tmp_path / "log") as producer:
        assert [202] * 20 == [producer.post(b"{}").status_code for _ in range(20)]
        assert 0 == producer.stop()
