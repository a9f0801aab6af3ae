"""
A backlog that lies in the log instead of the queue: leaving the queue, and catching up.

A queue that nobody empties would fill the broker's disk and stop every publisher. Over its bound it is unbound, and a
token is put at its end that stands for the stretch of the log which follows. Whoever receives the token delivers that
stretch from the log; when little is left the queue is bound again, the log is read once more to a mark made after that,
and the token is acknowledged. What came both ways is known by its id. So the order is the queue, the log, the queue.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

import structlog
from msgspec.structs import replace

from loopcast.broker.interface import Client, Delivery, Message
from loopcast.broker.publisher import Publisher
from loopcast.errors import BrokerError
from loopcast.ids import uuid7
from loopcast.position import Anchor, Position, verify
from loopcast.topology import APP_ID, HEARTBEAT, webhook_queue
from loopcast_webhook_forwarder.batching import Collector, Parcel
from loopcast_webhook_forwarder.courier import Courier, Ended, Job
from loopcast_webhook_forwarder.dead_letters import REPLAY, gap_letter
from loopcast_webhook_forwarder.endpoints import Endpoint
from loopcast_webhook_forwarder.holding import Holding
from loopcast_webhook_forwarder.instruments import Instruments
from loopcast_webhook_forwarder.log_stretch import end_of, read_until
from loopcast_webhook_forwarder.state import Spill

__all__ = ["TOKEN", "CatchUp", "Ward"]

TOKEN = "loopcast.webhook.catch-up"  # noqa: S105 - the type of a message
NOTE_SECONDS = 1.0
NEAR_SECONDS = 2.0
"""A pass over the log that took no longer leaves so little that the queue can be bound again."""
PUBLISH_SECONDS = 10.0
MAX_RECENT = 200_000
NAME = "loopcast-webhook-forwarder catch-up"
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Ward:
    """What bounds the work on a token."""

    lost: Callable[[], bool]
    interrupted: Callable[[], bool]


class CatchUp:
    """
    One endpoint's. `bind` binds the queue to what the endpoint asks for, or to nothing.

    `wanted` says of a delivery whether the endpoint asks for it.
    """

    def __init__(
        self,
        client: Client,
        url: str,
        streams: Sequence[str],
        *,
        endpoint: Endpoint,
        publisher: Publisher,
        holding: Holding,
        instruments: Instruments,
        bind: Callable[[bool], Awaitable[None]],
        wanted: Callable[[Delivery], bool],
    ) -> None:
        self._client = client
        self._url = url
        self._streams = streams
        self._endpoint = endpoint
        self._publisher = publisher
        self._holding = holding
        self._instruments = instruments
        self._bind = bind
        self._wanted = wanted
        self._recent: OrderedDict[str, None] = OrderedDict()
        self._noted = 0.0
        self._log = log.bind(endpoint=endpoint.name)

    def had(self, delivery: Delivery) -> bool:
        """Whether this event was delivered from the log, so that its copy in the queue is not needed."""
        return delivery.message_id in self._recent

    async def leave(self, backlog: int) -> None:
        """
        Unbind the queue: what comes from now on is in the log.

        The place in the log is taken first and written down first: a crash at any point leaves an event in both
        places, never in none, and :meth:`resume` completes what was begun. For both the state has to be held: a replica
        that unbinds while another ends its catch-up would leave the queue unbound for good, and the claim makes the one
        that writes last fail.

        Raises:
            BrokerError: it was not completed.
        """
        positions = {}
        for partition, stream in enumerate(self._streams):
            end = await end_of(self._client, self._url, self._publisher, stream)
            positions[str(partition)] = str(Position.of(partition, end.offset, end.message_id))
        progress = self._holding.state.progress
        await self._holding.insist(replace(progress, spill=Spill(uuid7(), time.time(), positions)))
        self._log.error("backlog_in_the_log", events=backlog, hint="the queue is unbound until it is caught up")
        await self.resume()

    async def resume(self) -> None:
        """
        Complete leaving: unbound, and with a token at the queue's end. Harmless where that is so.

        Raises:
            BrokerError: it was not completed.
        """
        spill = self._holding.state.progress.spill
        if spill is None:
            return
        await self._bind(False)
        queue = webhook_queue(self._endpoint.name).name
        token = Message(
            exchange="",
            routing_key=queue,
            body=b"",
            message_id=spill.id,
            type=TOKEN,
            headers={REPLAY: 1},
            app_id=APP_ID,
        )
        await self._publisher.publish([token], timeout=PUBLISH_SECONDS)

    async def work(self, parcel: Parcel, courier: Courier, ward: Ward) -> Ended:
        """
        Deliver the stretch of the log that the token in `parcel` stands for; DONE when the token can be acknowledged.

        Raises:
            BrokerError: the broker did not give or take something; the token comes again.
        """
        spill = self._holding.state.progress.spill
        if spill is None or spill.id != parcel.events[0].message_id:
            return Ended.DONE
        while True:
            began = time.monotonic()
            if await self._pass(parcel, courier, ward) is Ended.LEFT:
                return Ended.LEFT
            if time.monotonic() - began <= NEAR_SECONDS:
                break
        await self._bind(True)
        if await self._pass(parcel, courier, ward) is Ended.LEFT:
            # What waits for its endpoint again must not pile up in the queue meanwhile.
            await self._bind(False)
            return Ended.LEFT
        await self._holding.insist(replace(self._holding.state.progress, spill=None))
        self._log.info("caught_up", seconds=round(time.time() - spill.at))
        return Ended.DONE

    async def _pass(self, token: Parcel, courier: Courier, ward: Ward) -> Ended:
        """Once through every partition, to a mark made now."""
        for partition, stream in enumerate(self._streams):
            end = await end_of(self._client, self._url, self._publisher, stream)
            start = await self._start(partition, stream, end)
            reading = read_until(self._client, self._url, stream, start, end.message_id, name=NAME)
            async with aclosing(reading) as batches:
                async for batch in batches:
                    if await self._deliver(partition, batch, token, courier, ward) is Ended.LEFT:
                        return Ended.LEFT
            await self._advance(partition, end, force=True)
        return Ended.DONE

    async def _start(self, partition: int, stream: str, end: Delivery) -> int | str:
        """Where to go on; what is no longer there becomes one dead letter."""
        spill = self._holding.state.progress.spill
        assert spill is not None
        token = spill.positions.get(str(partition))
        if token is None:
            return "first"
        position = Position.parse(token)
        if end.offset < position.offset:
            return await self._begin_anew(partition, position)
        first = await self._first(stream, position.offset, end)
        anchor = verify(position, first.offset, first.message_id)
        if anchor is Anchor.EPOCH_CHANGED:
            return await self._begin_anew(partition, position)
        if first.offset > position.offset + 1:
            await self._lost(partition, position.offset + 1, first.offset - 1, "the log's retention took it")
            # Said once: a try that fails now must not say the same again. No message proves what is gone.
            await self._move(partition, Position.of(partition, first.offset - 1, ""))
        return max(position.offset + 1, first.offset)

    async def _begin_anew(self, partition: int, position: Position) -> str:
        await self._lost(partition, position.offset + 1, position.offset + 1, "the log was made anew")
        await self._move(partition, None)
        return "first"

    async def _first(self, stream: str, offset: int, end: Delivery) -> Delivery:
        """The first delivery from `offset` on: the mark itself where there is no other."""
        reading = read_until(self._client, self._url, stream, offset, "", name=NAME)
        async with aclosing(reading) as batches:
            async for batch in batches:
                if batch:
                    return batch[0]
        return end

    async def _deliver(
        self, partition: int, batch: Sequence[Delivery], token: Parcel, courier: Courier, ward: Ward
    ) -> Ended:
        chosen = [d for d in batch if d.type != HEARTBEAT and self._wanted(d) and not self.had(d)]
        by_offset = {delivery.offset: delivery for delivery in chosen}
        collector = Collector(
            max_events=self._endpoint.max_events,
            max_bytes=self._endpoint.batch.max_bytes,
            max_seconds=0,
            wanted=lambda _: True,
        )
        for delivery in chosen:
            delivery.tag = delivery.offset
        collector.add(chosen, token.since)
        settled: list[int] = []
        while len(collector):
            parcel = collector.cut()
            job = Job(parcel, ack=settled.append, lost=ward.lost, interrupted=ward.interrupted)
            ended = await courier.deliver(job)
            if settled:
                self._remember(event for event in parcel.events if event.offset <= settled[-1])
                await self._advance(partition, by_offset[settled[-1]])
            if ended is Ended.LEFT or ward.interrupted() or ward.lost():
                return Ended.LEFT
        if batch:
            await self._advance(partition, batch[-1])
        return Ended.DONE

    async def _advance(self, partition: int, done: Delivery, *, force: bool = False) -> None:
        """Everything up to `done` is delivered; written down once a second."""
        if force or time.monotonic() - self._noted >= NOTE_SECONDS:
            await self._move(partition, Position.of(partition, done.offset, done.message_id))
            self._noted = time.monotonic()

    async def _move(self, partition: int, position: Position | None) -> None:
        """Go on behind `position` of a partition from now on, or without one at what it has first."""
        progress = self._holding.state.progress
        assert progress.spill is not None
        positions = {**progress.spill.positions, str(partition): str(position)}
        if position is None:
            del positions[str(partition)]
        await self._holding.note(replace(progress, spill=replace(progress.spill, positions=positions)))

    def _remember(self, events: Iterable[Delivery]) -> None:
        for event in events:
            self._recent[event.message_id] = None
        while len(self._recent) > MAX_RECENT:
            self._recent.popitem(last=False)

    async def _lost(self, partition: int, first: int, last: int, why: str) -> None:
        """
        Say once what is gone: a dead letter with the range, a metric, an error in the log.

        The letter's id is the range's own, so that a repeat is known as one.
        """
        self._instruments.lost(last - first + 1)
        self._log.error("events_lost", why=why, partition=partition, first=first, last=last)
        letter = gap_letter(
            self._endpoint.name,
            id=f"gap-{self._endpoint.name}-{partition}-{first}-{last}",
            partition=partition,
            first=first,
            last=last,
            reason=why,
            now=time.time(),
        )
        while True:
            try:
                await self._publisher.publish([letter], timeout=PUBLISH_SECONDS)
            except BrokerError as error:
                self._log.warning("dead_letter_not_confirmed", reason=str(error))
                await asyncio.sleep(NOTE_SECONDS)
            else:
                return
