"""The recorder put together: the only place where its objects are made."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from loopcast.auth import Authenticator
from loopcast.broker.clients import client_of
from loopcast.broker.declare import LogWatch
from loopcast.broker.meter import ConnectionMeter
from loopcast.errors import ConfigurationError
from loopcast.health import Health
from loopcast.lifecycle import Service
from loopcast.metrics import (
    RECORDER_DELETED,
    RECORDER_FILES_DELETED,
    RECORDER_SOCKET_CLIENTS,
    RECORDER_SOCKET_DROPPED,
    RECORDER_SOCKET_REJECTED,
    Metrics,
)
from loopcast.origins import Origins
from loopcast.settings import PLACES, RecorderSettings, load
from loopcast.telemetry import Telemetry
from loopcast.topology import parse_age
from loopcast_recorder.api import SinksOf, make_app
from loopcast_recorder.database import Database, SqliteDatabase, SqliteReader
from loopcast_recorder.database_sink import DatabaseSink
from loopcast_recorder.history import History
from loopcast_recorder.instruments import Instruments
from loopcast_recorder.jsonl_sink import JsonlSink
from loopcast_recorder.lane import Lane, Thread
from loopcast_recorder.line_retention import LineRetention
from loopcast_recorder.readiness import watch_readiness
from loopcast_recorder.retention import Retention
from loopcast_recorder.sinks import Sink
from loopcast_recorder.socket_sink import SocketSink

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from loopcast_recorder.sharing import Shared

__all__ = ["build", "service_of"]

NAME = "loopcast-recorder"
OFF = "off"


def build() -> Service:
    """
    Read the settings and make the service.

    Raises:
        ConfigurationError: a setting is wrong.
    """
    return service_of(load(RecorderSettings))


def service_of(settings: RecorderSettings) -> Service:
    """
    Make the service that `settings` describe.

    Raises:
        ConfigurationError: nothing is to be recorded anywhere.
    """
    health, metrics = Health(), Metrics("recorder", version(NAME))
    client, topology = client_of(settings.amqp_client), settings.broker_topology
    telemetry = Telemetry(NAME, version(NAME))
    watch = LogWatch(
        client,
        settings.amqp_url,
        topology,
        mode=settings.topology,
        name=f"{NAME} log watch",
        meter=ConnectionMeter(metrics, "watch"),
    )

    def thread_of(sink: Sink) -> Thread:
        return Thread(sink, Instruments(metrics, sink.name))

    def lane_of(thread: Thread, partition: int) -> Lane:
        return Lane(client, settings.amqp_url, topology.streams[partition], partition, thread, telemetry=telemetry)

    postgres, socket = _postgres(settings, metrics), _socket(settings, metrics)
    own = [*_files(settings, metrics), *([] if socket is None else [socket])]
    if not own and postgres is None:
        raise ConfigurationError(
            "Nothing is to be recorded: set LOOPCAST_RECORDER_SQLITE, _POSTGRES, _JSONL or _SOCKET."
        )
    threads = [thread_of(sink) for sink in own]
    lanes = [lane_of(thread, number) for thread in threads for number in range(topology.partitions)]
    shares: list[Shared] = []
    if postgres is not None:
        from loopcast_recorder.sharing import Shared

        threads.append(thread_of(postgres))
        shares.append(Shared(settings.amqp_url, topology.partitions, partial(lane_of, threads[-1]), name=NAME))

    authenticator = Authenticator(settings, metrics)

    @contextlib.asynccontextmanager
    async def body() -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(asyncio.to_thread, telemetry.close)
            if socket is not None:
                socket.serve_in(asyncio.get_running_loop())
            await stack.enter_async_context(authenticator.running())
            await stack.enter_async_context(watch)
            for thread in threads:
                await stack.enter_async_context(thread)
            works: list[Lane | Shared] = [*lanes, *shares]
            await stack.enter_async_context(_running(works))
            await stack.enter_async_context(watch_readiness(health, watch, works))
            yield

    def sinks() -> list[dict[str, object]]:
        reading = [*lanes, *(lane for shared in shares for lane in shared.lanes)]
        return [
            {
                "sink": thread.sink.name,
                "failing": thread.failing,
                "reading": sorted(lane.partition for lane in reading if lane.thread is thread and lane.connected),
            }
            for thread in threads
        ]

    app = _history(settings, authenticator, sinks)
    return Service(name="recorder", settings=settings, health=health, metrics=metrics, body=body, app=app)


def _history(settings: RecorderSettings, authenticator: Authenticator, sinks: SinksOf) -> ASGIApp | None:
    """What the public port serves; nothing where there is no database to ask."""
    connect: Callable[[], Database]
    if settings.recorder_postgres != OFF:
        # The driver of a database, and the lease's client: only for those who have one.
        from loopcast_recorder.postgres import PostgresDatabase

        connect = partial(PostgresDatabase, settings.recorder_postgres, read_only=True)
    elif settings.recorder_sqlite != OFF:
        connect = partial(SqliteReader, Path(settings.recorder_sqlite))
    else:
        return None
    history = History(connect)
    return make_app(history, Origins.of(settings), authenticator, partitions=settings.partitions, sinks=sinks)


def _retention(settings: RecorderSettings, metrics: Metrics) -> Retention:
    retention = Retention(max_age_seconds=_age(settings.recorder_max_age), max_bytes=settings.recorder_max_bytes)
    metrics.gauge(RECORDER_DELETED).set_function(lambda: retention.deleted)
    return retention


def _line_retention(settings: RecorderSettings, metrics: Metrics) -> LineRetention:
    retention = LineRetention(
        max_age_seconds=_age(settings.recorder_jsonl_max_age), max_bytes=settings.recorder_jsonl_total_bytes
    )
    metrics.gauge(RECORDER_FILES_DELETED).set_function(lambda: retention.deleted)
    return retention


def _age(setting: str) -> float:
    return 0 if setting == "never" else parse_age(setting)


def _postgres(settings: RecorderSettings, metrics: Metrics) -> Sink | None:
    if settings.recorder_postgres == OFF:
        return None
    from loopcast_recorder.postgres import PostgresDatabase, check_url

    url = check_url(settings.recorder_postgres, PLACES["postgresql"])
    connect = partial(PostgresDatabase, url)
    return DatabaseSink("postgresql", connect, _retention(settings, metrics), _now)


def _files(settings: RecorderSettings, metrics: Metrics) -> list[Sink]:
    sinks: list[Sink] = []
    if settings.recorder_sqlite != OFF and settings.recorder_postgres == OFF:
        connect = partial(SqliteDatabase, Path(settings.recorder_sqlite))
        sinks.append(DatabaseSink("sqlite", connect, _retention(settings, metrics), _now))
    if settings.recorder_jsonl != OFF:
        sinks.append(
            JsonlSink(
                "jsonl",
                Path(settings.recorder_jsonl),
                format_=settings.recorder_format,
                fsync=settings.recorder_jsonl_fsync,
                seconds=settings.recorder_jsonl_seconds,
                compression=settings.recorder_jsonl_compress,
                max_bytes=settings.recorder_jsonl_max_bytes,
                retention=_line_retention(settings, metrics),
                now=_now,
            )
        )
    return sinks


def _socket(settings: RecorderSettings, metrics: Metrics) -> SocketSink | None:
    if settings.recorder_socket == OFF:
        return None
    sink = SocketSink(
        "socket",
        Path(settings.recorder_socket),
        format_=settings.recorder_format,
        max_clients=settings.recorder_socket_clients,
        queue_bytes=settings.recorder_socket_queue_bytes,
        now=_now,
    )
    metrics.gauge(RECORDER_SOCKET_CLIENTS).set_function(lambda: sink.server.clients)
    metrics.gauge(RECORDER_SOCKET_DROPPED).set_function(lambda: sink.server.dropped)
    metrics.gauge(RECORDER_SOCKET_REJECTED).set_function(lambda: sink.server.rejected)
    return sink


@contextlib.asynccontextmanager
async def _running(lanes: Sequence[Lane | Shared]) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(lane.run()) for lane in lanes]
    try:
        yield
    finally:
        # A batch that is being written is written to its end; a sink that fails is not waited for.
        await asyncio.gather(*(lane.stop() for lane in lanes))
        _, late = await asyncio.wait(tasks, timeout=5)
        for task in late:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _now() -> int:
    return time.time_ns() // 1000
