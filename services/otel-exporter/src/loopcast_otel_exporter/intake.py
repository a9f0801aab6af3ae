"""From the log's records to events, and where in the log to go on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Sequence

import msgspec
import structlog

from loopcast.broker.interface import Client, Delivery, StreamOffset
from loopcast.broker.log import SILENT_SECONDS, LogReader
from loopcast.errors import InvalidEvent, LogChanged
from loopcast.events import Event
from loopcast.position import Anchor, Position, verify
from loopcast.topology import APP_ID
from loopcast.wire import from_delivery

__all__ = ["event_of", "follow", "is_unbroken"]

log = structlog.get_logger(__name__)

PROOF_SECONDS = 5.0

OWN_RECORDS = 2
"""Offsets that the broker takes for itself between two records, at the begin of a segment."""

_decoder = msgspec.json.Decoder(Event)


def event_of(delivery: Delivery) -> Event | None:
    """The event of a record, None where there is none in it."""
    if delivery.app_id == APP_ID:
        try:
            # The producer has checked it; to check every event again would cost as much as folding it.
            return _decoder.decode(delivery.body)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            pass
    try:
        return from_delivery(delivery)
    except InvalidEvent as error:
        log.debug("no_event", offset=delivery.offset, reason=str(error))
        return None


def is_unbroken(position: Position | None, deliveries: Sequence[Delivery]) -> bool:
    """
    Whether the offsets alone say for certain that the log had nothing else between `position` and the last of these.

    False also for what a broker took for itself, where that was much.
    """
    before = deliveries[0].offset - 1 if position is None else position.offset
    gone = deliveries[-1].offset - before - len(deliveries)
    return before < deliveries[0].offset and gone <= OWN_RECORDS


async def follow(
    client: Client,
    url: str,
    stream: str,
    position: Position | None,
    *,
    name: str,
    on_reader: Callable[[LogReader], object],
) -> AsyncGenerator[Sequence[Delivery], None]:
    """
    What the log has behind `position`, batch by batch, for ever.

    The record at the position proves that it is the same log. Where retention has dropped it, then or while it was
    read, reading goes on with what is left, and where the log was made anew, with its first record: the state keeps
    what it knows, and what was read before is exported. `on_reader` is told of each reader that reads.
    """
    start: StreamOffset = "first" if position is None else position.offset
    if position is not None and not await _is_within(client, url, stream, position, name):
        log.warning("log_made_anew", stream=stream, offset=position.offset)
        start, position = "first", None
    while True:
        reader = LogReader(client, url, stream, name=f"{name} {stream}", silent_seconds=SILENT_SECONDS)
        on_reader(reader)
        try:
            async with reader, contextlib.aclosing(reader.batches(start)) as batches:
                async for batch in batches:
                    rest = batch if position is None else _behind(position, batch, stream)
                    position = None
                    if rest:
                        yield rest
        except LogChanged as changed:
            event = "log_truncated" if changed.reason == Anchor.TRUNCATED else "log_made_anew"
            log.warning(event, stream=stream, reason=str(changed))
            start, position = "first", None
        else:
            return


def _behind(position: Position, batch: Sequence[Delivery], stream: str) -> Sequence[Delivery]:
    """
    What of the first batch is behind the position that was asked for.

    Raises:
        LogChanged: this is another log.
    """
    first = batch[0]
    match verify(position, first.offset, first.message_id):
        case Anchor.PROVEN:
            return batch[1:]
        case Anchor.TRUNCATED:
            log.warning("log_truncated", stream=stream, lost_from=position.offset, to=first.offset)
            return batch
        case Anchor.EPOCH_CHANGED:
            raise LogChanged(f"{stream} is not the log it was (offset {position.offset}).", reason=Anchor.EPOCH_CHANGED)


async def _is_within(client: Client, url: str, stream: str, position: Position, name: str) -> bool:
    """Whether the log reaches as far as `position`: past its end a stream is silent for ever."""
    reader, reached = LogReader(client, url, stream, name=f"{name} {stream} proof"), False
    async with reader:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PROOF_SECONDS), contextlib.aclosing(reader.batches("last")) as batches:
                opening = asyncio.ensure_future(anext(batches))
                try:
                    await reader.wait_connected()
                    reached = True
                    return (await opening)[-1].offset >= position.offset
                finally:
                    opening.cancel()
                    await asyncio.wait([opening])
    # An empty stream says nothing. Neither does a broker that is away, and then the record itself is the proof.
    return not reached
