"""Every service says whether it has the broker: what the alert on a lost connection is made of."""

import asyncio
import contextlib
import importlib
from urllib.parse import urlsplit

import pytest

CONNECTIONS = {
    "producer": "publish-0",
    "gateway": "log.0",
    "otel_exporter": "lease.0",
    "recorder": "watch",
    "webhook_forwarder": "watch",
}
METERED = ("producer", "otel_exporter", "recorder", "webhook_forwarder")


class Line:
    """The way to a broker, which can be cut: sooner than a broker stops and starts, and the same to whoever uses it."""

    def __init__(self, url):
        self._parts = urlsplit(url)
        self._writers = set()
        self._server = None
        self._port = 0

    @property
    def url(self):
        login = f"{self._parts.username}:{self._parts.password}"
        return self._parts._replace(netloc=f"{login}@127.0.0.1:{self._port}").geturl()

    async def open(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    def cut(self):
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader, writer):
        far_reader, far_writer = await asyncio.open_connection(self._parts.hostname, self._parts.port)
        self._writers |= {writer, far_writer}
        await asyncio.gather(self._pass(reader, far_writer), self._pass(far_reader, writer))
        self._writers -= {writer, far_writer}

    async def _pass(self, reader, writer):
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()


@pytest.fixture
async def line(vhost_url, tmp_path, monkeypatch):
    """A line to the broker, which all services are told to use."""
    made = Line(vhost_url)
    await made.open()
    told = {"AMQP_URL": made.url, "PORT": "0", "OPS_PORT": "0", "RECORDER_SQLITE": str(tmp_path / "events.db"),
            "OTEL_LEASE_SECONDS": "0.2"}  # fmt: skip
    for name, value in told.items():
        monkeypatch.setenv(f"LOOPCAST_{name}", value)
    yield made
    made.cut()


@contextlib.asynccontextmanager
async def running():
    """All services, in this process, by name."""
    services = {name: importlib.import_module(f"loopcast_{name}.app").build() for name in CONNECTIONS}
    async with contextlib.AsyncExitStack() as stack:
        for service in services.values():
            await stack.enter_async_context(service.body())
        yield services


async def until_said(services, value):
    """Wait until a scrape of each service has its gauge at a value."""
    for name, service in services.items():
        line = f'loopcast_broker_connected{{connection="{CONNECTIONS[name]}"}} {float(value)}'
        async with asyncio.timeout(40):
            while line not in service.metrics.render().decode():  # noqa: ASYNC110 - nobody tells of a scrape
                await asyncio.sleep(0.05)


async def test_a_broker_that_goes_is_seen_by_every_service_and_so_is_its_return(line):
    """1 while the broker is there, 0 once it cannot be reached, 1 again when it can, and the loss is counted once."""
    async with running() as services:
        await until_said(services, 1)
        line.cut()
        await until_said(services, 0)
        await line.open()
        await until_said(services, 1)
        for name in METERED:
            counted = f'loopcast_broker_reconnects_total{{connection="{CONNECTIONS[name]}"}} 1.0'
            assert (name, True) == (name, counted in services[name].metrics.render().decode())


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_a_stopped_broker_is_seen_by_every_service_and_so_is_its_return(line, broker):
    """The same of the broker itself, which says goodbye, and takes connections a while before it is of any use."""
    async with running() as services:
        await until_said(services, 1)
        await asyncio.to_thread(broker.stop)
        await until_said(services, 0)
        await asyncio.to_thread(broker.start)
        await until_said(services, 1)
