"""A gateway in the test's own process over a log in memory, its sockets real: for what a real broker cannot be told."""

import asyncio
import contextlib
import json
import socket
import struct
import time

import uvicorn
from tests.support.memory_broker import MemoryBroker, Stream
from websockets.asyncio.client import connect

from loopcast.broker.interface import Message
from loopcast.ids import uuid7
from loopcast.metrics import Metrics
from loopcast.settings import GatewaySettings
from loopcast.topology import APP_ID
from loopcast_gateway.api import make_app
from loopcast_gateway.gateway import Gateway

LOG = "loopcast.log.0"
HANDSHAKE = (
    "GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Protocol: loopcast.v1.json\r\n\r\n"
)


class Served:
    """A gateway in this process, on a port of its own, over a log in memory."""

    def __init__(self, **settings):
        self.broker = MemoryBroker()
        self.broker.streams[LOG] = Stream()
        self.metrics = Metrics("gateway", "0")
        self.gateway = Gateway(self.broker, GatewaySettings(**settings), self.metrics)
        self.count = 0
        self.port = 0

    @contextlib.asynccontextmanager
    async def running(self):
        def connection(config, server_state, app_state):
            return self.gateway.connection(server_state.connections)

        listener = socket.create_server(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        config = uvicorn.Config(
            make_app(self.gateway), ws=connection, lifespan="off", log_config=None, access_log=False
        )
        server = uvicorn.Server(config)
        server.capture_signals = contextlib.nullcontext
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        async with self.gateway.running():
            async with asyncio.timeout(20):
                await self.gateway.tails[0].ready.wait()
            yield self
        server.should_exit = server.force_exit = True
        await serving

    def publish(self, experiment, *, pad=0, type_="t", sequence=None, **data):
        number, self.count = self.count, self.count + 1
        headers = {"experiment": experiment, "run": "r", "emitter": "e", "recorded": time.time_ns() // 1000}
        headers["sequence"] = number if sequence is None else sequence
        body = json.dumps({"data": {"n": number, "pad": "x" * pad, **data}}).encode()
        self.broker.publish(
            Message(
                exchange="", routing_key=LOG, body=body, message_id=uuid7(), type=type_, headers=headers, app_id=APP_ID
            )
        )

    def value(self, metric, /, **labels):
        return self.metrics.registry.get_sample_value(metric, labels)

    async def until(self, condition):
        async with asyncio.timeout(30):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    async def lazy(self, **command):
        """A viewer that follows something and reads nothing."""
        one = socket.socket()
        # What the kernel keeps for it is not the gateway's.
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(one, ("127.0.0.1", self.port))
        text = json.dumps({"action": "subscribe", **command}).encode()
        frame = bytes([0x81, 0x80 | 126]) + struct.pack(">H", len(text)) + bytes(4) + text
        if len(text) < 126:
            frame = bytes([0x81, 0x80 | len(text)]) + bytes(4) + text
        before = self.gateway.tally.commands["subscribe"] + (
            self.value("loopcast_gateway_commands_total", action="subscribe") or 0
        )
        await loop.sock_sendall(one, HANDSHAKE.format(port=self.port).encode())
        await loop.sock_recv(one, 1024)
        await loop.sock_sendall(one, frame)
        await self.until(
            lambda: (
                self.gateway.tally.commands["subscribe"]
                + (self.value("loopcast_gateway_commands_total", action="subscribe") or 0)
                > before
            )
        )
        return one

    def watch(self):
        # One that was left unread does not hear the answer to its close.
        return connect(
            f"ws://127.0.0.1:{self.port}/ws",
            subprotocols=["loopcast.v1.json"],
            compression=None,
            max_size=None,
            close_timeout=1,
        )
