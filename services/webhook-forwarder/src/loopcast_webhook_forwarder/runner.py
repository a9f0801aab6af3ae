"""
One endpoint's life: bind its queue, consume while the state allows it, deliver, and close the channel for long waits.

Nothing is shared with another endpoint but the process: its own connections, its own way out, its own state.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from loopcast.broker.consumer import Consumer
from loopcast.broker.interface import Client, Delivery
from loopcast.broker.publisher import Publisher
from loopcast.errors import BrokerError
from loopcast.metrics import Metrics
from loopcast.routing import matches
from loopcast.settings import WebhookForwarderSettings
from loopcast.topology import webhook_dead_letters, webhook_queue, webhook_state
from loopcast_webhook_forwarder.backlog import Backlog
from loopcast_webhook_forwarder.batching import Collector, Parcel
from loopcast_webhook_forwarder.catch_up import TOKEN, CatchUp, Ward
from loopcast_webhook_forwarder.courier import Courier, Ended, Job
from loopcast_webhook_forwarder.dead_letters import REPLAY, key_of
from loopcast_webhook_forwarder.egress import Egress
from loopcast_webhook_forwarder.holding import Holding
from loopcast_webhook_forwarder.inbox import Inbox
from loopcast_webhook_forwarder.instruments import Instruments
from loopcast_webhook_forwarder.objects import Objects
from loopcast_webhook_forwarder.setups import Setup
from loopcast_webhook_forwarder.state import Record, State
from loopcast_webhook_forwarder.state_stream import StateStream
from loopcast_webhook_forwarder.tracing import Tracing

__all__ = ["Runner", "Shared"]

MAX_PREFETCH = 2000
"""What a quorum queue gives a consumer ahead at most (https://www.rabbitmq.com/docs/quorum-queues)."""

BATCHES_AHEAD = 5
"""
How many batches are asked for before the first is acknowledged: a quorum queue gives more only once it has written an
acknowledgement to the disk, which takes as long as a call or two.
"""

LOOK_SECONDS = 1.0
RETIRING_SECONDS = 3.0
"""How long a retired endpoint consumes before its queue is looked at: only with the channel closed is all counted."""

AGENT = "loopcast-webhook-forwarder"
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What all endpoints of a process have in common."""

    client: Client
    settings: WebhookForwarderSettings
    metrics: Metrics
    tracing: Tracing
    replica: str


class Runner:
    """
    Runs one endpoint until :meth:`stop` or :meth:`retire`.

    One that was `mended` (the file or a secret says something else now) is tried once without waiting any longer: the
    person who mended it does not want to wait an hour to see whether it was that.
    """

    def __init__(self, setup: Setup, shared: Shared, *, mended: bool = False) -> None:
        self.setup = setup
        self._at_once = mended
        self._shared = shared
        self._name = setup.endpoint.name
        self._url = shared.settings.amqp_url
        self._queue = webhook_queue(self._name).name
        self._wake = asyncio.Event()
        self._stopping = False
        self._retiring = False
        self._unbound = False
        self._queue_is_gone = False
        self._look_at = 0.0
        self._instruments = Instruments(shared.metrics, self._name)
        # Its own connection: a declaration waits for a queue that has no leader, and must not make others wait with it.
        self._objects = Objects(shared.client, self._url, name=f"{AGENT} {self._name} objects")
        self._publisher = Publisher(
            shared.client,
            self._url,
            name=f"{AGENT} {self._name} publish",
            prepare=self._make_objects,
        )
        self._stream = StateStream(
            shared.client, self._url, webhook_state(self._name).name, self._publisher, on_change=self._wake.set
        )
        self._holding = Holding(self._stream, shared.replica)
        self._matches = functools.lru_cache(maxsize=4096)(
            lambda key: any(matches(pattern, key) for pattern in setup.endpoint.patterns)
        )
        self._backlog = Backlog(
            max_events=shared.settings.webhooks_max_backlog_events,
            max_bytes=shared.settings.webhooks_max_backlog_bytes,
        )
        self._ahead = 0
        self._catch_up = CatchUp(
            shared.client,
            self._url,
            shared.settings.broker_topology.streams,
            endpoint=setup.endpoint,
            publisher=self._publisher,
            holding=self._holding,
            instruments=self._instruments,
            bind=self._bind_now,
            wanted=lambda delivery: self._matches(delivery.routing_key),
        )
        self._log = log.bind(endpoint=self._name)

    def stop(self) -> None:
        """End after the call that is under way; what is not settled stays in the queue."""
        self._stopping = True
        self._wake.set()

    def retire(self) -> None:
        """The file no longer has this endpoint: take nothing new, deliver what is there, delete the queue, end."""
        self._retiring = True
        self._wake.set()

    async def run(self) -> None:
        """Run until the end."""
        endpoint = self.setup.endpoint
        egress = Egress(allow_private=endpoint.allow_private, timeout=endpoint.timeout, tls=self.setup.tls, agent=AGENT)
        async with contextlib.aclosing(self._objects), self._publisher, egress:
            await self._until_connected()
            async with self._stream.following():
                await self._insist(self._bind)
                measuring = asyncio.create_task(self._measure_again_and_again())
                try:
                    await self._work(egress)
                finally:
                    measuring.cancel()
                    await asyncio.wait([measuring])

    async def _work(self, egress: Egress) -> None:
        courier = Courier(
            self.setup.endpoint,
            credentials=self.setup.credentials,
            egress=egress,
            publisher=self._publisher,
            holding=self._holding,
            instruments=self._instruments,
            tracing=self._shared.tracing,
            make_objects=self._make_objects,
            hold_seconds=self._shared.settings.webhooks_hold_seconds,
            wake=self._wake,
        )
        while not self._stopping:
            if self._retiring:
                if not self._unbound:
                    await self._insist(self._unbind)
                    self._unbound = True
                if await self._drained():
                    return
            if self._queue_is_gone and not self._retiring:
                await self._insist(self._make_queue_again)
            elif self._is_over_bound():
                await self._insist(self._leave_queue)
            elif self._may_consume():
                await self._consume(courier)
            else:
                left = self._stream.state.waits_until() - time.time()
                await self._nap(min(LOOK_SECONDS, left) if left > 0 else LOOK_SECONDS)

    def _may_consume(self) -> bool:
        state = self._stream.state
        return state.control.mode == "running" and (self._at_once or state.waits_until() <= time.time())

    def _is_over_bound(self) -> bool:
        progress = self._holding.state.progress
        return not self._retiring and progress.spill is None and self._backlog.is_over(progress.event_bytes)

    async def _leave_queue(self) -> None:
        """Take the endpoint over and leave its queue, or complete what one that died began."""
        try:
            if not await self._holding.claim():
                return
            if self._holding.state.progress.spill is not None:
                await self._catch_up.resume()
            elif self._is_over_bound():
                await self._catch_up.leave(self._backlog.events)
        finally:
            self._holding.release()
            self._backlog.events = 0

    async def _make_queue_again(self) -> None:
        """Somebody deleted the queue: what comes from now on shall not be lost to this endpoint too."""
        await self._make_objects()
        await self._bind()
        self._queue_is_gone = False

    def _must_close(self) -> bool:
        if self._is_over_bound() or self._queue_is_gone:
            return True
        if self._stopping or self._holding.state.control.mode != "running":
            return True
        return not self._holding.held and not self._may_consume()

    async def _consume(self, courier: Courier) -> None:
        """Consume until the channel has to be closed: then what is left is in its place, for whoever comes next."""
        endpoint = self.setup.endpoint
        consumer = Consumer(
            self._shared.client,
            self._url,
            self._queue,
            name=f"{AGENT} {self._name} consume",
            prefetch=self._prefetch(),
        )
        collector = Collector(
            max_events=endpoint.max_events,
            max_bytes=endpoint.batch.max_bytes,
            max_seconds=endpoint.batch.max_ms / 1000,
            wanted=self._is_wanted,
            alone=lambda delivery: delivery.type == TOKEN,
        )
        inbox = Inbox(consumer, collector, self._wake)
        self._look_at = time.monotonic() + RETIRING_SECONDS
        try:
            async with inbox.filling():
                await self._deliver_from(inbox, courier)
        finally:
            self._holding.release()

    def _prefetch(self) -> int:
        """
        What is held here does not count as backlog, so it stays small beside a small bound; and it never shrinks.

        A consumer that takes less of what a queue got back than its predecessor gave gives that back behind the rest.
        """
        batch = self.setup.endpoint.max_events
        ahead = max(2 * batch, self._shared.settings.webhooks_max_backlog_events // 4)
        self._ahead = max(min(MAX_PREFETCH, BATCHES_AHEAD * batch, ahead), self._stream.state.progress.ahead)
        return self._ahead

    async def _deliver_from(self, inbox: Inbox, courier: Courier) -> None:
        claimed, hold = -1, self._shared.settings.webhooks_hold_seconds
        while (parcel := await inbox.take(self._is_over)) is not None:
            if claimed >= 0 and time.monotonic() > parcel.since + hold:
                # Those before it took so long: consumed anew, it comes again, and was held for no time.
                return
            generation = inbox.generation
            self._backlog.weigh(parcel)
            if claimed != generation or not self._holding.held:
                if not await self._claim() or self._must_close():
                    return
                claimed = generation
            lost = functools.partial(inbox.lost, generation)
            if await self._settle(parcel, inbox, courier, lost) is Ended.LEFT and not lost():
                return

    async def _settle(self, parcel: Parcel, inbox: Inbox, courier: Courier, lost: Callable[[], bool]) -> Ended:
        self._at_once = False
        if parcel.events and parcel.events[0].type == TOKEN:
            return await self._work_off(parcel, inbox, courier, lost)
        return await courier.deliver(Job(parcel, ack=inbox.ack, lost=lost, interrupted=self._must_close))

    async def _work_off(self, token: Parcel, inbox: Inbox, courier: Courier, lost: Callable[[], bool]) -> Ended:
        """Deliver from the log what the token stands for; the token is held no longer than an event would be."""
        until = token.since + self._shared.settings.webhooks_hold_seconds
        ward = Ward(lost, lambda: self._must_close() or time.monotonic() > until)
        try:
            ended = await self._catch_up.work(token, courier, ward)
        except BrokerError as error:
            self._log.warning("catch_up_interrupted", reason=str(error))
            await self._nap(LOOK_SECONDS)
            return Ended.LEFT
        if ended is Ended.DONE:
            inbox.ack(token.last_tag)
            # What was measured before says nothing of a queue that was worked off up to its token.
            self._backlog.events = 0
        return ended

    def _is_over(self) -> bool:
        return self._must_close() or (self._retiring and (not self._unbound or time.monotonic() > self._look_at))

    async def _claim(self) -> bool:
        try:
            return await self._holding.claim(event_bytes=self._backlog.event_bytes, ahead=self._ahead)
        except BrokerError as error:
            self._log.warning("endpoint_not_claimed", reason=str(error))
            await self._nap(LOOK_SECONDS)
            return False

    def _is_wanted(self, delivery: Delivery) -> bool:
        key = delivery.routing_key
        if key == self._queue:
            # Put into the queue directly, or an event whose key is just that name: only the headers know. They are
            # read for nobody else, because that costs a fifth of an event's time.
            if delivery.headers.get(REPLAY) is not None:
                return True
            key = key_of(delivery)
        return self._matches(key) and not self._catch_up.had(delivery)

    async def _make_objects(self) -> None:
        await self._objects.ensure(self._name)

    async def _bind(self) -> None:
        """Bind what is asked for and unbind what no longer is; what may be bound is written down first."""
        state = await self._stream.sync()
        if state.progress.spill is None:
            await self._bind_to(state, set(self.setup.endpoint.patterns))
        else:
            await self._leave_queue()

    async def _bind_now(self, bound: bool) -> None:
        await self._bind_to(await self._stream.sync(), set(self.setup.endpoint.patterns) if bound else set())

    async def _unbind(self) -> None:
        await self._bind_to(await self._stream.sync(), set())

    async def _bind_to(self, state: State, wanted: set[str]) -> None:
        known = set(state.bindings)
        if wanted - known:
            await self._stream.sync(Record(bindings=tuple(sorted(wanted | known))))
        await self._objects.bind(self._name, sorted(wanted))
        await self._objects.unbind(self._name, sorted(known - wanted))
        if known - wanted:
            await self._stream.sync(Record(bindings=tuple(sorted(wanted))))

    async def _drained(self) -> bool:
        """Whether a retired endpoint's queue was empty, and is gone now."""
        try:
            if await self._objects.depth(self._queue):
                return False
            await self._objects.delete(self._queue)
        except BrokerError as error:
            self._log.warning("queue_not_deleted", reason=str(error))
            await self._nap(LOOK_SECONDS)
            return False
        if not self._stopping:
            # Else it is back, and the levels are its successor's.
            self._instruments.forget()
        self._log.info("endpoint_retired")
        return True

    async def _until_connected(self) -> None:
        waiting = asyncio.create_task(self._publisher.wait_connected())
        while not self._stopping and not waiting.done():
            await asyncio.wait([waiting], timeout=LOOK_SECONDS / 4)
        waiting.cancel()

    async def _insist(self, operation: Callable[[], Awaitable[None]]) -> None:
        """Do it again until the broker takes it."""
        while not self._stopping:
            try:
                await operation()
            except BrokerError as error:
                self._log.warning("endpoint_not_ready", reason=str(error))
                await self._nap(LOOK_SECONDS)
            else:
                return

    async def _nap(self, seconds: float) -> None:
        self._wake.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    async def _measure_again_and_again(self) -> None:
        seconds = self._shared.settings.webhooks_depth_seconds
        # Endpoints start together: measured together, they would hold up each other's deliveries each time.
        pause = seconds * random.random()  # noqa: S311 - spread, not a secret
        while True:
            try:
                await self._measure()
            except BrokerError as error:
                self._log.debug("endpoint_not_measured", reason=str(error))
            await asyncio.sleep(pause)
            pause = seconds

    async def _measure(self) -> None:
        queue = await self._objects.depth(self._queue)
        if queue is None and not self._retiring and not self._queue_is_gone:
            self._log.error("queue_gone", hint="somebody deleted it with what it held; it is made again")
            self._queue_is_gone = True
            self._wake.set()
        dead = await self._objects.depth(webhook_dead_letters(self._name).name)
        self._instruments.depth(queue or 0, dead or 0)
        self._backlog.events = queue or 0
        if self._is_over_bound():
            self._wake.set()
        self._instruments.state(self._holding.state, time.time())
