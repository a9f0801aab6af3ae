"""The producer put together: the only place where its objects are made."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING

from loopcast.auth import Authenticator, Buckets, Rate
from loopcast.broker.clients import client_of
from loopcast.broker.declare import LogWatch, ensure
from loopcast.broker.meter import ConnectionMeter
from loopcast.broker.publisher import Publisher
from loopcast.health import Health
from loopcast.lifecycle import Service
from loopcast.metrics import Metrics
from loopcast.origins import Origins
from loopcast.settings import ProducerSettings, load
from loopcast.telemetry import Telemetry
from loopcast_producer.api import Api
from loopcast_producer.connections import Connections
from loopcast_producer.documentation import documented_app
from loopcast_producer.gate import Gate
from loopcast_producer.heartbeats import Heartbeats
from loopcast_producer.idempotency import IdempotencyWindow
from loopcast_producer.ingest import Ingest, Place, TracedIngest
from loopcast_producer.instruments import Instruments, RedisInstruments
from loopcast_producer.lanes import Lane
from loopcast_producer.numbering import RecordingClock
from loopcast_producer.problems import going_away
from loopcast_producer.readiness import watch_readiness

if TYPE_CHECKING:
    from loopcast_producer.redis_channel import RedisChannel

__all__ = ["build", "service_of"]

NAME = "loopcast-producer"
HEARTBEAT_BYTES = 1024 * 1024
"""Some thousand heartbeats of runs that are not confirmed yet."""
KEEP_ALIVE_SECONDS = 75
"""Longer than most proxies and clients keep a connection that is idle, so that they are the ones to close it."""


def build() -> Service:
    """
    Read the settings and make the service.

    Raises:
        ConfigurationError: a setting is wrong.
    """
    return service_of(load(ProducerSettings))


def service_of(settings: ProducerSettings) -> Service:
    """Make the service that `settings` describe."""
    health, metrics = Health(), Metrics("producer", version(NAME))
    client, topology, clock = client_of(settings.amqp_client), settings.broker_topology, RecordingClock()
    watch = LogWatch(client, settings.amqp_url, topology, mode=settings.topology, name=f"{NAME} log watch")
    prepare = partial(ensure, client, settings.amqp_url, topology, mode=settings.topology, name=f"{NAME} topology")
    lanes = [
        Lane(
            Publisher(
                client,
                settings.amqp_url,
                name=f"{NAME} {stream}",
                window_bytes=settings.window_bytes,
                prepare=prepare,
                meter=ConnectionMeter(metrics, f"publish-{partition}"),
            ),
            watch,
            clock,
            partition=partition,
            stream=stream,
        )
        for partition, stream in enumerate(topology.streams)
    ]
    instruments = Instruments(metrics)
    instruments.watch([lane.publisher for lane in lanes])
    telemetry = Telemetry(NAME, version(NAME))
    repeats: IdempotencyWindow[Place] = IdempotencyWindow(settings.idempotency_events)
    ingest = (
        TracedIngest(lanes, repeats, instruments, telemetry, seconds=settings.confirm_seconds)
        if telemetry.is_on
        else Ingest(lanes, repeats, instruments, seconds=settings.confirm_seconds)
    )
    heartbeats = Publisher(client, settings.amqp_url, name=f"{NAME} heartbeats", window_bytes=HEARTBEAT_BYTES)
    authenticator = Authenticator(settings, metrics)
    rate = Rate.of(settings.events_per_second) if settings.events_per_second else None
    gate = Gate(authenticator, Origins.of(settings), Buckets(rate), time.monotonic)
    api = Api(
        ingest,
        documented_app(),
        instruments,
        gate,
        Heartbeats(heartbeats, topology.streams, clock, seconds=settings.confirm_seconds),
        max_event_bytes=settings.max_event_bytes,
        max_body_bytes=settings.max_body_bytes,
    )

    connections = Connections(api)
    channel = _redis_channel(settings, ingest, metrics)

    @contextlib.asynccontextmanager
    async def body() -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(asyncio.to_thread, telemetry.close)
            await stack.enter_async_context(authenticator.running())
            await stack.enter_async_context(watch)
            await stack.enter_async_context(connections.watched())
            for lane in lanes:
                await stack.enter_async_context(lane.publisher)
            await stack.enter_async_context(heartbeats)
            await stack.enter_async_context(watch_readiness(health, watch, [lane.publisher for lane in lanes]))
            if channel is not None:
                await stack.enter_async_context(channel.running())
            yield

    async def answer_all() -> None:
        """Let requests come to their end for half of the time; a stream may have none, and is told how far it came."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(settings.drain_seconds / 2):
                await connections.arrived()
        await connections.end(going_away)
        await api.drained()

    async def drain() -> None:
        await asyncio.gather(answer_all(), *([] if channel is None else [channel.drained()]))

    return Service(
        name="producer",
        settings=settings,
        health=health,
        metrics=metrics,
        body=body,
        app=api,
        drain=drain,
        http={"http": connections, "proxy_headers": False, "timeout_keep_alive": KEEP_ALIVE_SECONDS},
    )


def _redis_channel(settings: ProducerSettings, ingest: Ingest, metrics: Metrics) -> RedisChannel | None:
    if not settings.producer_redis_url:
        return None
    # Costs 30 ms and 10 MB of a process that has no Redis.
    from loopcast_producer.redis_channel import RedisChannel

    return RedisChannel(
        ingest,
        RedisInstruments(metrics),
        url=settings.producer_redis_url,
        channel=settings.producer_redis_channel,
        amqp_url=settings.amqp_url,
        max_event_bytes=settings.max_event_bytes,
    )
