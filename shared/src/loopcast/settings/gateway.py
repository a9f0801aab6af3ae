"""What the gateway reads."""

from __future__ import annotations

from ipaddress import ip_network
from typing import ClassVar

from pydantic import Field, field_validator

from loopcast.events import MAX_EVENT_BYTES
from loopcast.settings.base import CommaSeparated, TraceUrl, split
from loopcast.settings.public import PublicSettings

__all__ = ["GatewaySettings"]


class GatewaySettings(PublicSettings):
    """What the gateway reads."""

    asks: ClassVar[bool] = True

    port: int = Field(8701, ge=0, le=65535, description="The public port.")
    ops_port: int = Field(9701, ge=0, le=65535, description="Port of the probes and metrics.")
    outbox_bytes: int = Field(
        4 * MAX_EVENT_BYTES, ge=65536, description="Bytes a viewer may leave unread before it is closed with 4008."
    )
    stall_seconds: float = Field(
        30.0,
        gt=0,
        le=3600,
        description="How long a viewer's full socket may take nothing before 4008.",
    )
    max_connections: int = Field(20_000, ge=1, description="WebSocket connections of one process.")
    max_subscriptions: int = Field(128, ge=1, description="Subscriptions of one connection.")
    max_command_bytes: int = Field(65536, ge=1024, description="The largest command a client may send.")
    ping_seconds: float = Field(10.0, ge=0.1, le=600, description="How often a connection is pinged.")
    pong_seconds: float = Field(
        20.0, ge=0.1, le=3600, description="How long a ping may go without any answer before 4012."
    )
    auth_seconds: float = Field(10.0, gt=0, le=600, description="How long a connection may take to show a token.")
    commands_per_second: float = Field(
        50.0, ge=0, description="Commands of one connection in the long run, before 4013; 0 is no limit."
    )
    handshakes_per_second: float = Field(
        1000.0, ge=0, description="WebSocket handshakes of the process, before 503; 0 is no limit."
    )
    max_connections_per_user: int = Field(
        1000, ge=0, description="WebSocket connections of one token's subject or one API key; 0 is no limit."
    )
    max_connections_per_address: int = Field(
        1000, ge=0, description="WebSocket connections of one client address, loopback aside; 0 is no limit."
    )
    trusted_proxies: CommaSeparated = Field(
        (), description="Addresses and networks of proxies whose `X-Forwarded-For` says where a client is."
    )
    replay_max_scan: int = Field(
        200_000,
        ge=1,
        description="Messages of a partition that one replay, or a start before it is ready, reads at most.",
    )
    checkpoint_seconds: float = Field(
        60.0, gt=0, le=3600, description="How often some gateway writes down what the log comes to, while events come."
    )
    replay_cache_bytes: int = Field(
        64 * 1024 * 1024, ge=0, description="What was read of the log again lately and is kept for others, in bytes."
    )
    ring_events: int = Field(2048, ge=1, description="Recent events kept in memory for each experiment.")
    ring_bytes: int = Field(4 * 1024 * 1024, ge=1024, description="The same in bytes.")
    ring_total_bytes: int = Field(
        128 * 1024 * 1024, ge=1024, description="Bytes of recent events of one partition over all experiments."
    )
    trace_url: TraceUrl = Field(
        "", description="Where a backend shows a trace, with `{trace_id}` in it: the page links to it."
    )
    recorder_url: str = Field(
        "", description="Where viewers reach the recorder, which has what the log has no more; named in a 410."
    )

    @field_validator("trusted_proxies", mode="before")
    @classmethod
    def _split_proxies(cls, value: object) -> object:
        return split(value)

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            ip_network(text, strict=False)
        return value
