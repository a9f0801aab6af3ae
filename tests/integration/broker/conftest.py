"""
What the promises of the broker layer are tried with: every client, on a real broker.

A client joins the suite by one line in `CLIENTS`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from urllib.parse import urlsplit

import aiormq
import pytest
from aiormq.abc import AbstractChannel, AbstractConnection
from pamqp import commands

from loopcast.amqp.client import AmqpClient
from loopcast.broker.aio_pika_client import AioPikaClient
from loopcast.broker.interface import (
    Client,
    ConsumeLink,
    Delivery,
    HeaderValue,
    Message,
    PublishLink,
    Settlement,
    StreamOffset,
)
from loopcast.broker.supervisor import Backoff

CLIENTS: dict[str, Callable[[], Client]] = {
    "loopcast": AmqpClient,
    "aio-pika": AioPikaClient,
}

DEFAULT = next(iter(CLIENTS))

LINKS = {"test_publish_link", "test_consume_link"}
"""Every client is tried on these by default; on what lives above the links, the others are tried with the slow."""

SOON = Backoff(first=0.02, cap=0.2)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the default run short."""
    for item in items:
        parameters = getattr(getattr(item, "callspec", None), "params", {})
        if parameters.get("client", DEFAULT) != DEFAULT and item.path.stem not in LINKS:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(params=list(CLIENTS))
def client(request: pytest.FixtureRequest) -> Client:
    """Each client in turn."""
    return CLIENTS[request.param]()


class Inbox:
    """Collects deliveries from a link."""

    def __init__(self) -> None:
        self.deliveries: list[Delivery] = []
        self.calls = 0

    def __call__(self, deliveries: Sequence[Delivery]) -> None:
        self.calls += 1
        self.deliveries.extend(deliveries)

    @property
    def ids(self) -> list[str]:
        return [d.message_id for d in self.deliveries]

    async def until(self, count: int) -> list[Delivery]:
        await eventually(lambda: len(self.deliveries) >= count, f"{count} deliveries")
        return self.deliveries


class Settlements:
    """What a publish link said, by tag: `multiple` written out."""

    def __init__(self) -> None:
        self.by_tag: dict[int, list[Settlement]] = {}
        self._unsettled = itertools.count(1)
        self._open: list[int] = []

    def expect(self, count: int) -> None:
        self._open += itertools.islice(self._unsettled, count)

    def __call__(self, tag: int, multiple: bool, settlement: Settlement) -> None:
        for settled in [t for t in self._open if t == tag or (multiple and t < tag)] or [tag]:
            self._open = [t for t in self._open if t != settled]
            self.by_tag.setdefault(settled, []).append(settlement)

    async def until(self, count: int) -> list[list[Settlement]]:
        await eventually(lambda: len(self.by_tag) >= count, f"{count} settlements")
        return [self.by_tag[tag] for tag in sorted(self.by_tag)]


async def eventually(condition: Callable[[], object], what: str = "it", seconds: float = 20.0) -> None:
    """Wait until `condition` holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come within {seconds:g} s"
        await asyncio.sleep(0.01)


class Cable:
    """Carries bytes between a client and the broker; pulled, it carries nothing, not even that an end is gone."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._plugged = asyncio.Event()
        self._plugged.set()
        self._writers: list[asyncio.StreamWriter] = []
        self.url = ""
        self.bites: Callable[[], int] | None = None
        """How many bytes to carry at a time; None is as they come."""

    def cut(self) -> None:
        """End every connection, as a reset does."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers = []

    def pull(self) -> None:
        """Carry nothing."""
        self._plugged.clear()

    def plug(self) -> None:
        """Carry again."""
        self._plugged.set()

    async def __aenter__(self) -> Cable:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.url = self._rig.url.replace(f"{self._rig.host}:{self._rig.port}/", f"127.0.0.1:{port}/")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()
        self._plugged.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            near, far = await asyncio.open_connection(self._rig.host, self._rig.port)
        except OSError:
            writer.close()
            return
        self._writers += [writer, far]
        await asyncio.gather(self._carry(reader, far), self._carry(near, writer))

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await self._plugged.wait()
                for bite in self._bitten(data):
                    writer.write(bite)
                    if self.bites is not None:
                        await asyncio.sleep(0)
            writer.close()

    def _bitten(self, data: bytes) -> Iterator[bytes]:
        while data:
            size = len(data) if self.bites is None else self.bites()
            yield data[:size]
            data = data[size:]


class Rig:
    """A client, a virtual host of its own, and a plain connection beside it to arrange and check things with."""

    SOON = SOON
    eventually = staticmethod(eventually)

    def __init__(self, client: Client, url: str, broker: object, stack: contextlib.AsyncExitStack) -> None:
        self.client = client
        self.url = url
        self.vhost = url.rsplit("/", 1)[1]
        self.broker = broker
        self.stack = stack
        self.host, self.port = urlsplit(url).hostname or "127.0.0.1", urlsplit(url).port or 5672
        self._connection: AbstractConnection | None = None

    async def channel(self) -> AbstractChannel:
        """A channel for arranging things; a new connection where the last one went."""
        if self._connection is None or self._connection.is_closed:
            self._connection = await aiormq.connect(self.url)
            self.stack.push_async_callback(self._connection.close)
        return await self._connection.channel()

    async def queue(self, kind: str = "quorum", name: str = "", **arguments: HeaderValue) -> str:
        """Declare a queue; underscores in the names of arguments are dashes."""
        name = name or f"q-{uuid.uuid4().hex[:12]}"
        wanted = {f"x-{n.replace('_', '-')}": v for n, v in arguments.items()}
        channel = await self.channel()
        await channel.queue_declare(name, durable=True, arguments={"x-queue-type": kind, **wanted})
        await channel.close()
        return name

    async def delete(self, queue: str) -> None:
        channel = await self.channel()
        await channel.queue_delete(queue)
        await channel.close()

    async def fill(self, queue: str, ids: Sequence[str], body: bytes = b"{}") -> None:
        """Publish by the plain connection, one after the other, confirmed."""
        channel = await self.channel()
        for id_ in ids:
            properties = commands.Basic.Properties(message_id=id_, delivery_mode=2)
            await channel.basic_publish(body, routing_key=queue, properties=properties)
        await channel.close()

    async def ready(self, queue: str) -> int | None:
        """How many messages wait in a queue."""
        channel = await self.channel()
        declared = await channel.queue_declare(queue, passive=True)
        await channel.close()
        return declared.message_count

    async def ctl(self, *args: str) -> str:
        return await asyncio.to_thread(self.broker.ctl, *args)  # type: ignore[attr-defined]

    async def cut(self) -> None:
        """Have the broker close every connection of this test, as an operator would."""
        await self.ctl("close_all_connections", "--vhost", self.vhost, "cut by a test")

    async def kill(self) -> None:
        await asyncio.to_thread(self.broker.kill)  # type: ignore[attr-defined]

    async def start(self) -> None:
        await asyncio.to_thread(self.broker.start)  # type: ignore[attr-defined]

    def message(self, queue: str, id_: str, body: bytes = b"{}", **properties: object) -> Message:
        """A message straight to `queue`."""
        fields = {"exchange": "", "routing_key": queue, "body": body, "message_id": id_, **properties}
        return Message(**fields)  # type: ignore[arg-type]

    async def publisher(self) -> tuple[PublishLink, Settlements]:
        settlements = Settlements()
        link = await self.client.open_publisher(self.url, settlements, name="test-publisher")
        self.stack.push_async_callback(link.close)
        return link, settlements

    async def consumer(
        self, queue: str, *, prefetch: int = 1000, offset: StreamOffset | None = None, exclusive: bool = False
    ) -> tuple[ConsumeLink, Inbox]:
        inbox = Inbox()
        link = await self.client.open_consumer(
            self.url, queue, inbox, name="test-consumer", prefetch=prefetch, offset=offset, exclusive=exclusive
        )
        self.stack.push_async_callback(link.close)
        return link, inbox

    async def cable(self) -> Cable:
        """The broker at the end of a cable that can be cut or pulled."""
        return await self.stack.enter_async_context(Cable(self))

    @contextlib.asynccontextmanager
    async def alarm(self) -> AsyncIterator[None]:
        """A memory alarm, as long as the block."""
        await self.ctl("set_vm_memory_high_watermark", "0.0000001")
        try:
            yield
        finally:
            await self.ctl("set_vm_memory_high_watermark", "0.4")


@pytest.fixture
async def rig(client: Client, module_vhost_url: str, broker: object) -> AsyncIterator[Rig]:
    """A rig for one test; what it opened is closed with it. Queues have names of their own."""
    async with contextlib.AsyncExitStack() as stack:
        yield Rig(client, module_vhost_url, broker, stack)


@pytest.fixture
async def lone_rig(client: Client, vhost_url: str, broker: object) -> AsyncIterator[Rig]:
    """A rig in a virtual host that nobody else uses, for what has fixed names."""
    async with contextlib.AsyncExitStack() as stack:
        yield Rig(client, vhost_url, broker, stack)
