"""
The otel-exporter's speed: log → fold → OTLP, beside the same spans through the OpenTelemetry SDK in the same run.

`make bench T=tests/benchmarks/otel.py`: a private RabbitMQ, 100,000 events of interleaved loops in its log, one
exporter process without a checkpoint, a receiver in a process of its own that counts and forgets.
"""

import argparse
import asyncio
import gc
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "support"))

import msgspec  # noqa: E402
from opentelemetry._logs import LogRecord  # noqa: E402
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs  # noqa: E402
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans  # noqa: E402
from opentelemetry.sdk._logs import LoggerProvider  # noqa: E402
from opentelemetry.sdk._logs.export import (  # noqa: E402
    BatchLogRecordProcessor,
    LogRecordExporter,
    LogRecordExportResult,
)
from opentelemetry.sdk.trace import TracerProvider  # noqa: E402
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult  # noqa: E402
from opentelemetry.trace import set_span_in_context  # noqa: E402
from otel_service import loops, publish  # noqa: E402
from otel_streams import envelopes, lines  # noqa: E402

from loopcast.node import Node  # noqa: E402

RECEIVER = r"""
import sys, time, threading
from concurrent.futures import ThreadPoolExecutor
import grpc
def handler(signal):
    def export(request, context):
        sys.stdout.write(f"{signal} {len(request)} {time.time()}\n")
        sys.stdout.flush()
        return b""
    return grpc.unary_unary_rpc_method_handler(export)
class Handler(grpc.GenericRpcHandler):
    def service(self, details):
        return handler("traces" if "Trace" in details.method else "logs" if "Logs" in details.method else "metrics")
server = grpc.server(ThreadPoolExecutor(4), handlers=(Handler(),), options=[("grpc.max_receive_message_length", -1)])
port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(port, flush=True)
server.wait_for_termination()
"""


def main():
    """Run what was asked for and print the figures."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    options.add_argument("--events", type=int, default=100_000)
    options.add_argument("--json", action="store_true")
    options.add_argument("--amqp-url", default="", help="a broker that runs, instead of a private one")
    chosen = options.parse_args()
    found = {"python": platform.python_version(), "cores": os.cpu_count()}
    found |= parts(20_000)
    found |= open_spans(5_000)
    found |= sdk(20_000)
    with tempfile.TemporaryDirectory() as folder:
        if chosen.amqp_url:
            found |= asyncio.run(service(chosen.amqp_url, chosen.events, Path(folder)))
        else:
            with Node(Path(folder) / "node", cache=ROOT / ".loopcast" / "rabbitmq") as node:
                found |= asyncio.run(service(node.amqp_url, chosen.events, Path(folder)))
    if chosen.json:
        print(json.dumps(found, indent=2))
        return
    for name, value in found.items():
        print(f"{name:44} {value:>14,.1f}" if isinstance(value, float) else f"{name:44} {value:>14}")


def parts(count):
    """CPU time of each step in this process, in events (or items) per second of CPU."""
    from loopcast.broker.interface import Delivery
    from loopcast.topology import APP_ID
    from loopcast_otel_exporter.encoding import encode_log, encode_span
    from loopcast_otel_exporter.fold import Fold, Options
    from loopcast_otel_exporter.intake import event_of

    events = loops(count // 35)
    deliveries = [Delivery(tag=0, routing_key="", body=e.encode(), app_id=APP_ID, message_id=e.id) for e in events]
    fold = Fold(Options())
    start = time.process_time()
    decoded = [event_of(delivery) for delivery in deliveries]
    read = time.process_time()
    for event in decoded:
        fold.apply(event)
    folded = time.process_time()
    output = fold.take()
    spans = [encode_span(span) for span in output.spans]
    encoded = time.process_time()
    records = [encode_log(record) for record in output.logs]
    logged = time.process_time()
    return {
        "decode, events/CPU s": len(events) / (read - start),
        "fold, events/CPU s": len(events) / (folded - read),
        "encode spans, spans/CPU s": len(spans) / (encoded - folded),
        "encode logs, records/CPU s": len(records) / (logged - encoded),
        "fold and encode, events/CPU s": len(events) / (logged - start),
        "spans per event": len(spans) / len(events),
        "records per event": len(records) / len(events),
        "bytes per span": sum(map(len, spans)) / len(spans),
    }


def open_spans(loops_open):
    """Bytes of memory for each open span: loops in the middle of an action, with the tables that know them."""
    import tracemalloc

    from loopcast_otel_exporter.fold import Fold, Options

    opening = lines("demo-parent")[:3]
    assert ["loop_start", "state_enter", "action_start"] == [line["event"] for line in opening]
    fold = Fold(Options())
    tracemalloc.start()
    for number in range(loops_open):
        for event in envelopes(opening, run=f"run-{number}", emitter=f"{number:016x}"):
            fold.apply(event)
        fold.take()
    gc.collect()
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return {"an open span, bytes of memory": size / fold.state.open_spans}


def sdk(count):
    """The same job the SDK's way: spans started and ended, log records emitted, batch processors, OTLP encoding."""
    spans, logs = _providers()
    peer = Peer(spans.get_tracer("peer"), logs.get_logger("peer"))
    bodies = [event.encode() for _ in range(count // 36) for event in envelopes(lines("demo-parent"))]
    decoder = msgspec.json.Decoder()
    start = time.process_time()
    for body in bodies:
        peer.send(decoder.decode(body)["data"])
    spans.force_flush()
    logs.force_flush()
    took = time.process_time() - start
    spans.shutdown()
    logs.shutdown()
    return {"the SDK's way, events/CPU s": len(bodies) / took}


class Peer:
    """One stack of open spans, as little-loops' transport has it."""

    def __init__(self, tracer, logger):
        self._tracer = tracer
        self._logger = logger
        self._stack = []

    def send(self, event):
        """Start, end or annotate a span, or emit a record."""
        attributes = {k: v for k, v in event.items() if isinstance(v, str | int | float)}
        kind = event["event"]
        if kind in ("loop_start", "state_enter", "action_start"):
            if kind == "state_enter":
                self._end("state_enter")
            context = set_span_in_context(self._stack[-1][1]) if self._stack else None
            self._stack.append((kind, self._tracer.start_span(kind, context, attributes=attributes)))
        elif kind == "action_complete":
            self._stack[-1][1].set_attributes(attributes)
            self._end("action_start")
        elif kind == "loop_complete":
            self._end("state_enter")
            self._end("loop_start")
        else:
            self._annotate(kind, event, attributes)

    def _annotate(self, kind, event, attributes):
        if kind in ("action_output", "evaluate"):
            self._logger.emit(LogRecord(body=event.get("line"), attributes=attributes, event_name=kind))
        if kind in ("route", "evaluate"):
            self._stack[-1][1].add_event(kind, attributes)

    def _end(self, kind):
        if self._stack and self._stack[-1][0] == kind:
            self._stack.pop()[1].end()


def _providers():
    spans, logs = TracerProvider(shutdown_on_exit=False), LoggerProvider(shutdown_on_exit=False)
    spans.add_span_processor(BatchSpanProcessor(Spans(), max_queue_size=10**6, max_export_batch_size=512))
    logs.add_log_record_processor(BatchLogRecordProcessor(Logs(), max_queue_size=10**6, max_export_batch_size=512))
    return spans, logs


class Spans(SpanExporter):
    """Encodes and forgets."""

    def export(self, spans):
        encode_spans(spans).SerializeToString()
        return SpanExportResult.SUCCESS


class Logs(LogRecordExporter):
    """The same of records."""

    def export(self, batch):
        encode_logs(batch).SerializeToString()
        return LogRecordExportResult.SUCCESS

    def force_flush(self, *_):
        return True

    def shutdown(self):
        pass


async def service(url, count, folder):
    """A log of `count` events, rebuilt by a process that has no checkpoint; then the same followed live."""
    events = loops(count // 23 + 1)[:count]
    await publish(url, events, chunk=2000)
    receiver = subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, "-c", RECEIVER], stdout=subprocess.PIPE, text=True
    )
    port = int(receiver.stdout.readline())
    environment = {
        **os.environ,
        "LOOPCAST_AMQP_URL": url,
        "LOOPCAST_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
        "LOOPCAST_OPS_PORT": "19702",
    }
    log = (folder / "exporter.log").open("wb")
    started = time.time()
    exporter = subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, "-m", "loopcast_otel_exporter"], env=environment, stderr=log
    )
    try:
        read, cpu, resident = await _until_read(count, exporter.pid)
    finally:
        exporter.terminate()
        exporter.wait(30)
        receiver.terminate()
        out, _ = receiver.communicate()
    times = [float(line.split()[2]) for line in out.splitlines() if line.split()[0] in ("traces", "logs")]
    return {
        "events rebuilt": count,
        "rebuild, s (process start to last request)": max(times) - started,
        "rebuild, events/s (first to last request)": count / (max(times) - min(times)),
        "exporter CPU s": cpu,
        "exporter memory, MiB": resident / 2**20,
        "seconds until read": read - started,
    }


async def _until_read(count, pid):
    import httpx

    async with httpx.AsyncClient() as client:
        while True:
            await asyncio.sleep(0.25)
            try:
                text = (await client.get("http://127.0.0.1:19702/metrics")).text
            except httpx.HTTPError:
                continue
            counts = [line.split()[1] for line in text.splitlines() if line.startswith("loopcast_otel_events_total")]
            if counts and float(counts[0]) >= count:
                read = time.time()
                await asyncio.sleep(3)
                return read, *_cost(pid)


def _cost(pid):
    """CPU seconds and bytes of memory of a process."""
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")
    return ticks, int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


if __name__ == "__main__":
    main()
