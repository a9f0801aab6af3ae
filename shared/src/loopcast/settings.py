"""
Every setting of every service, with its default and its meaning: the only list of them.

Settings come from `LOOPCAST_*` variables. A bad value stops the start with one line that names the variable; a name
that nothing here knows is warned of, with the nearest one that something does. `docs/configuration.md` is written
from this module.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import Field, ValidationError, field_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, EnvSettingsSource, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from loopcast.errors import ConfigurationError
from loopcast.events import MAX_EVENT_BYTES
from loopcast.topology import LOG, MAX_PARTITIONS, Topology, parse_age

__all__ = [
    "PREFIX",
    "SERVICES",
    "GatewaySettings",
    "OtelExporterSettings",
    "ProducerSettings",
    "PublicSettings",
    "RecorderSettings",
    "ServiceSettings",
    "WebhookForwarderSettings",
    "load",
    "unknown_names",
]

PREFIX = "LOOPCAST_"

CommaSeparated = Annotated[tuple[str, ...], NoDecode]
"""Written `a,b` in a variable."""

# What Kubernetes puts into pods (https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables).
_INJECTED = re.compile(r"LOOPCAST_(.+_)?(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT_[0-9]+_(TCP|UDP)(_.+)?)\Z")

_NOT_OF_SERVICES = {
    "LOOPCAST_URL",
    "LOOPCAST_EXPERIMENT",
    "LOOPCAST_TOKEN",
    "LOOPCAST_SPOOL_DIR",
    "LOOPCAST_SPOOL_MAX_BYTES",
    "LOOPCAST_SPOOL_FULL",
    "LOOPCAST_GATEWAY_URL",
}
"""Read by the SDK and the command line, so legal beside a service."""


class _Environment(EnvSettingsSource):
    """The environment without what Kubernetes injects."""

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return {k: v for k, v in super()._load_env_vars().items() if not is_injected(k.upper(), v)}


class ServiceSettings(BaseSettings):
    """What every service reads."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", env_ignore_empty=True)

    amqp_url: str = Field(
        "amqp://guest:guest@127.0.0.1:5672/",
        description="The broker, as an AMQP URL; `amqps` for TLS.",
    )
    amqp_client: Literal["loopcast", "aio-pika"] = Field(
        "loopcast", description="What moves events: our own protocol, or aio-pika, which is slower."
    )
    topology: Literal["declare", "verify"] = Field(
        "declare", description="Create the exchanges and the log, or only check that they are there."
    )
    partitions: int = Field(1, ge=1, le=MAX_PARTITIONS, description="Streams that the log is spread over.")
    log_name: str = Field(LOG, min_length=1, max_length=200, description="The name of the log.")
    log_bindings: CommaSeparated = Field(
        ("#",), min_length=1, description="Which routing keys the log keeps, comma-separated: `exp-42.#`."
    )
    log_max_age: str = Field("7D", description="How long the log keeps events: a number and Y, M, D, h, m or s.")
    log_max_bytes: int = Field(5_000_000_000, ge=1_000_000, description="How large a partition of the log may grow.")
    ops_host: str = Field("127.0.0.1", description="Address of the probes and metrics.")
    ops_port: int = Field(0, ge=0, le=65535, description="Port of the probes and metrics.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="What is logged.")
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="JSON lines, or text for people; `auto` asks whether this is a terminal."
    )
    parent_pid: int = Field(
        0, ge=0, description="Stop when this process is no longer the parent; `loopcast up` sets it. 0 is never."
    )
    drain_seconds: float = Field(25.0, ge=0, le=3600, description="How long SIGTERM may wait for work to finish.")

    @field_validator("log_bindings", "allowed_origins", mode="before", check_fields=False)
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("log_max_age")
    @classmethod
    def _age(cls, value: str) -> str:
        parse_age(value)
        return value

    @field_validator("amqp_url")
    @classmethod
    def _amqp(cls, value: str) -> str:
        if not value.startswith(("amqp://", "amqps://")):
            raise ValueError("write it as amqp://user:password@host:5672/vhost")
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the environment; nothing else."""
        del env_settings, dotenv_settings, file_secret_settings
        return (init_settings, _Environment(settings_cls))

    @property
    def broker_topology(self) -> Topology:
        """The exchanges and the log that these settings describe."""
        return Topology(
            partitions=self.partitions,
            log=self.log_name,
            log_bindings=self.log_bindings,
            max_age=self.log_max_age,
            max_bytes=self.log_max_bytes,
        )


class PublicSettings(ServiceSettings):
    """What services with a public port read."""

    host: str = Field("127.0.0.1", description="Address of the public port.")
    port: int = Field(0, ge=0, le=65535, description="The public port.")
    allow_anonymous: bool = Field(
        False, description="Serve anybody, on any address. Without it, only loopback addresses are served."
    )

    def check_exposure(self) -> None:
        """
        Refuse to serve strangers without anybody having said so.

        Raises:
            ConfigurationError: the public address is not loopback and nothing says who may do what.
        """
        if not self.allow_anonymous and not is_loopback(self.host):
            raise ConfigurationError(
                f"LOOPCAST_HOST={self.host} is not a loopback address, and nobody would be asked who they are: "
                "set LOOPCAST_ALLOW_ANONYMOUS=true if everybody who reaches it may use it."
            )


class ProducerSettings(PublicSettings):
    """What the producer reads."""

    port: int = Field(8700, ge=0, le=65535, description="The public port.")
    ops_port: int = Field(9700, ge=0, le=65535, description="Port of the probes and metrics.")
    max_event_bytes: int = Field(MAX_EVENT_BYTES, ge=1024, description="The largest event, encoded.")
    max_body_bytes: int = Field(64 * 1024 * 1024, ge=1024, description="The largest request body that is not NDJSON.")
    window_bytes: int = Field(
        32 * 1024 * 1024, ge=1024 * 1024, description="Unconfirmed bytes a partition; beyond it, 503."
    )
    confirm_seconds: float = Field(
        10.0, gt=0, le=600, description="How long a request waits for the broker's confirm before 503."
    )
    idempotency_events: int = Field(
        200_000, ge=0, description="How many ids are remembered, so that a repeat is not published again."
    )


class GatewaySettings(PublicSettings):
    """What the gateway reads."""

    port: int = Field(8701, ge=0, le=65535, description="The public port.")
    ops_port: int = Field(9701, ge=0, le=65535, description="Port of the probes and metrics.")
    allowed_origins: CommaSeparated = Field(
        (), description="Origins of pages that may connect; the same origin always may, on loopback any loopback one."
    )
    outbox_bytes: int = Field(
        4 * MAX_EVENT_BYTES, ge=65536, description="Bytes a viewer may leave unread before it is closed with 4008."
    )
    max_connections: int = Field(20_000, ge=1, description="WebSocket connections of one process.")
    max_subscriptions: int = Field(128, ge=1, description="Subscriptions of one connection.")
    max_command_bytes: int = Field(65536, ge=1024, description="The largest command a client may send.")
    ping_seconds: float = Field(10.0, ge=0.1, le=600, description="How often a quiet connection is pinged.")
    replay_max_scan: int = Field(
        200_000, ge=1, description="Messages of a partition that one replay, and the start, reads at most."
    )
    ring_events: int = Field(2048, ge=1, description="Recent events kept in memory for each experiment.")
    ring_bytes: int = Field(4 * 1024 * 1024, ge=1024, description="The same in bytes.")
    ring_total_bytes: int = Field(
        128 * 1024 * 1024, ge=1024, description="Bytes of recent events of one partition over all experiments."
    )


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

    @field_validator("otel_signals")
    @classmethod
    def _signals(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := set(value) - {"traces", "logs", "metrics"}:
            raise ValueError(f"{min(unknown)!r} is none of traces, logs and metrics")
        return value


class WebhookForwarderSettings(ServiceSettings):
    """What the webhook-forwarder reads."""

    ops_port: int = Field(9703, ge=0, le=65535, description="Port of the probes and metrics.")
    webhooks_file: Path | None = Field(
        None, description="The endpoints file (YAML); read again when it changes, or a secret that it names does."
    )
    webhooks_reload_seconds: float = Field(2.0, gt=0, le=3600, description="How often the files are looked at.")
    webhooks_hold_seconds: float = Field(
        600.0, gt=0, le=86400, description="How long events are held unacknowledged; below the consumer timeout."
    )
    webhooks_depth_seconds: float = Field(10.0, gt=0, le=3600, description="How often the queues are measured.")
    webhooks_max_backlog_events: int = Field(
        1_000_000, ge=1, description="Events in a queue over which it is unbound and caught up from the log."
    )
    webhooks_max_backlog_bytes: int = Field(1_000_000_000, ge=1, description="The same for bytes, estimated.")


class RecorderSettings(PublicSettings):
    """What the recorder reads."""

    port: int = Field(8704, ge=0, le=65535, description="The public port: history from the database.")
    ops_port: int = Field(9704, ge=0, le=65535, description="Port of the probes and metrics.")
    recorder_sqlite: str = Field(
        ".loopcast/recorder.db", min_length=1, description="The SQLite file that events are kept in; `off` for none."
    )
    recorder_postgres: str = Field(
        "off",
        min_length=1,
        description="PostgreSQL instead of SQLite, as `postgresql://user:password@host/database`; `off` for none. "
        "Replicas share the partitions.",
    )
    recorder_max_age: str = Field(
        "never", description="When the database forgets an event: an age such as `90D`, or `never`."
    )
    recorder_max_bytes: int = Field(
        0, ge=0, description="The oldest events are deleted while the database is larger; 0 is no limit."
    )

    recorder_jsonl: str = Field(
        "off", min_length=1, description="The folder of JSONL files, one for each experiment and day; `off` for none."
    )
    recorder_jsonl_fsync: Literal["always", "interval", "never"] = Field(
        "interval", description="When lines are forced to the disk: with each batch, in intervals, or by the system."
    )
    recorder_jsonl_seconds: float = Field(
        1.0, ge=0.05, le=60, description="The interval in which JSONL files and their position are made fast."
    )
    recorder_jsonl_compress: Literal["zstd", "gzip", "none"] = Field(
        "zstd", description="What becomes of JSONL files that nothing is added to any more."
    )
    recorder_jsonl_max_bytes: int = Field(
        256 * 1024 * 1024, ge=1024, description="A larger JSONL file is closed, and a next part of the day begun."
    )
    recorder_socket: str = Field(
        "off", min_length=1, description="The Unix socket that local clients follow events at; `off` for none."
    )
    recorder_socket_clients: int = Field(32, ge=1, le=10_000, description="Clients of the socket at the same time.")
    recorder_socket_queue_bytes: int = Field(
        8 * 1024 * 1024, ge=4096, description="Bytes that a client of the socket may leave unread before it is ended."
    )
    recorder_format: Literal["original", "cloudevents"] = Field(
        "original", description="What a line of the files and the socket is: the loop's own object, or the CloudEvent."
    )

    @field_validator("recorder_max_age")
    @classmethod
    def _keep(cls, value: str) -> str:
        if value != "never":
            parse_age(value)
        return value


SERVICES: dict[str, type[ServiceSettings]] = {
    "producer": ProducerSettings,
    "gateway": GatewaySettings,
    "otel-exporter": OtelExporterSettings,
    "webhook-forwarder": WebhookForwarderSettings,
    "recorder": RecorderSettings,
}

S = TypeVar("S", bound=ServiceSettings)


def load(settings: type[S]) -> S:
    """
    Read `settings` from the environment.

    Raises:
        ConfigurationError: a value is wrong; the sentence names each variable and says what is.
    """
    try:
        return settings()
    except ValidationError as error:
        raise ConfigurationError("; ".join(map(_sentence, error.errors(include_url=False)))) from None


def _sentence(wrong: ErrorDetails) -> str:
    name = PREFIX + "".join(str(part) for part in wrong["loc"][:1]).upper()
    return f"{name}={wrong['input']!r}: {wrong['msg'].removeprefix('Value error, ')}"


def unknown_names(environ: Mapping[str, str] | None = None) -> dict[str, str | None]:
    """`LOOPCAST_*` names that nothing knows, each with the nearest one that something does."""
    known = _NOT_OF_SERVICES | {PREFIX + name.upper() for s in SERVICES.values() for name in s.model_fields}
    found: dict[str, str | None] = {}
    for name, value in (os.environ if environ is None else environ).items():
        if name.startswith(PREFIX) and name not in known and not is_injected(name, value) and "_TEST_" not in name:
            found[name] = next(iter(difflib.get_close_matches(name, sorted(known), n=1)), None)
    return found


def is_injected(name: str, value: str | None) -> bool:
    """Whether Kubernetes made this variable for a Service, and so did not mean us by it."""
    if _INJECTED.match(name):
        return True
    return (
        name.startswith(PREFIX)
        and name.endswith("_PORT")
        and bool(value)
        and str(value).startswith(("tcp://", "udp://"))
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
