"""A forwarder on a real RabbitMQ, with real HTTP receivers that do what a test tells them."""

import asyncio
import base64
import contextlib
import json
import re
import time

import msgspec
import pytest
import yaml
from aiohttp import web

from loopcast.broker.clients import client_of
from loopcast.broker.consumer import Consumer
from loopcast.broker.declare import ensure
from loopcast.broker.publisher import Publisher
from loopcast.events import Event, format_time, source_of
from loopcast.ids import uuid7
from loopcast.settings import WebhookForwarderSettings
from loopcast.topology import Topology, webhook_dead_letters
from loopcast.wire import to_message
from loopcast_webhook_forwarder.app import service_of

SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()
QUICK = {"schedule": [0.05, 0.1, 0.2], "give_up_after": "72h"}


class Call:
    """One request as a receiver saw it."""

    def __init__(self, request, body):
        self.at = time.monotonic()
        self.headers = request.headers
        self.body = body

    @property
    def events(self):
        value = json.loads(self.body)
        return value if isinstance(value, list) else [value]

    @property
    def ids(self):
        return [event.get("id") for event in self.events]


class Receiver:
    """An HTTP server that answers as `answer(call)` says: a status, or an aiohttp response."""

    def __init__(self):
        self.calls = []
        self.taken = []
        self.answer = lambda call: 200
        self.url = ""
        self._came = asyncio.Event()

    async def handle(self, request):
        call = Call(request, await request.read())
        self.calls.append(call)
        answer = self.answer(call)
        if asyncio.iscoroutine(answer):
            answer = await answer
        response = web.Response(status=answer) if isinstance(answer, int) else answer
        if 200 <= response.status < 300:
            self.taken += call.ids
        self._came.set()
        return response

    async def until(self, what, seconds=20):
        """Wait until `what()` holds, looked at after each call."""
        async with asyncio.timeout(seconds):
            while not what():
                self._came.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._came.wait(), 0.05)


@contextlib.asynccontextmanager
async def receiving(ssl_context=None):
    receiver = Receiver()
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_post("/{rest:.*}", receiver.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=ssl_context)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]
    receiver.url = f"{'https' if ssl_context else 'http'}://127.0.0.1:{port}/hook"
    try:
        yield receiver
    finally:
        await runner.cleanup()


@pytest.fixture
async def receiver():
    async with receiving() as made:
        yield made


@pytest.fixture
async def receivers():
    """What makes receivers."""
    async with contextlib.AsyncExitStack() as stack:
        yield lambda **options: stack.enter_async_context(receiving(**options))


class Bench:
    """A virtual host with the topology, a publisher, and forwarders on it."""

    def __init__(self, url, folder):
        self.url = url
        self.folder = folder
        self.client = client_of("loopcast")
        self.publisher = Publisher(self.client, url, name="test publish")
        self.file = folder / "endpoints.yaml"
        self._sequence = 0

    def endpoint(self, name, url, **more):
        return {"name": name, "url": url, "bindings": ["#"], "allow_private": True, "retry": QUICK,
                "batch": {"max_ms": 20}, **more}  # fmt: skip

    def write(self, *endpoints):
        self.file.write_text(yaml.safe_dump({"endpoints": list(endpoints)}))

    def settings(self, **more):
        given = {"amqp_url": self.url, "webhooks_file": self.file, "webhooks_reload_seconds": 0.1,
                 "webhooks_depth_seconds": 0.2, "ops_port": 0, **more}  # fmt: skip
        return WebhookForwarderSettings(**given)

    @contextlib.asynccontextmanager
    async def forwarding(self, *endpoints, **settings):
        """A forwarder that runs in this process. Without endpoints the file stays as it is."""
        if endpoints:
            self.write(*endpoints)
        self.service = service = service_of(self.settings(**settings))
        async with service.body():
            yield service
            await asyncio.wait_for(service.drain(), 20)

    async def bound(self, *names, scrape=None):
        """Wait until the queues of endpoints are bound: their state is measured only after that."""
        wanted = [re.compile(rf'webhook_phase{{endpoint="{name}",phase="[a-z-]+"}} 1.0') for name in names]
        async with asyncio.timeout(60):
            while True:
                text = await (scrape or self._scrape)()
                if all(pattern.search(text) for pattern in wanted):
                    return
                await asyncio.sleep(0.05)

    async def until_phase(self, name, phase):
        """Wait until an endpoint's breaker is there."""
        wanted = f'webhook_phase{{endpoint="{name}",phase="{phase}"}} 1.0'
        async with asyncio.timeout(30):
            while True:
                if wanted in await self._scrape():
                    return
                await asyncio.sleep(0.05)

    async def until_scraped(self, text, seconds=30):
        """Wait until the metrics say so."""
        async with asyncio.timeout(seconds):
            while text not in await self._scrape():  # noqa: ASYNC110 - nobody tells of a scrape
                await asyncio.sleep(0.05)

    async def until_unmeasured(self, name):
        """Wait until no level of an endpoint is in the metrics any more: only what was counted stays."""
        level = re.compile(rf'webhook_(phase|failing_seconds|spilled|queue_messages|dead_messages){{endpoint="{name}"')
        async with asyncio.timeout(20):
            while level.search(await self._scrape()):  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    async def _scrape(self):
        return self.service.metrics.render().decode()

    async def until_depth(self, queue, what, seconds=20):
        link = await self.client.open_admin(self.url, name="test depth")
        try:
            async with asyncio.timeout(seconds):
                while True:
                    depth = await link.depth(queue)
                    if what(depth):
                        return depth
                    await asyncio.sleep(0.05)
        finally:
            await link.close()

    def event(self, type_="state_enter", experiment="exp-42", data=None, recorded=None):
        self._sequence += 1
        return Event(
            id=uuid7(), source=source_of(experiment, "r1"), type=type_, experiment=experiment, run="r1",
            recorded_time=format_time(int((recorded or time.time()) * 1e6)),
            data=msgspec.Raw(json.dumps(data or {"event": type_, "n": self._sequence}).encode()),
        )  # fmt: skip

    async def publish(self, *events):
        """Publish with confirms: the ids, in order."""
        await self.publisher.publish([to_message(event, 0) for event in events], timeout=20)
        return [event.id for event in events]

    async def dead(self, name, count, seconds=20, *, partial=False):
        """The first `count` dead letters of an endpoint; they stay where they are."""
        found = []
        queue = webhook_dead_letters(name).name
        async with Consumer(self.client, self.url, queue, name="test dead", prefetch=1000) as consumer:
            with contextlib.suppress(TimeoutError) if partial else contextlib.nullcontext():
                async with asyncio.timeout(seconds):
                    batches = consumer.batches()
                    async for batch in batches:
                        found += batch
                        if len(found) >= count:
                            break
                    await batches.aclose()
        return found


@pytest.fixture
async def bench(vhost_url, tmp_path):
    made = Bench(vhost_url, tmp_path)
    await ensure(made.client, vhost_url, Topology(), mode="declare", name="test")
    async with made.publisher:
        await made.publisher.wait_connected()
        yield made
