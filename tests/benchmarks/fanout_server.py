"""
The servers that `fanout.py` measures: the gateway without a broker, and the loop that everybody writes first.

    python fanout_server.py gateway|fastapi PORT EVENT_BYTES

On stdin, "run EVENTS BURST" makes events in bursts and answers when the last is in the sockets; "settle" answers after
a collection.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import resource
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import uvicorn
import uvloop
from fastapi import FastAPI, WebSocket, WebSocketDisconnect

from loopcast.broker.clients import client_of
from loopcast.broker.interface import Delivery
from loopcast.ids import uuid7
from loopcast.lifecycle import GC_OBJECTS
from loopcast.metrics import Metrics
from loopcast.settings import GatewaySettings
from loopcast.topology import APP_ID
from loopcast_gateway.api import make_app
from loopcast_gateway.gateway import Gateway

Run = Callable[[int, int], Awaitable[None]]


def envelope(size: int) -> bytes:
    """Bytes that pass for an event: the gateway never looks inside."""
    padding = size - len(b'{"data":{"n":""}}')
    return b'{"data":{"n":"' + b"x" * padding + b'"}}'


def gateway_server(size: int) -> tuple[uvicorn.Config, Run]:
    """Everything of the gateway but the reader of the log."""
    gateway = Gateway(
        client_of("loopcast"),
        GatewaySettings(max_connections=100_000, handshakes_per_second=0),
        Metrics("gateway", "0"),
    )
    tail, body = gateway.tails[0], envelope(size)
    emitter, sent = uuid7(), 0

    def burst(count: int) -> Sequence[Delivery]:
        nonlocal sent
        sent += count
        return [
            Delivery(
                tag=0,
                routing_key="exp.n",
                body=body,
                message_id=uuid7(),
                type="n",
                headers={
                    "experiment": "exp",
                    "run": "run",
                    "emitter": emitter,
                    "sequence": number,
                    "recorded": time.time_ns() // 1000,
                    "partition": 0,
                },
                app_id=APP_ID,
                offset=number,
            )
            for number in range(sent - count, sent)
        ]

    async def run(events: int, size: int) -> None:
        for _ in range(events // size):
            gateway.entries(tail.partition, tail.partition.take(burst(size)))
            # A few that do not read must not set the pace.
            while not gateway.flusher.idle or gateway.congested > gateway.connections / 50 + 1:  # noqa: ASYNC110
                await asyncio.sleep(0)

    tail.partition.take(burst(1))
    tail.ready.set()

    def connection(config: Any, server_state: Any, app_state: Any) -> Any:
        return gateway.connection(server_state.connections)

    return uvicorn.Config(make_app(gateway), ws=connection, log_level="error"), run


def fastapi_server(size: int) -> tuple[uvicorn.Config, Run]:
    """One `send_json` for each viewer and event, as FastAPI's own documentation has it."""
    app = FastAPI()
    viewers: list[WebSocket] = []
    event = {"type": "event", "pos": "0" * 26, "event": json.loads(envelope(size))}

    @app.websocket("/ws")
    async def view(socket: WebSocket) -> None:
        await socket.accept()
        viewers.append(socket)
        with contextlib.suppress(WebSocketDisconnect):
            while True:
                await socket.receive_text()
        viewers.remove(socket)

    async def run(events: int, size: int) -> None:
        del size
        for _ in range(events):
            for viewer in viewers:
                await viewer.send_json(event)

    return uvicorn.Config(app, ws_per_message_deflate=False, log_level="error"), run


async def serve(config: uvicorn.Config, port: int, run: Run) -> None:
    """Serve, and do as stdin says."""
    config.port, config.lifespan, config.ws_ping_interval = port, "off", None
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    gc.collect()
    gc.freeze()
    print("ready", flush=True)
    async for command, *numbers in _lines():
        if command == "run":
            begun = resource.getrusage(resource.RUSAGE_SELF)
            await run(int(numbers[0]), int(numbers[1]))
            used = resource.getrusage(resource.RUSAGE_SELF)
            user, system = used.ru_utime - begun.ru_utime, used.ru_stime - begun.ru_stime
            print(f"ran {user:.4f} {system:.4f}", flush=True)
        else:
            await asyncio.sleep(1)
            gc.collect()
            print("settled", flush=True)
    server.should_exit = True
    await task


async def _lines() -> AsyncIterator[list[str]]:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        yield line.decode().split()


def main() -> None:
    """Serve one of the two."""
    kind, port, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {0})
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    config, run = gateway_server(size) if kind == "gateway" else fastapi_server(size)
    if kind == "gateway":
        # As a service of ours runs; the other is as everybody writes it.
        gc.set_threshold(GC_OBJECTS, 10, 10)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(config, port, run))


if __name__ == "__main__":
    main()
