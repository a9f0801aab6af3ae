"""From the log's records to events, and where in the log to go on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Sequence

import msgspec
import structlog

from loopcast.broker.interface import Client, Delivery, StreamOffset
from loopcast.broker.log import SILENT_SECONDS, LogReader
from loopcast.errors import InvalidEvent
from loopcast.events import Event
from loopcast.position import Anchor, Position, verify
from loopcast.topology import APP_ID
from loopcast.wire import from_delivery

__all__ = ["event_of", "follow"]

log = structlog.get_logger(__name__)

PROOF_SECONDS = 5.0

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

    The record at the position proves that it is the same log. Where retention has dropped it, reading goes on with what
    is left, and where the log was made anew, with its first record: the state keeps what it knows. `on_reader` is told
    of each reader that reads.

    Raises:
        LogChanged: the log changed while it was read.
    """
    start: StreamOffset = "first" if position is None else position.offset
    if position is not None and not await _is_within(client, url, stream, position, name):
        log.warning("log_made_anew", stream=stream, offset=position.offset)
        start, position = "first", None
    while True:
        reader = LogReader(client, url, stream, name=f"{name} {stream}", silent_seconds=SILENT_SECONDS)
        on_reader(reader)
        async with reader, contextlib.aclosing(reader.batches(start)) as batches:
            async for batch in batches:
                if position is None:
                    yield batch
                    continue
                anchor = verify(position, batch[0].offset, batch[0].message_id)
                if anchor is Anchor.EPOCH_CHANGED:
                    break
                if anchor is Anchor.TRUNCATED:
                    log.warning("log_truncated", stream=stream, lost_from=position.offset, to=batch[0].offset)
                position = None
                rest = batch[1:] if anchor is Anchor.PROVEN else batch
                if rest:
                    yield rest
            else:
                return
        log.warning("log_made_anew", stream=stream, offset=start)
        start, position = "first", None


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
