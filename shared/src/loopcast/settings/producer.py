"""What the producer reads."""

from __future__ import annotations

from typing import ClassVar
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from loopcast.events import MAX_EVENT_BYTES
from loopcast.settings.public import PublicSettings

__all__ = ["ProducerSettings"]

MOST_EVENT_BYTES = 15 * 1024 * 1024
"""A message over the broker's limit ends its channel, and would come first again on the next: for ever."""


class ProducerSettings(PublicSettings):
    """What the producer reads."""

    asks: ClassVar[bool] = True

    port: int = Field(8700, ge=0, le=65535, description="The public port.")
    ops_port: int = Field(9700, ge=0, le=65535, description="Port of the probes and metrics.")
    max_event_bytes: int = Field(
        MAX_EVENT_BYTES,
        ge=1024,
        le=MOST_EVENT_BYTES,
        description="The largest event, encoded; a broker takes 16 MiB a message (RabbitMQ 4, `max_message_size`).",
    )
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
    events_per_second: float = Field(
        0.0, ge=0, description="What a token, or a key without a rate of its own, may send; 0 is no limit."
    )
    producer_redis_url: str = Field(
        "",
        description="A Redis whose channel's messages are events too, as PromptLooper publishes them: "
        "`redis://user:password@host:6379`, `rediss` for TLS. Replicas of the producer name it alike.",
    )
    producer_redis_channel: str = Field(
        "promptlooper:events", min_length=1, max_length=200, description="The channel there."
    )

    @field_validator("producer_redis_url")
    @classmethod
    def _redis(cls, value: str) -> str:
        if value and urlsplit(value).scheme not in ("redis", "rediss", "unix"):
            raise ValueError("write it as redis://user:password@host:6379, rediss:// for TLS, or unix:///path")
        return value
