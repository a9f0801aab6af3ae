"""From events to their results: what is a repeat, which lane each takes, and waiting until the broker has them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import NamedTuple

from loopcast.broker.interface import Settlement
from loopcast.errors import BrokerError, BrokerUnavailable, InvalidEvent, LogMissing
from loopcast.events import Event
from loopcast.routing import partition_of
from loopcast.telemetry import Telemetry
from loopcast.topology import EVENTS
from loopcast.trace_context import trace_context
from loopcast_producer.idempotency import IdempotencyWindow
from loopcast_producer.instruments import Instruments
from loopcast_producer.lanes import Lane
from loopcast_producer.patience import Patience
from loopcast_producer.receipt import Receipt, Result, Status

__all__ = ["Batch", "Ingest", "Item", "Place", "TracedIngest"]

Item = Event | InvalidEvent
"""An event, or why it is none."""


class Place(NamedTuple):
    """Where an event's settlement will be: in what its publishing gives, at a position, by a lane."""

    lane: Lane
    settlements: asyncio.Future[list[Settlement]]
    position: int

    def error(self) -> BrokerError | None:
        """Why the event is not confirmed, once it is settled."""
        if (error := self.settlements.exception()) is not None:
            return error if isinstance(error, BrokerError) else BrokerUnavailable(f"Publishing failed: {error!r}.")
        match self.settlements.result()[self.position]:
            case Settlement.CONFIRMED:
                return None
            case Settlement.RETURNED:
                return LogMissing("The broker has no log for the event: it was routed nowhere.")
            case Settlement.REJECTED:
                return BrokerUnavailable("A queue that the event was routed to rejected it (basic.nack).")


class Ingest:
    """Publishes what requests bring. One for the process."""

    def __init__(
        self, lanes: Sequence[Lane], repeats: IdempotencyWindow[Place], instruments: Instruments, *, seconds: float
    ) -> None:
        self._lanes = lanes
        self._repeats = repeats
        self._instruments = instruments
        self._patience = Patience(seconds)

    async def publish(self, items: Sequence[Item], receipt: Receipt, *, named: bool) -> None:
        """
        Publish the events among `items` in their order, wait for the confirms, and put the results into `receipt`.

        `named` says that the sender gave the ids. Then a repeat is known by its id, here and by readers, and we number
        nothing: another producer that gets the same event again would give it another number.

        Raises:
            BrokerError: not all were confirmed; the results of those that were are in the receipt.
        """
        await self.finish(self.begin(items, named=named), receipt)

    def begin(self, items: Sequence[Item], *, named: bool) -> Batch:
        """
        The first half of :meth:`publish`: what has to be published is, in the order of the calls.

        Nothing here waits. Where the batch has an `error` it was not published as a whole, and nothing that has to
        come after it may be begun.
        """
        batch = Batch(items)
        try:
            self._begin(batch, named=named)
        except BrokerError as error:
            batch.error = error
        return batch

    async def finish(self, batch: Batch, receipt: Receipt) -> None:
        """
        The second half of :meth:`publish`: wait for the confirms, and put the results into `receipt`.

        Raises:
            BrokerError: not all were confirmed.
        """
        if batch.error is None:
            try:
                await self._wait(batch)
            except BrokerError as error:
                batch.error = error
        self._instruments.published(batch.report(receipt), time.perf_counter() - batch.began)
        if batch.error is not None:
            raise batch.error

    def _begin(self, batch: Batch, *, named: bool) -> None:
        groups: dict[int, list[int]] = {}
        twins: dict[str, int] = {}
        for index, item in enumerate(batch.items):
            if isinstance(item, InvalidEvent):
                batch.results[index] = Result("invalid", error=str(item))
            elif not named or not self._is_repeat(batch, index, item, twins):
                groups.setdefault(partition_of(item.experiment, len(self._lanes)), []).append(index)
        for partition, indexes in groups.items():
            self._send(batch, partition, indexes, named=named)
        for index, first in batch.twins:
            batch.places[index] = batch.places[first]

    def _is_repeat(self, batch: Batch, index: int, event: Event, twins: dict[str, int]) -> bool:
        key = _key(event)
        if self._repeats.confirmed(key):
            batch.results[index] = Result("duplicate", event.id)
        elif (place := self._repeats.unsettled(key)) is not None:
            batch.places[index] = place
            batch.statuses[index] = "duplicate"
        elif (first := twins.setdefault(key, index)) != index:
            batch.twins.append((index, first))
            batch.statuses[index] = "duplicate"
        else:
            return False
        return True

    def _send(self, batch: Batch, partition: int, indexes: list[int], *, named: bool) -> None:
        events = [event for i in indexes if isinstance(event := batch.items[i], Event)]
        lane = self._lanes[partition]
        try:
            settlements = lane.send(events, number=not named)
        except LogMissing:
            self._repeats.forget_confirmed()
            raise
        places = [Place(lane, settlements, position) for position in range(len(events))]
        batch.places.update(zip(indexes, places, strict=True))
        if named:
            known = dict(zip(map(_key, events), places, strict=True))
            for key, place in known.items():
                self._repeats.begin(key, place)
            settlements.add_done_callback(lambda _: self._remember(known))

    def _remember(self, known: dict[str, Place]) -> None:
        lost = False
        for key, place in known.items():
            if (error := place.error()) is None:
                self._repeats.confirm(key)
            else:
                self._repeats.forget(key)
                lost = lost or isinstance(error, LogMissing)
        if lost:
            # What it had, of this batch too, is gone with it. Of what a log has after all, readers drop the repeats.
            self._repeats.forget_confirmed()

    async def _wait(self, batch: Batch) -> None:
        for settlements, lane in {place.settlements: place.lane for place in batch.places.values()}.items():
            if not await self._patience.wait(settlements):
                raise lane.publisher.why_late(self._patience.seconds)


class TracedIngest(Ingest):
    """The same, each batch a span: a class of its own, so that without telemetry there is nothing of it on the way."""

    def __init__(
        self,
        lanes: Sequence[Lane],
        repeats: IdempotencyWindow[Place],
        instruments: Instruments,
        telemetry: Telemetry,
        *,
        seconds: float,
    ) -> None:
        super().__init__(lanes, repeats, instruments, seconds=seconds)
        self._telemetry = telemetry

    async def finish(self, batch: Batch, receipt: Receipt) -> None:
        """As :meth:`Ingest.finish`: what takes time is the waiting, and several batches may have been begun."""
        items = batch.items
        contexts = (trace_context(item.traceparent, item.tracestate) for item in items if isinstance(item, Event))
        with self._telemetry.publishing(EVENTS, len(items), contexts):
            await super().finish(batch, receipt)


class Batch:
    """The items of one call, and what is known of each by index."""

    __slots__ = ("began", "error", "items", "places", "results", "statuses", "twins")

    def __init__(self, items: Sequence[Item]) -> None:
        self.began = time.perf_counter()
        self.items = items
        self.error: BrokerError | None = None
        self.results: dict[int, Result] = {}
        self.places: dict[int, Place] = {}
        self.statuses: dict[int, Status] = {}
        """What a confirmed one is called, where that is not `accepted`."""
        self.twins: list[tuple[int, int]] = []
        """Index of a second one with the same experiment and id, and of the first."""

    def report(self, receipt: Receipt) -> dict[str, int]:
        """Put the results in, in order; count them by status, and what has none as `refused`."""
        counts: dict[str, int] = {}
        for index in range(len(self.items)):
            result = self.results.get(index) or self._outcome(index)
            if result is not None:
                receipt.add(result)
            status = "refused" if result is None else result.status
            counts[status] = counts.get(status, 0) + 1
        return counts

    def _outcome(self, index: int) -> Result | None:
        place, item = self.places.get(index), self.items[index]
        if place is None or not place.settlements.done() or not isinstance(item, Event):
            return None
        if (error := place.error()) is not None:
            self.error = self.error or error
            return None
        return Result(self.statuses.get(index, "accepted"), item.id)


def _key(event: Event) -> str:
    """What a repeat is known by: experiments are strangers to each other, and neither part has a line break in it."""
    return f"{event.experiment}\n{event.id}"
