"""What the webhook-forwarder reads."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from loopcast.settings.base import ServiceSettings, TraceUrl

__all__ = ["WebhookForwarderSettings"]


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
    trace_url: TraceUrl = Field(
        "", description="Where a backend shows a trace, with `{trace_id}` in it: messages for people link to it."
    )
