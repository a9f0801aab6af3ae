"""A gateway as a process of its own, viewers by an independent library, and a way to put events into its log."""

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

import frame_schemas
import httpx
import msgspec
import pytest
from environments import of_a_service
from msgspec.structs import replace
from websockets.asyncio.client import connect

from loopcast.broker.clients import client_of
from loopcast.broker.declare import ensure
from loopcast.broker.publisher import Publisher
from loopcast.events import Event, format_time, source_of
from loopcast.ids import new_emitter, uuid7
from loopcast.routing import partition_of
from loopcast.topology import Topology
from loopcast.wire import to_message

READY_SECONDS = 90
MAX_CHECKED = 20
"""Events of one viewer that are held to the AsyncAPI document."""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Gateway:
    """A running gateway."""

    def __init__(self, url, **settings):
        self.url = url
        self.port, self.ops_port = free_port(), free_port()
        assigned = {"port": self.port, "ops_port": self.ops_port, "amqp_url": url, **settings}
        self._environment = of_a_service(**{f"LOOPCAST_{name.upper()}": value for name, value in assigned.items()})
        self.begin()

    def begin(self):
        """Start it, on the same ports as before if it was running before."""
        # A file: a pipe that nobody reads stops whoever has much to say.
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - as long as the process
        self.process = subprocess.Popen(
            [sys.executable, "-m", "loopcast_gateway"], env=self._environment, stderr=self._log
        )
        self.errors = None

    def kill(self):
        """End it as a power cut does."""
        self.process.kill()
        self.wait_end(10)

    def wait_end(self, timeout):
        """Wait until it has ended; what it wrote to its log."""
        self.process.wait(timeout=timeout)
        self.errors = self.log()
        self._log.close()
        return self.errors

    def log(self):
        """What it has written to its log."""
        self._log.seek(0)
        return self._log.read()

    def memory(self):
        """Resident bytes."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    @property
    def http(self):
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws(self):
        return f"ws://127.0.0.1:{self.port}/ws"

    def wait_ready(self, status=200):
        """Wait until the readiness probe answers with `status`."""
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log()
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"http://127.0.0.1:{self.ops_port}/readyz").status_code == status:
                    return self
            time.sleep(0.05)
        raise AssertionError(f"the gateway was never ready:\n{self.log()}")

    def metric(self, name):
        """The value of a metric, with its labels as Prometheus writes them; None where it is not there."""
        text = httpx.get(f"http://127.0.0.1:{self.ops_port}/metrics").text
        found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
        return None if found is None else float(found[1])

    def stop(self):
        """End it as an operator does; what it wrote to its log."""
        if self.errors is None:
            self.process.send_signal(signal.SIGTERM)
            self.wait_end(40)
        return self.errors


@pytest.fixture
def start_gateway(vhost_url):
    """Starts gateways on a virtual host of this test, with settings; each has to end well and log no defect."""
    running = []

    def start(*, wait=True, **settings):
        running.append(Gateway(vhost_url, **settings))
        return running[-1].wait_ready() if wait else running[-1]

    yield start
    for gateway in running:
        _check(gateway)


@pytest.fixture(scope="module")
def gateway(module_vhost_url):
    """A running gateway that the tests of a module share: others' events may be in its log."""
    shared = Gateway(module_vhost_url)
    yield shared.wait_ready()
    _check(shared)


def _check(gateway):
    log = gateway.stop()
    assert 0 == gateway.process.returncode, log
    assert "Traceback" not in log, log


class Feed:
    """Puts events into the log, as the producer does it."""

    def __init__(self, url, partitions):
        self.topology = Topology(partitions=partitions)
        self._url = url
        self._client = client_of("loopcast")
        self._emitter = new_emitter()
        self._counts = {}
        self._publisher = Publisher(self._client, url, name="feed")
        self._ids = set()

    async def settle(self, *gateways):
        """Wait until these gateways have read everything that was published: a confirm says that the log has it."""
        async with asyncio.timeout(30), httpx.AsyncClient() as client:
            for gateway in gateways:
                while True:
                    listed = (await client.get(f"{gateway.http}/v1/experiments")).json()["experiments"]
                    if sum(one["events"] for one in listed) >= len(self._ids):
                        break
                    await asyncio.sleep(0.02)

    async def __aenter__(self):
        await ensure(self._client, self._url, self.topology, mode="declare", name="feed")
        await self._publisher.__aenter__()
        await self._publisher.wait_connected()
        return self

    async def __aexit__(self, *exc):
        await self._publisher.__aexit__(*exc)

    def event(self, experiment, data, *, sequence=None):
        count = self._counts[experiment] = self._counts.get(experiment, 0) + 1
        recorded = time.time_ns() // 1000
        return Event(
            id=uuid7(),
            source=source_of(experiment, experiment),
            type="state_enter",
            time=format_time(recorded),
            experiment=experiment,
            run=experiment,
            attempt=1,
            recorded_time=format_time(recorded),
            emitter=self._emitter,
            sequence=f"{count if sequence is None else sequence:020}",
            data=msgspec.Raw(json.dumps(data).encode()),
        )

    async def send(self, experiment, *items):
        """Publish objects as events of `experiment`; the events."""
        return await self.publish([self.event(experiment, item) for item in items])

    async def send_types(self, experiment, types):
        """Publish an event of each type; the events."""
        return await self.publish([replace(self.event(experiment, {"event": t}), type=t) for t in types])

    async def settle_events(self, gateway, experiment, count):
        """Wait until `gateway` has read so many events of `experiment`."""
        async with asyncio.timeout(30), httpx.AsyncClient() as client:
            while True:
                listed = (await client.get(f"{gateway.http}/v1/experiments")).json()["experiments"]
                if any(one["experiment_id"] == experiment and one["events"] >= count for one in listed):
                    return
                await asyncio.sleep(0.02)

    async def publish(self, events):
        """Publish events as they are, and wait for the confirm."""
        partitions = self.topology.partitions
        self._ids.update(event.id for event in events)
        messages = [to_message(e, partition_of(e.experiment, partitions)) for e in events]
        for start in range(0, len(messages), 1000):
            await self._publisher.publish(messages[start : start + 1000], timeout=30)
        return events


@pytest.fixture
def feed(request):
    """Makes a feed for the log of this test's gateway: enter it with `async with`, then `send` objects."""
    shared = "gateway" in request.fixturenames
    url = request.getfixturevalue("module_vhost_url" if shared else "vhost_url")
    return lambda partitions=1: Feed(url, partitions)


class Viewer:
    """One WebSocket, seen by an independent library."""

    def __init__(self, socket):
        self.socket = socket
        self._id = 0
        self._events = 0
        self.logs = []

    async def frame(self, timeout=10):
        """The next frame that is no ping; what is said of the log is kept."""
        while True:
            async with asyncio.timeout(timeout):
                frame = json.loads(await self.socket.recv())
            # Checking a thousand events of a kind finds no more than checking a few.
            self._events += frame["type"] == "event"
            if frame["type"] != "event" or self._events <= MAX_CHECKED:
                frame_schemas.check(frame)
            if frame["type"] == "log":
                self.logs.append(frame["connected"])
            elif frame["type"] != "ping":
                return frame

    async def frames(self, count, timeout=20):
        async with asyncio.timeout(timeout):
            return [await self.frame(timeout) for _ in range(count)]

    async def ask(self, **command):
        """Send a command and return the next frame."""
        self._id += 1
        await self.socket.send(json.dumps({"id": self._id, **command}))
        return await self.frame()

    async def follow(self, experiment, **more):
        return await self.ask(action="subscribe", experiment_id=experiment, **more)

    async def until(self, kind, timeout=30):
        """The frames up to and with the first of `kind`."""
        found = []
        async with asyncio.timeout(timeout):
            while not found or found[-1]["type"] != kind:
                found.append(await self.frame(timeout))
        return found

    async def quiet(self, seconds=0.3):
        """Whether nothing but pings comes for so long."""
        with contextlib.suppress(TimeoutError):
            await self.frame(seconds)
            return False
        return True


@contextlib.asynccontextmanager
async def watching(gateway, experiment=None, **options):
    path = "" if experiment is None else f"/experiments/{quote(experiment, safe='')}"
    options = {
        "subprotocols": ["loopcast.v1.json"],
        "max_size": None,
        "max_queue": None,
        "compression": None,
        **options,
    }
    async with connect(gateway.ws + path, **options) as socket:
        viewer = Viewer(socket)
        viewer.welcome = await viewer.frame()
        yield viewer


@pytest.fixture
def watch():
    """Opens a viewer of a gateway, to be entered with `async with`."""
    return watching


NOWHERE = "amqp://127.0.0.1:9/"


@pytest.fixture(scope="module")
def wire():
    """A gateway without a broker, for what happens on the wire before any event: its port. It must stay well."""
    lonely = Gateway(NOWHERE, ping_seconds=600, max_command_bytes=65536)
    yield lonely.wait_ready(503).port
    _check(lonely)


@pytest.fixture
def start_lonely():
    """Starts gateways that find no broker, with settings: who may come in is known without one."""
    running = []

    def start(**settings):
        running.append(Gateway(NOWHERE, **settings))
        return running[-1].wait_ready(503)

    yield start
    for gateway in running:
        _check(gateway)
