"""
Delivering a parcel: call, judge the answer, and go on, wait, split, or bury, until nothing of it is left.

The events of a parcel leave in their order, each only by a 2xx or into the dead letters, which the broker has confirmed
before the original is acknowledged. A crash between the two leaves an event in both places, and in none never.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import itertools
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import assert_never

import structlog

from loopcast.broker.interface import Delivery, Message, Settlement
from loopcast.broker.publisher import Publisher
from loopcast.errors import BrokerError, LogMissing
from loopcast.wire import from_delivery
from loopcast_webhook_forwarder.answers import Answer, Delivered, Fault, Gone, Refused, Retry, Slowly, judge
from loopcast_webhook_forwarder.batching import Parcel
from loopcast_webhook_forwarder.breaker import failed, probing, succeeded
from loopcast_webhook_forwarder.credentials import Credentials
from loopcast_webhook_forwarder.dead_letters import dead_letter
from loopcast_webhook_forwarder.egress import Egress
from loopcast_webhook_forwarder.endpoints import Endpoint
from loopcast_webhook_forwarder.formats import encode_payload
from loopcast_webhook_forwarder.holding import Holding
from loopcast_webhook_forwarder.instruments import Instruments
from loopcast_webhook_forwarder.retry import Schedule
from loopcast_webhook_forwarder.signing import call_id, sign
from loopcast_webhook_forwarder.splits import Splits
from loopcast_webhook_forwarder.tracing import Tracing

__all__ = ["Courier", "Ended", "Job", "taken_at"]

PUBLISH_SECONDS = 10.0
LOOK_SECONDS = 0.5
"""How soon a wait notices that its channel is gone."""
log = structlog.get_logger(__name__)


class Ended(enum.Enum):
    """How the work on a parcel ended."""

    DONE = enum.auto()
    """Nothing of it is left."""
    LEFT = enum.auto()
    """What is left stays in the queue: close the channel, and see what the state says."""


class Job:
    """A parcel, what is left of it, and what bounds the work on it."""

    __slots__ = ("ack", "interrupted", "lost", "parcel", "splits")

    def __init__(
        self,
        parcel: Parcel,
        *,
        ack: Callable[[int], None],
        lost: Callable[[], bool],
        interrupted: Callable[[], bool],
    ) -> None:
        self.parcel = parcel
        self.splits = Splits(len(parcel.events))
        self.ack = ack
        self.lost = lost
        """Whether the channel is gone by which the parcel came."""
        self.interrupted = interrupted
        """Whether a pause or the end of the process waits for this."""

    @property
    def events(self) -> list[Delivery]:
        """Those of the next call."""
        start, stop = self.splits.current
        return self.parcel.events[start:stop]

    @property
    def left(self) -> list[Delivery]:
        """All that are not settled."""
        return self.parcel.events[self.splits.current[0] :]

    @property
    def has_settled(self) -> bool:
        """Whether something of it is."""
        return self.splits.current[0] > 0

    def settle(self, count: int) -> None:
        """The next `count` events are where they belong."""
        while count:
            if self.splits.size > count:
                self.splits.probe()
            count -= self.splits.size
            stop = self.splits.current[1]
            self.splits.settled()
        self.ack(self.parcel.tag_through(stop))


def taken_at(delivery: Delivery) -> float:
    """The Unix time at which a producer took an event; 0 where nobody said."""
    recorded = delivery.headers.get("recorded")
    return recorded / 1e6 if isinstance(recorded, int) and not isinstance(recorded, bool) else float(delivery.timestamp)


class Courier:
    """One endpoint's. `wake` is set by whoever changes what a wait depends on."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        credentials: Credentials,
        egress: Egress,
        publisher: Publisher,
        holding: Holding,
        instruments: Instruments,
        tracing: Tracing,
        make_objects: Callable[[], Awaitable[None]],
        hold_seconds: float,
        wake: asyncio.Event,
    ) -> None:
        self._endpoint = endpoint
        self._credentials = credentials
        self._egress = egress
        self._publisher = publisher
        self._holding = holding
        self._instruments = instruments
        self._tracing = tracing
        self._make_objects = make_objects
        self._hold_seconds = hold_seconds
        self._wake = wake
        self._schedule = Schedule(endpoint.retry)
        self._log = log.bind(endpoint=endpoint.name)

    async def deliver(self, job: Job) -> Ended:
        """Work until the parcel is settled, or something else has to be done first."""
        if job.parcel.unwanted:
            self._instruments.events("unwanted", job.parcel.unwanted)
        if not job.parcel.events:
            job.ack(job.parcel.last_tag)
        while not job.splits.done:
            if self._is_over(job) or (job.has_settled and self._is_held_too_long(job)):
                return Ended.LEFT
            if self._holding.state.progress.phase != "closed":
                job.splits.probe()
            if await self._once(job) is Ended.LEFT:
                return Ended.LEFT
        return Ended.DONE

    def _is_over(self, job: Job) -> bool:
        return job.lost() or job.interrupted() or not self._holding.held

    def _is_held_too_long(self, job: Job) -> bool:
        """Whether the broker might lose its patience: calls that are answered slowly take their time, too."""
        return time.monotonic() > job.parcel.since + self._hold_seconds

    async def _once(self, job: Job) -> Ended:
        """One call and what follows from it; LEFT where the job cannot be worked on now."""
        events = job.events
        outcome = await self._call(events)
        match judge(outcome):
            case Delivered():
                await self._recovered()
                job.settle(len(events))
                self._instruments.events("delivered", len(events))
                self._instruments.delivered_after(time.time() - taken_at(events[0]))
                return Ended.DONE
            case Refused(reason):
                await self._recovered()
                return await self._narrow(job, reason, outcome)
            case Retry(reason, retry_after):
                wait = self._schedule.wait(self._failures + 1, random.random(), retry_after)  # noqa: S311 - jitter
                await self._failed(events[0], reason, wait, misconfigured=False)
                return await self._wait(job, outcome)
            case Slowly(reason, retry_after):
                wait = self._schedule.slow(random.random(), retry_after)  # noqa: S311 - jitter
                await self._failed(events[0], reason, wait, misconfigured=True)
                return await self._wait(job, outcome)
            case Gone(reason):
                self._log.error("endpoint_stopped", reason=reason, hint="loopcast webhooks resume makes it go on")
                await self._stop(job, reason)
                return Ended.LEFT
            case never:
                assert_never(never)

    async def _call(self, events: Sequence[Delivery]) -> Answer | Fault:
        payload = encode_payload(events, self._endpoint)
        now = time.time()
        ids = [event.message_id or from_delivery(event).id for event in events]
        headers = {
            **self._credentials.headers,
            "Content-Type": payload.content_type,
            **sign(self._credentials.keys, id=call_id(ids), timestamp=int(now), body=payload.body),
        }
        began = time.monotonic()
        url, progress = self._credentials.url, self._holding.state.progress
        attempt = progress.attempts + 1 if progress.head == events[0].message_id else 1
        with self._tracing.call(self._endpoint.name, url, events, attempt) as span:
            outcome = await self._egress.post(url, payload.body, {**headers, **span.headers}, now=now)
            span.ended(outcome)
        self._instruments.called(type(judge(outcome)).__name__.lower(), time.monotonic() - began)
        return outcome

    @property
    def _failures(self) -> int:
        return self._holding.state.progress.failures

    async def _recovered(self) -> None:
        progress = self._holding.state.progress
        after = succeeded(progress, time.time())
        if after is not progress:
            if progress.phase != "closed":
                self._log.info("endpoint_recovered", failures=progress.failures)
            await self._holding.note(after)

    async def _failed(self, head: Delivery, reason: str, wait: float, *, misconfigured: bool) -> None:
        before = self._holding.state.progress
        after = failed(
            probing(before),
            head=head.message_id,
            now=time.time(),
            wait=wait,
            threshold=self._endpoint.breaker_failures,
            reason=reason,
            misconfigured=misconfigured,
        )
        if after.phase != before.phase or before.failures == 0:
            self._log.warning("endpoint_failing", reason=reason, phase=after.phase, retry_seconds=round(wait, 1))
        await self._holding.note(after)

    async def _wait(self, job: Job, outcome: Answer | Fault) -> Ended:
        """After a failure: bury what is too old, then wait here, or leave where that would hold events too long."""
        expired = self._expired(job.left)
        if expired:
            progress = self._holding.state.progress
            reason = f"given up after {self._endpoint.retry.give_up_after:g} s: {progress.last}"
            if not await self._publish_dead(job, expired, reason, progress.attempts, outcome):
                return Ended.LEFT
            self._log.error("events_given_up", count=len(expired), reason=progress.last)
            job.settle(len(expired))
            # What is as old further back follows at the pace of tries: a wait would be one for each batch.
            return Ended.DONE
        wait = max(0.0, self._holding.state.waits_until() - time.time())
        if time.monotonic() + wait > job.parcel.since + self._hold_seconds:
            return Ended.LEFT
        while (left := self._holding.state.waits_until() - time.time()) > 0:
            if self._is_over(job):
                return Ended.LEFT
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left, LOOK_SECONDS)):
                    await self._wake.wait()
        return Ended.DONE

    def _expired(self, events: Sequence[Delivery]) -> list[Delivery]:
        now, since = time.time(), self._holding.state.progress.failing_since
        gives_up = self._schedule.gives_up
        return list(
            itertools.takewhile(lambda event: gives_up(now=now, failing_since=since, taken=taken_at(event)), events)
        )

    async def _narrow(self, job: Job, reason: str, outcome: Answer | Fault) -> Ended:
        """The endpoint refuses the body: halve it; the one event that it refuses goes to the dead letters."""
        if not job.splits.alone:
            job.splits.halve()
            return Ended.DONE
        event = job.events[0]
        if not await self._publish_dead(job, [event], reason, 1, outcome):
            return Ended.LEFT
        self._log.warning("dead_letter", reason=reason, event_id=event.message_id)
        job.settle(1)
        return Ended.DONE

    async def _publish_dead(
        self, job: Job, events: Sequence[Delivery], reason: str, attempts: int, outcome: Answer | Fault
    ) -> bool:
        """Publish dead letters until the broker has confirmed them: whether it has, before the channel went."""
        letters = [
            dead_letter(
                self._endpoint.name,
                event,
                reason=reason,
                attempts=attempts,
                answer=outcome.body if isinstance(outcome, Answer) else b"",
                since=self._holding.state.progress.failing_since,
                now=time.time(),
            )
            for event in events
        ]
        while not job.lost():
            if await self._confirmed(letters):
                self._instruments.events("dead", len(letters))
                return True
            if job.interrupted() or self._is_held_too_long(job):
                return False
            await asyncio.sleep(LOOK_SECONDS)
        return False

    async def _confirmed(self, letters: Sequence[Message]) -> bool:
        try:
            settlements = await self._publisher.publish(letters, timeout=PUBLISH_SECONDS)
        except BrokerError as error:
            self._log.warning("dead_letter_not_confirmed", reason=str(error))
            if isinstance(error, LogMissing):
                # Somebody deleted the dead letters' queue, perhaps to be rid of them.
                with contextlib.suppress(BrokerError):
                    await self._make_objects()
            return False
        return all(settlement is Settlement.CONFIRMED for settlement in settlements)

    async def _stop(self, job: Job, reason: str) -> None:
        while not self._is_over(job):
            try:
                await self._holding.stop(reason, time.time())
            except BrokerError as error:
                self._log.warning("state_not_written", reason=str(error))
                await asyncio.sleep(LOOK_SECONDS)
            else:
                return
