"""
A strict OTLP backend, gRPC and HTTP, that remembers every byte and can be as bad as real ones are.

It fails a test by what it finds (:meth:`Receiver.faults`): the same id with other bytes, a parent that never came, a
span outside its parent's time.
"""

import gzip
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as logs
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2_grpc as logs_grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2_grpc as metrics_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as traces
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as traces_grpc

REQUESTS = {
    "traces": traces.ExportTraceServiceRequest,
    "logs": logs.ExportLogsServiceRequest,
    "metrics": metrics.ExportMetricsServiceRequest,
}
RESPONSES = {
    "traces": traces.ExportTraceServiceResponse,
    "logs": logs.ExportLogsServiceResponse,
    "metrics": metrics.ExportMetricsServiceResponse,
}


class Refusal(Exception):
    """What a behaviour raises: a gRPC code and an HTTP status, before or after the data was taken."""

    def __init__(self, code, status, *, after_taking=False, retry_after=None):
        super().__init__(code, status)
        self.code = code
        self.status = status
        self.after_taking = after_taking
        self.retry_after = retry_after


AWAY = Refusal(grpc.StatusCode.UNAVAILABLE, 503)
BAD = Refusal(grpc.StatusCode.INVALID_ARGUMENT, 400)
ANSWER_LOST = Refusal(grpc.StatusCode.UNAVAILABLE, 503, after_taking=True)


class Receiver:
    """`behave(signal, request)` is called for each request: it may wait, raise a Refusal, or return rejected items."""

    def __init__(self, behave=lambda *_: 0, *, host="127.0.0.1"):
        self.behave = behave
        self.host = host
        self.spans = {}
        self.logs = {}
        self.metrics = []
        self.requests = []
        self.headers = []
        self.differing = []
        self._lock = threading.Lock()

    def __enter__(self):
        self._grpc = grpc.server(ThreadPoolExecutor(8))
        traces_grpc.add_TraceServiceServicer_to_server(_Servicer(self, "traces"), self._grpc)
        logs_grpc.add_LogsServiceServicer_to_server(_Servicer(self, "logs"), self._grpc)
        metrics_grpc.add_MetricsServiceServicer_to_server(_Servicer(self, "metrics"), self._grpc)
        self.grpc_endpoint = f"http://{self.host}:{self._grpc.add_insecure_port(f'{self.host}:0')}"
        self._grpc.start()
        self._http = ThreadingHTTPServer((self.host, 0), _handler_of(self))
        self._http.daemon_threads = True
        self.http_endpoint = f"http://{self.host}:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._grpc.stop(0).wait()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def take(self, signal, request):
        """One request, through the behaviour."""
        with self._lock:
            self.requests.append((time.monotonic(), signal, request.ByteSize()))
        try:
            rejected = self.behave(signal, request)
        except Refusal as refusal:
            if refusal.after_taking:
                self._store(signal, request)
            raise
        if not rejected:
            self._store(signal, request)
        return rejected or 0

    def _store(self, signal, request):
        with self._lock:
            if signal == "metrics":
                self.metrics.append(request)
                return
            kept = self.spans if signal == "traces" else self.logs
            for resource, scope, item in _items(signal, request):
                key = item.span_id if signal == "traces" else _uid(item)
                # A backend may hash resource and scope with the span (Jaeger does).
                body = resource + scope + item.SerializeToString(deterministic=True)
                if kept.setdefault(key, (body, item))[0] != body:
                    self.differing.append(item)

    def faults(self, *, complete=True):
        """What is wrong with all that came, in words; with `complete`, every loop has ended."""
        found = [f"the same id with other bytes: {item}" for item in self.differing]
        for _, span in self.spans.values():
            found.extend(self._faults_of(span, complete))
        return found

    def _faults_of(self, span, complete):
        if not 0 < span.start_time_unix_nano <= span.end_time_unix_nano:
            yield f"no time: {span}"
        if not span.parent_span_id:
            return
        parent = self.spans.get(span.parent_span_id)
        if parent is None:
            if complete:
                yield f"no parent: {span}"
            return
        parent = parent[1]
        if parent.trace_id != span.trace_id:
            yield f"a parent in another trace: {span}"
        if "#" in span.name or _attribute(span, "loop.span_type") in ("late", "abandoned"):
            return
        if span.start_time_unix_nano < parent.start_time_unix_nano:
            yield f"earlier than its parent: {span}"
        if span.end_time_unix_nano > parent.end_time_unix_nano:
            yield f"later than its parent: {span}"

    @property
    def bytes_by_span(self):
        """The whole result, to be compared."""
        return {key: body for key, (body, _) in self.spans.items()}

    @property
    def bytes_by_log(self):
        """The same of log records."""
        return {key: body for key, (body, _) in self.logs.items()}

    def names(self):
        """The spans' names, sorted."""
        return sorted(span.name for _, span in self.spans.values())

    def sums(self):
        """The latest value of each counter and histogram by (partition, name, labels); a count that fell is a fault."""
        latest = {}
        for request in self.metrics:
            for of_resource in request.resource_metrics:
                instance = _attribute(of_resource.resource, "service.instance.id")
                for scope in of_resource.scope_metrics:
                    for metric in scope.metrics:
                        self._add(latest, instance, metric)
        return latest

    def _add(self, latest, instance, metric):
        for point in metric.sum.data_points:
            key = (instance, metric.name, _labels(point))
            assert not metric.sum.is_monotonic or point.as_int >= latest.get(key, 0), f"{key} fell"
            latest[key] = point.as_int
        for point in metric.histogram.data_points:
            key = (instance, metric.name, _labels(point))
            assert point.count >= latest.get(key, (0,))[0], f"{key} fell"
            latest[key] = (point.count, round(point.sum, 9), tuple(point.bucket_counts))


class _Servicer:
    def __init__(self, receiver, signal):
        self._receiver = receiver
        self._signal = signal

    def Export(self, request, context):  # noqa: N802 - gRPC calls it so
        self._receiver.headers.append(dict(context.invocation_metadata()))
        try:
            rejected = self._receiver.take(self._signal, request)
        except Refusal as refusal:
            if refusal.retry_after is not None:
                details = any_pb2.Any()
                info = error_details_pb2.RetryInfo()
                info.retry_delay.FromMilliseconds(int(refusal.retry_after * 1000))
                details.Pack(info)
                status = status_pb2.Status(code=refusal.code.value[0], message="later", details=[details])
                context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
            context.abort(refusal.code, "told to")
        return _response(self._signal, rejected)


def _handler_of(receiver):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            signal = self.path.removeprefix("/v1/")
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers["Content-Encoding"] == "gzip":
                body = gzip.decompress(body)
            receiver.headers.append({name.lower(): value for name, value in self.headers.items()})
            try:
                rejected = receiver.take(signal, REQUESTS[signal].FromString(body))
                self._answer(200, _response(signal, rejected).SerializeToString())
            except Refusal as refusal:
                extra = {} if refusal.retry_after is None else {"Retry-After": str(refusal.retry_after)}
                self._answer(refusal.status, b"told to", extra)

        def _answer(self, status, body, extra=None):
            self.send_response(status)
            for name, value in {"Content-Type": "application/x-protobuf", **(extra or {})}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    return Handler


def _response(signal, rejected):
    response = RESPONSES[signal]()
    if rejected:
        name = {"traces": "rejected_spans", "logs": "rejected_log_records", "metrics": "rejected_data_points"}[signal]
        setattr(response.partial_success, name, rejected)
        response.partial_success.error_message = "not these"
    return response


def _items(signal, request):
    if signal == "traces":
        for of_resource in request.resource_spans:
            for scope in of_resource.scope_spans:
                for span in scope.spans:
                    yield of_resource.resource.SerializeToString(), scope.scope.SerializeToString(), span
        return
    for of_resource in request.resource_logs:
        for scope in of_resource.scope_logs:
            for record in scope.log_records:
                yield of_resource.resource.SerializeToString(), scope.scope.SerializeToString(), record


def _attribute(item, name):
    return next((a.value.string_value for a in item.attributes if a.key == name), None)


def _uid(record):
    return _attribute(record, "log.record.uid")


def _labels(point):
    return tuple((a.key, a.value.string_value) for a in point.attributes)
