"""What the parts of the exporter share: chosen once, from the settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from loopcast.broker.interface import Client
from loopcast.settings import OtelExporterSettings
from loopcast.telemetry import Telemetry
from loopcast_otel_exporter.encoding import logs_head, traces_head
from loopcast_otel_exporter.fold import Options
from loopcast_otel_exporter.instruments import Instruments
from loopcast_otel_exporter.pipeline import Pipeline
from loopcast_otel_exporter.sender import Bury, Sender
from loopcast_otel_exporter.signals import Scalar
from loopcast_otel_exporter.transport import GrpcTransport, HttpTransport, Signal, Transport

__all__ = ["Setup", "transport_of"]

NANOSECONDS_AN_HOUR = 3600 * 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """The settings, and what was made of them."""

    settings: OtelExporterSettings
    client: Client
    transport: Transport
    instruments: Instruments
    telemetry: Telemetry
    name: str

    @property
    def options(self) -> Options:
        """The mapping's options."""
        settings = self.settings
        return Options(
            capture_content=settings.otel_capture_content,
            pending=settings.otel_live == "pending",
            output_logs=settings.otel_output_logs,
            chapter_spans=settings.otel_chapter_spans,
            chapter_nanoseconds=int(settings.otel_chapter_hours * NANOSECONDS_AN_HOUR),
        )

    @property
    def resource(self) -> dict[str, Scalar]:
        """What traces and logs are of. Nothing here may tell replicas apart."""
        return {"service.name": self.settings.otel_service_name}

    def resource_of_metrics(self, partition: int) -> dict[str, Scalar]:
        """What metrics are of: the partition, which has one writer at a time, whichever replica that is."""
        return {**self.resource, "service.instance.id": f"otel-exporter/{self.settings.otel_reader}/p{partition:02d}"}

    def sends(self, signal: Signal) -> bool:
        """Whether the backend is to get `signal`."""
        return str(signal) in self.settings.otel_signals

    def pipeline(self, bury: Bury) -> Pipeline:
        """A way to the backend for one holder of one partition."""

        def sender(signal: Signal, head: tuple[bytes, bytes]) -> Sender | None:
            return Sender(self.transport, signal, head, self.instruments) if self.sends(signal) else None

        return Pipeline(
            sender(Signal.TRACES, traces_head(self.resource)),
            sender(Signal.LOGS, logs_head(self.resource)),
            bury,
            max_items=self.settings.otel_batch_items,
            max_bytes=self.settings.otel_batch_bytes,
        )


def transport_of(settings: OtelExporterSettings) -> Transport:
    """The way to the backend that the settings name, which hold its address to what the protocol takes."""
    kind = GrpcTransport if settings.otlp_protocol == "grpc" else HttpTransport
    pairs = (pair.partition("=") for pair in settings.otlp_headers)
    return kind(
        settings.otlp_endpoint,
        headers={name.strip(): value.strip() for name, _, value in pairs},
        timeout=settings.otlp_timeout,
        compression=settings.otlp_compression == "gzip",
        certificate=Path(settings.otlp_certificate) if settings.otlp_certificate else None,
    )
