"""The composition root: reads the settings and makes the objects."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from loopcast.broker.clients import client_of
from loopcast.broker.declare import LogWatch
from loopcast.health import Health
from loopcast.lifecycle import Service
from loopcast.metrics import Metrics
from loopcast.settings import GatewaySettings, load
from loopcast_gateway.api import make_app
from loopcast_gateway.connection import Connection
from loopcast_gateway.gateway import NAME, Gateway

if TYPE_CHECKING:
    from uvicorn.config import Config
    from uvicorn.server import ServerState

__all__ = ["build"]


def build() -> Service:
    """
    The gateway as its settings have it.

    Raises:
        ConfigurationError: a setting is wrong.
    """
    settings = load(GatewaySettings)
    health, metrics = Health(), Metrics("gateway", version("loopcast-gateway"))
    client = client_of(settings.amqp_client)
    gateway = Gateway(client, settings, metrics)
    health.wait_for("log", "the end of the log is not known yet: is the broker there?")
    watch = LogWatch(
        client, settings.amqp_url, settings.broker_topology, mode=settings.topology, name=f"{NAME} topology"
    )

    def connection(config: Config, server_state: ServerState, app_state: dict[str, Any]) -> Connection:
        del config, app_state
        return gateway.connection(server_state.connections)  # type: ignore[arg-type]

    @contextlib.asynccontextmanager
    async def body() -> AsyncIterator[None]:
        async with watch, gateway.running():
            waiting = asyncio.create_task(_reach(gateway, health))
            try:
                yield
            finally:
                waiting.cancel()
        await asyncio.to_thread(gateway.telemetry.close)

    return Service(
        name="gateway",
        settings=settings,
        health=health,
        metrics=metrics,
        body=body,
        app=make_app(gateway),
        drain=gateway.drain,
        http={"ws": connection},
    )


async def _reach(gateway: Gateway, health: Health) -> None:
    """Ready is who knows where the log ends. Losing the broker later does not unready: viewers stay and are served."""
    for tail in gateway.tails:
        await tail.ready.wait()
    health.reached("log")
