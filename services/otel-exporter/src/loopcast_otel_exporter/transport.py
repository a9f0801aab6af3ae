"""One request to an OTLP backend, over gRPC or HTTP, and its answer. No retries here, and no batching."""

from __future__ import annotations

import datetime as dt
import gzip
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Protocol

import grpc
import grpc.aio
import httpx
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from loopcast_otel_exporter.answers import Again, Answer, Taken, of_grpc, of_http

__all__ = ["GrpcTransport", "HttpTransport", "Signal", "Transport"]

CONTENT_TYPE = "application/x-protobuf"
MAX_ANSWER_CHARACTERS = 300


class Signal(StrEnum):
    """The three kinds of data."""

    TRACES = "traces"
    LOGS = "logs"
    METRICS = "metrics"


_METHODS = {
    Signal.TRACES: "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    Signal.LOGS: "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
    Signal.METRICS: "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
}


class Transport(Protocol):
    """A way to a backend."""

    async def export(self, signal: Signal, request: bytes) -> Answer:
        """Send one encoded `Export…ServiceRequest`. Never raises because of the backend or the network."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...


class GrpcTransport:
    """OTLP/gRPC."""

    def __init__(
        self,
        endpoint: str,
        *,
        headers: Mapping[str, str],
        timeout: float,
        compression: bool = False,
        certificate: Path | None = None,
    ) -> None:
        target, secure = _target(endpoint)
        options = [("grpc.max_send_message_length", -1), ("grpc.keepalive_time_ms", 30_000)]
        how = grpc.Compression.Gzip if compression else grpc.Compression.NoCompression
        if secure or certificate is not None:
            roots = None if certificate is None else certificate.read_bytes()
            self._channel = grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(roots), options, how)
        else:
            self._channel = grpc.aio.insecure_channel(target, options, how)
        self._calls = {signal: self._channel.unary_unary(method) for signal, method in _METHODS.items()}
        # Metadata keys are lower case (gRPC over HTTP/2, "Custom-Metadata").
        self._metadata = [(name.lower(), value) for name, value in headers.items()]
        self._timeout = timeout

    async def export(self, signal: Signal, request: bytes) -> Answer:
        """Send one request as :meth:`Transport.export` says."""
        try:
            body = await self._calls[signal](request, timeout=self._timeout, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            trailers = dict(error.trailing_metadata() or ())
            details = trailers.get("grpc-status-details-bin")
            return of_grpc(error.code(), error.details() or "", details if isinstance(details, bytes) else None)
        return _taken(signal, body)

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()


class HttpTransport:
    """OTLP/HTTP with binary protobuf; the signal's path is added to the endpoint (OTLP exporter specification)."""

    def __init__(
        self,
        endpoint: str,
        *,
        headers: Mapping[str, str],
        timeout: float,
        compression: bool = False,
        certificate: Path | None = None,
    ) -> None:
        self._urls = {signal: f"{endpoint.rstrip('/')}/v1/{signal}" for signal in Signal}
        self._compression = compression
        sent = {"Content-Type": CONTENT_TYPE, **headers}
        if compression:
            sent["Content-Encoding"] = "gzip"
        verify: bool | str = True if certificate is None else str(certificate)
        self._client = httpx.AsyncClient(headers=sent, timeout=timeout, verify=verify, follow_redirects=False)

    async def export(self, signal: Signal, request: bytes) -> Answer:
        """Send one request as :meth:`Transport.export` says."""
        body = gzip.compress(request, 1) if self._compression else request
        try:
            response = await self._client.post(self._urls[signal], content=body)
        except httpx.HTTPError as error:
            return Again(f"{type(error).__name__}: {error}")
        if response.status_code == httpx.codes.OK:
            return _taken(signal, response.content)
        retry_after = response.headers.get("Retry-After")
        text = response.text[:MAX_ANSWER_CHARACTERS]
        return of_http(response.status_code, retry_after, text, dt.datetime.now(dt.UTC))

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


def _target(endpoint: str) -> tuple[str, bool]:
    """The gRPC target of an endpoint, and whether it is spoken to over TLS (OTLP exporter specification)."""
    scheme, separator, rest = endpoint.partition("://")
    if not separator:
        return endpoint, False
    return rest.rstrip("/"), scheme == "https"


def _taken(signal: Signal, body: bytes) -> Taken:
    """What a success says of items that were not taken after all (OTLP, "Partial Success")."""
    try:
        if signal is Signal.TRACES:
            trace = ExportTraceServiceResponse.FromString(body).partial_success
            return Taken(trace.rejected_spans, trace.error_message)
        if signal is Signal.LOGS:
            log = ExportLogsServiceResponse.FromString(body).partial_success
            return Taken(log.rejected_log_records, log.error_message)
        metric = ExportMetricsServiceResponse.FromString(body).partial_success
    except DecodeError:
        # A success is a success; its body is a courtesy that some backends answer as JSON.
        return Taken()
    return Taken(metric.rejected_data_points, metric.error_message)
