"""
A service's life: start, serve, drain within a bound, exit 0.

uvicorn closes every connection at once when it is told to stop, before anything of ours runs, which is too late for a
paced drain; so signals are ours, and the order is: readiness off, `drain`, public port closed, `body` left, ops port
closed. A second signal ends the waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

import structlog
import uvicorn

from loopcast import logs
from loopcast.broker.login import follow
from loopcast.errors import ConfigurationError, LoopcastError
from loopcast.health import Health
from loopcast.metrics import LOOP_LAG, Metrics
from loopcast.ops import ops_app
from loopcast.patience import Connection
from loopcast.settings import PublicSettings, ServiceSettings, load, login_is_in_files, unknown_names

if TYPE_CHECKING:
    from starlette.types import ASGIApp


__all__ = ["Service", "command", "serve"]

log = structlog.get_logger(__name__)

BACKLOG = 4096
CLOSE_SECONDS = 5.0
"""How long open requests may take after the drain."""
BEAT_SECONDS = 1.0
GC_OBJECTS = 10_000
"""How many objects are made between two looks for cycles."""


async def _no_drain() -> None:
    return


@dataclass(kw_only=True)
class Service:
    """What a composition root builds, and :func:`serve` runs."""

    name: str
    settings: ServiceSettings
    health: Health
    metrics: Metrics
    body: Callable[[], AbstractAsyncContextManager[None]]
    """Entered before the public port opens. Must not wait for the broker: the probes tell when it is there."""
    app: ASGIApp | None = None
    """What the public port serves; the settings must then be :class:`~loopcast.settings.PublicSettings`."""
    drain: Callable[[], Awaitable[None]] = _no_drain
    """Lets work finish, within `drain_seconds`."""
    http: dict[str, object] = field(default_factory=dict)
    """More for :class:`uvicorn.Config`: a WebSocket protocol class, limits."""


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the process's owner is :func:`serve`."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Tell when connections are taken."""
        await super().startup(sockets=sockets)
        self.up.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield


def command(build: Callable[[], Service]) -> NoReturn:
    """
    Run a service as a program: `build` reads the settings and makes the objects.

    What a person can mend ends in one line on stderr and exit code 2.
    """
    try:
        service = build()
        logs.configure(service.name, service.settings.log_level, service.settings.log_format)
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(serve(service))
    except LoopcastError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0)


async def serve(service: Service) -> None:
    """
    Run `service` until SIGTERM or SIGINT.

    Raises:
        ConfigurationError: a port is taken, or the settings would serve strangers unasked.
    """
    _warn_of_unknown_names()
    if service.app is not None:
        assert isinstance(service.settings, PublicSettings)
        service.settings.check_exposure()
    if login_is_in_files():
        follow(service.settings.amqp_url, lambda: load(ServiceSettings).amqp_url)
    stop = asyncio.Event()
    async with contextlib.AsyncExitStack() as stack:
        _on_signals(stop, stack)
        stack.enter_context(_beating(service, stop))
        ops = ops_app(service.health, service.metrics)
        await stack.enter_async_context(_listening(ops, service.settings.ops_host, service.settings.ops_port, "ops"))
        await stack.enter_async_context(service.body())
        if service.app is not None:
            settings = service.settings
            assert isinstance(settings, PublicSettings)
            public = _listening(service.app, settings.host, settings.port, "public", **service.http)
            await stack.enter_async_context(public)
        # What exists by now lives as long as the process; collections need not look at it again. What a request makes
        # lives until its answer: looked for after every 700 objects, it is found alive and looked at again and again.
        gc.freeze()
        gc.set_threshold(GC_OBJECTS, 10, 10)
        log.info("serving")
        await stop.wait()
        stop.clear()
        service.health.draining = True
        log.info("draining", seconds=service.settings.drain_seconds)
        await _first(service.drain(), stop.wait(), timeout=service.settings.drain_seconds)
    log.info("stopped")


@contextlib.asynccontextmanager
async def _listening(app: ASGIApp, host: str, port: int, what: str, **more: object) -> AsyncIterator[None]:
    sock = _bind(host, port, what)
    options: dict[str, object] = {
        "lifespan": "off",
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "backlog": BACKLOG,
        "timeout_graceful_shutdown": int(CLOSE_SECONDS),
        "http": Connection,
        "ws": "none",
        **more,
    }
    server = _Server(uvicorn.Config(app, **options))  # type: ignore[arg-type]
    task = asyncio.create_task(server.serve(sockets=[sock]))
    task.add_done_callback(lambda _: server.up.set())
    await server.up.wait()
    log.info("listening", port=what, address=f"http://{host}:{sock.getsockname()[1]}")
    try:
        yield
    finally:
        server.should_exit = True
        await asyncio.wait([task], timeout=CLOSE_SECONDS + 2)


def _bind(host: str, port: int, what: str) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        sock = socket.socket(family, kind, protocol)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
    except OSError as error:
        name = "LOOPCAST_PORT" if what == "public" else "LOOPCAST_OPS_PORT"
        raise ConfigurationError(
            f"The {what} port {host}:{port} cannot be used ({error.strerror or error}): "
            f"end what holds it, or set {name} to another."
        ) from None
    sock.setblocking(False)
    return sock


def _on_signals(stop: asyncio.Event, stack: contextlib.AsyncExitStack) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
        stack.callback(loop.remove_signal_handler, number)


@contextlib.contextmanager
def _beating(service: Service, stop: asyncio.Event) -> Iterator[None]:
    """Beat for the liveness probe, measure how late the loop is for it, and notice a parent's death."""
    loop = asyncio.get_running_loop()
    lag = service.metrics.gauge(LOOP_LAG)
    parent = service.settings.parent_pid

    async def beat() -> None:
        while True:
            due = loop.time() + BEAT_SECONDS
            service.health.beat()
            await asyncio.sleep(BEAT_SECONDS)
            lag.set(max(0.0, loop.time() - due))
            if parent and os.getppid() != parent:
                log.warning("parent_gone", pid=parent)
                stop.set()

    task = asyncio.create_task(beat())
    try:
        yield
    finally:
        task.cancel()


async def _first(*work: Awaitable[object], timeout: float) -> None:
    """Wait until one is done or the time is up; what is left is cancelled."""
    tasks = [asyncio.ensure_future(w) for w in work]
    try:
        done, _ = await asyncio.wait(tasks, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            if error := task.exception():
                log.error("drain_failed", exc_info=error)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Choose uvloop where it is installed: a fifth to a third less time for every socket."""
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def _warn_of_unknown_names() -> None:
    for name, nearest in unknown_names().items():
        log.warning("unknown_setting", name=name, hint=f"did you mean {nearest}?" if nearest else "nothing reads it")
