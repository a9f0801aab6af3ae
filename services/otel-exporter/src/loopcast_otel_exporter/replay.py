"""
Filling another backend from the log: the same spans and records as the service sends, under the same ids.

It reads the log to the end that it had at the start, and writes nothing down. Whatever the backend has already, it gets
again with the same bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from loopcast.broker.interface import Client, Message
from loopcast.broker.log import LogReader
from loopcast.broker.publisher import Publisher
from loopcast.errors import BrokerUnavailable
from loopcast.ids import uuid7
from loopcast.routing import partition_of
from loopcast.settings import OtelExporterSettings
from loopcast.topology import APP_ID, HEARTBEAT
from loopcast_otel_exporter.fold import Fold
from loopcast_otel_exporter.intake import event_of
from loopcast_otel_exporter.ordering import HOLD_MICROSECONDS
from loopcast_otel_exporter.pipeline import Pipeline
from loopcast_otel_exporter.setup import Setup
from loopcast_otel_exporter.transport import Signal

__all__ = ["Progress", "replay"]

CONNECT_SECONDS = 30.0
NAME = "loopcast otel replay"


@dataclass(slots=True)
class Progress:
    """How far a replay is."""

    read: int = 0
    """Records of the log that were read, of every experiment."""
    events: int = 0
    """Events of the experiment."""
    spans: int = 0
    records: int = 0
    refused: int = 0
    """Spans and records that the backend would not take."""
    unfinished: int = 0
    """Spans that have begun and not ended."""


async def replay(
    setup: Setup, experiment: str, *, run: str | None = None, tell: Callable[[Progress], None] = lambda _: None
) -> Progress:
    """
    Send what the log has of `experiment`, or of one `run` of it, to the setup's backend; wait as long as it is away.

    Raises:
        BrokerUnavailable: no connection to the broker.
    """
    settings, progress = setup.settings, Progress()
    stream = settings.broker_topology.streams[partition_of(experiment, settings.partitions)]

    async def refuse(signal: Signal, request: bytes, reason: str, rejected: int) -> None:
        del signal, request, reason
        progress.refused += rejected

    fold, pipeline = Fold(setup.options), setup.pipeline(refuse)
    end = await _mark(setup.client, settings, stream)
    reader = LogReader(setup.client, settings.amqp_url, stream, name=NAME)
    try:
        async with reader, contextlib.aclosing(reader.batches("first")) as batches:
            async for batch in batches:
                for delivery in batch:
                    event = None if delivery.type == HEARTBEAT else event_of(delivery)
                    if event is not None and event.experiment == experiment and run in (None, event.run):
                        fold.apply(event)
                        progress.events += 1
                progress.read += len(batch)
                await _send(fold, pipeline, progress)
                tell(progress)
                if any(delivery.message_id == end for delivery in batch):
                    break
        fold.tick(fold.ordering.now + HOLD_MICROSECONDS + 1)
        await _send(fold, pipeline, progress)
        await pipeline.settle()
    finally:
        await pipeline.close()
    progress.unfinished = fold.state.open_spans
    return progress


async def _send(fold: Fold, pipeline: Pipeline, progress: Progress) -> None:
    output = fold.take()
    progress.spans += len(output.spans)
    progress.records += len(output.logs)
    pipeline.add(output)
    if not pipeline.is_empty:
        await pipeline.flush()


async def _mark(client: Client, settings: OtelExporterSettings, stream: str) -> str:
    """Append a record that readers skip: its id is where the log ended when the replay began."""
    id_ = uuid7()
    message = Message(exchange="", routing_key=stream, body=b"{}", message_id=id_, type=HEARTBEAT, app_id=APP_ID)
    try:
        async with asyncio.timeout(CONNECT_SECONDS), Publisher(client, settings.amqp_url, name=NAME) as publisher:
            await publisher.wait_connected()
            await publisher.publish([message], timeout=CONNECT_SECONDS)
    except TimeoutError:
        raise BrokerUnavailable(f"RabbitMQ did not answer within {CONNECT_SECONDS:g} s.") from None
    return id_
