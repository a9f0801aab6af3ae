"""Every service says whether it has the broker: what the alert on a lost connection is made of."""

import asyncio
import contextlib
import importlib

import pytest

CONNECTIONS = {
    "producer": "publish-0",
    "gateway": "log.0",
    "otel_exporter": "lease.0",
    "recorder": "watch",
    "webhook_forwarder": "watch",
}
METERED = ("otel_exporter", "recorder", "webhook_forwarder")


@pytest.fixture
def environment(vhost_url, tmp_path, monkeypatch):
    """What the services are told, all of them alike."""
    told = {"AMQP_URL": vhost_url, "PORT": "0", "OPS_PORT": "0", "RECORDER_SQLITE": str(tmp_path / "events.db"),
            "OTEL_LEASE_SECONDS": "0.2"}  # fmt: skip
    for name, value in told.items():
        monkeypatch.setenv(f"LOOPCAST_{name}", value)


async def until_said(services, value):
    """Wait until a scrape of each service has its gauge at a value."""
    for name, service in services.items():
        line = f'loopcast_broker_connected{{connection="{CONNECTIONS[name]}"}} {float(value)}'
        async with asyncio.timeout(40):
            while line not in service.metrics.render().decode():  # noqa: ASYNC110 - nobody tells of a scrape
                await asyncio.sleep(0.05)


@pytest.mark.timeout(180)
async def test_a_stopped_broker_is_seen_by_every_service_and_so_is_its_return(broker, environment):
    """1 while the broker is there, 0 once it stopped, 1 again when it is back, and the loss is counted once."""
    services = {name: importlib.import_module(f"loopcast_{name}.app").build() for name in CONNECTIONS}
    async with contextlib.AsyncExitStack() as stack:
        for service in services.values():
            await stack.enter_async_context(service.body())
        await until_said(services, 1)
        await asyncio.to_thread(broker.stop)
        await until_said(services, 0)
        await asyncio.to_thread(broker.start)
        await until_said(services, 1)
        for name in METERED:
            line = f'loopcast_broker_reconnects_total{{connection="{CONNECTIONS[name]}"}} 1.0'
            assert (name, True) == (name, line in services[name].metrics.render().decode())
