"""
The way of events to one partition of the log: numbered, stamped and published in one step, in order.

One step, because a reader drops a number that comes after a higher one of its emitter: between taking a number and
entering the publisher's window nothing else may run, so nothing here awaits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from loopcast.broker.declare import LogWatch
from loopcast.broker.interface import Message, Settlement
from loopcast.broker.publisher import Publisher
from loopcast.errors import BrokerError
from loopcast.events import Event, format_time
from loopcast.wire import to_message
from loopcast_producer.numbering import Numbering, RecordingClock

__all__ = ["Lane"]


class Lane:
    """A partition's publisher, with the numbers of the events that came without one."""

    def __init__(
        self, publisher: Publisher, watch: LogWatch, clock: RecordingClock, *, partition: int, stream: str
    ) -> None:
        self.publisher = publisher
        self._watch = watch
        self._clock = clock
        self._partition = partition
        self._stream = stream
        self._numbering = Numbering()

    def send(self, events: Sequence[Event], *, number: bool) -> asyncio.Future[list[Settlement]]:
        """
        Publish `events`, with numbers of our own if `number`; the settlements come in their order.

        Raises:
            BrokerUnavailable: not connected; nothing was sent.
            BrokerBlocked: the broker takes nothing; nothing was sent.
            WindowFull: too much is unconfirmed; nothing was sent.
            LogMissing: there is no such log; nothing was sent.
        """
        if self._watch.missing:
            self._watch.require(self._stream)
        if not number:
            return self.publisher.send([self._message(event, None, None) for event in events])
        numbers = [self._numbering.next(event.run) for event in events]
        try:
            return self.publisher.send(
                [self._message(event, emitter, n) for event, (emitter, n) in zip(events, numbers, strict=True)]
            )
        except BrokerError:
            for event, (emitter, n) in zip(reversed(events), reversed(numbers), strict=True):
                self._numbering.take_back(event.run, emitter, n)
            raise

    def _message(self, event: Event, emitter: str | None, number: int | None) -> Message:
        now = self._clock.now()
        recorded = format_time(now)
        time = event.time or recorded
        if number is None:
            stamped = msgspec.structs.replace(event, recorded_time=recorded, time=time)
        else:
            stamped = msgspec.structs.replace(
                event, recorded_time=recorded, time=time, emitter=emitter, sequence=f"{number:020}"
            )
        return to_message(stamped, self._partition, now)
