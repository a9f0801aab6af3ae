"""The webhook-forwarder put together: the only place where its objects are made."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import uuid
from collections.abc import AsyncIterator, Coroutine
from importlib.metadata import version
from typing import Any

import structlog

from loopcast.broker.clients import client_of
from loopcast.broker.declare import LogWatch
from loopcast.broker.meter import ConnectionMeter
from loopcast.health import Health
from loopcast.lifecycle import Service
from loopcast.metrics import Metrics
from loopcast.settings import WebhookForwarderSettings, load
from loopcast.telemetry import provider_of_environment
from loopcast_webhook_forwarder.endpoints_watch import watch_endpoints
from loopcast_webhook_forwarder.fleet import Fleet
from loopcast_webhook_forwarder.leftovers import Leftovers
from loopcast_webhook_forwarder.runner import Shared
from loopcast_webhook_forwarder.setups import read_setups
from loopcast_webhook_forwarder.tracing import Tracing

__all__ = ["build", "service_of"]

NAME = "loopcast-webhook-forwarder"
LOOK_SECONDS = 0.25
log = structlog.get_logger(__name__)


def build() -> Service:
    """
    Read the settings and make the service.

    Raises:
        ConfigurationError: a setting is wrong, or the endpoints file is.
    """
    return service_of(load(WebhookForwarderSettings))


def service_of(settings: WebhookForwarderSettings) -> Service:
    """
    Make the service that `settings` describe.

    Raises:
        ConfigurationError: the endpoints file is wrong.
    """
    path = settings.webhooks_file
    setups = {} if path is None else read_setups(path, trace_url=settings.trace_url)
    health, metrics = Health(), Metrics("webhook-forwarder", version(NAME))
    client = client_of(settings.amqp_client)
    watch = LogWatch(
        client,
        settings.amqp_url,
        settings.broker_topology,
        mode=settings.topology,
        name=f"{NAME} log watch",
        meter=ConnectionMeter(metrics, "watch"),
    )
    fleets: list[Fleet] = []

    @contextlib.asynccontextmanager
    async def body() -> AsyncIterator[None]:
        if path is None:
            log.warning("no_endpoints", hint="LOOPCAST_WEBHOOKS_FILE names the file that lists them")
        tracing = Tracing(provider_of_environment(NAME, version(NAME)))
        shared = Shared(
            client=client,
            settings=settings,
            metrics=metrics,
            tracing=tracing,
            replica=uuid.uuid4().hex,
        )
        fleet = Fleet(shared)
        fleets.append(fleet)
        async with watch, _background(_look(health, watch)):
            fleet.apply(setups)
            async with contextlib.AsyncExitStack() as stack, _background(Leftovers(shared, fleet).run()):
                stack.push_async_callback(asyncio.to_thread, tracing.close)
                stack.push_async_callback(fleet.close)
                if path is not None:
                    read = functools.partial(read_setups, path, trace_url=settings.trace_url)
                    reading = watch_endpoints(
                        read, setups, fleet.apply, metrics, seconds=settings.webhooks_reload_seconds
                    )
                    await stack.enter_async_context(_background(reading))
                yield

    async def drain() -> None:
        for fleet in fleets:
            await fleet.drain()

    return Service(name="webhook-forwarder", settings=settings, health=health, metrics=metrics, body=body, drain=drain)


@contextlib.asynccontextmanager
async def _background(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def _look(health: Health, watch: LogWatch) -> None:
    """Keep the readiness probe up to date with the connection to the broker."""
    while True:
        if watch.connected:
            health.reached("broker")
        else:
            health.wait_for("broker", str(watch.reason or "waiting for the broker"))
        await asyncio.sleep(LOOK_SECONDS)
