"""The exporter put together: the only place where its objects are made."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from importlib.metadata import version

from loopcast.broker.clients import client_of
from loopcast.health import Health
from loopcast.lifecycle import Service
from loopcast.metrics import Metrics
from loopcast.settings import OtelExporterSettings, load
from loopcast.telemetry import Telemetry
from loopcast_otel_exporter.instruments import Instruments
from loopcast_otel_exporter.partition import Partitions
from loopcast_otel_exporter.setup import Setup, transport_of

__all__ = ["build", "service_of"]

NAME = "loopcast-otel-exporter"


def build() -> Service:
    """
    Read the settings and make the service.

    Raises:
        ConfigurationError: a setting is wrong, or the service's own traces are asked for without the SDK.
    """
    return service_of(load(OtelExporterSettings))


def service_of(settings: OtelExporterSettings) -> Service:
    """Make the service that `settings` describe."""
    health, metrics = Health(), Metrics("otel-exporter", version(NAME))
    health.wait_for("broker", "waiting for RabbitMQ")
    telemetry = Telemetry(NAME, version(NAME))
    made: list[Partitions] = []

    @contextlib.asynccontextmanager
    async def body() -> AsyncIterator[None]:
        # Its channel belongs to the event loop that runs when it is made.
        transport = transport_of(settings)
        setup = Setup(
            settings=settings,
            client=client_of(settings.amqp_client),
            transport=transport,
            instruments=Instruments(metrics),
            telemetry=telemetry,
            name=NAME,
        )
        partitions = Partitions(setup)
        made.append(partitions)
        partitions.start()
        ready = asyncio.create_task(_tell_ready(partitions, health))
        try:
            yield
        finally:
            ready.cancel()
            await partitions.close()
            await transport.close()
            await asyncio.to_thread(telemetry.close)

    async def drain() -> None:
        for partitions in made:
            await partitions.drain()

    return Service(name="otel-exporter", settings=settings, health=health, metrics=metrics, body=body, drain=drain)


async def _tell_ready(partitions: Partitions, health: Health) -> None:
    await partitions.wait_tried()
    health.reached("broker")
