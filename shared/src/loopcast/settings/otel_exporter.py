"""What the otel-exporter reads."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from loopcast.settings.base import CommaSeparated, ServiceSettings

__all__ = ["OtelExporterSettings"]


class OtelExporterSettings(ServiceSettings):
    """What the otel-exporter reads."""

    ops_port: int = Field(9702, ge=0, le=65535, description="Port of the probes and metrics.")
    otlp_endpoint: str = Field(
        "http://localhost:4317", min_length=1, description="The OTLP backend; over HTTP, without the `/v1/traces`."
    )
    otlp_protocol: Literal["grpc", "http/protobuf"] = Field("grpc", description="How OTLP is spoken.")
    otlp_headers: CommaSeparated = Field((), description="Headers for the backend: `name=value,name=value`.")
    otlp_timeout: float = Field(10.0, gt=0, le=600, description="How many seconds one request may take.")
    otlp_compression: Literal["none", "gzip"] = Field("none", description="How requests are compressed.")
    otlp_certificate: str = Field("", description="A file of CA certificates to trust for TLS, in PEM.")
    otel_reader: str = Field(
        "otel",
        pattern=r"^[a-z0-9-]{1,63}$",
        description="The name of the lease and checkpoint: one for each backend that is exported to.",
    )
    otel_service_name: str = Field("loopcast", min_length=1, description="The `service.name` of all signals.")
    otel_capture_content: bool = Field(
        False, description="Let prompts, outputs and continuations leave, as attributes of spans and log records."
    )
    otel_live: Literal["pending", "none"] = Field(
        "pending", description="Show a running loop at once, by a marker inside its span, which comes at its end."
    )
    otel_output_logs: bool = Field(True, description="Send each line of output as a log record.")
    otel_signals: CommaSeparated = Field(
        ("traces", "logs", "metrics"), min_length=1, description="What the backend takes."
    )
    otel_batch_items: int = Field(512, ge=1, le=10_000, description="Spans or log records of one request.")
    otel_batch_bytes: int = Field(
        3_500_000, ge=65536, description="Bytes of one request; many gRPC servers refuse more than 4 MiB."
    )
    otel_flush_seconds: float = Field(1.0, gt=0, le=60, description="How long an item may wait for others.")
    otel_checkpoint_seconds: float = Field(5.0, gt=0, le=600, description="How often the state is written down.")
    otel_metrics_seconds: float = Field(15.0, gt=0, le=600, description="How often metrics are sent.")
    otel_lease_seconds: float = Field(3.0, gt=0, le=60, description="How often a standby tries for a partition.")
    otel_chapter_spans: int = Field(2000, ge=10, description="Spans of a trace before the next chapter begins.")
    otel_chapter_hours: float = Field(6.0, gt=0, description="Hours of a trace before the next chapter begins.")

    @field_validator("otlp_headers", "otel_signals", mode="before")
    @classmethod
    def _split_lists(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("otlp_headers")
    @classmethod
    def _pairs(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if any("=" not in pair for pair in value):
            raise ValueError("write each header as name=value")
        return value

    @field_validator("otlp_certificate")
    @classmethod
    def _readable(cls, value: str) -> str:
        if value:
            try:
                Path(value).read_bytes()
            except OSError as error:
                raise ValueError(f"it cannot be read: {error.strerror}") from None
        return value

    @model_validator(mode="after")
    def _address(self) -> Self:
        """What gRPC takes without a scheme, HTTP does not, and its paths are added here."""
        scheme, separator, _ = self.otlp_endpoint.partition("://")
        bare = not separator and self.otlp_protocol == "grpc"
        if not bare and (not separator or scheme not in ("http", "https")):
            example = "http://host:4317" if self.otlp_protocol == "grpc" else "http://host:4318"
            raise ValueError(f"LOOPCAST_OTLP_ENDPOINT={self.otlp_endpoint!r}: write it as {example}")
        path = urlsplit(self.otlp_endpoint).path.rstrip("/") if separator else ""
        if path.endswith(("/v1/traces", "/v1/logs", "/v1/metrics")):
            raise ValueError(
                f"LOOPCAST_OTLP_ENDPOINT={self.otlp_endpoint!r}: leave {path[path.rindex('/v1/') :]} out; it is added"
            )
        return self

    @field_validator("otel_signals")
    @classmethod
    def _signals(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := set(value) - {"traces", "logs", "metrics"}:
            raise ValueError(f"{min(unknown)!r} is none of traces, logs and metrics")
        return value
