"""
Events from a Redis channel, as PromptLooper publishes them: `LOOPCAST_PRODUCER_REDIS_URL`.

Redis keeps nothing for a subscriber that is away, so every replica listens all the time, and one of them publishes what
it hears: the one that holds a lease in the broker. It says so on a second channel, and because Redis gives all its
subscribers every message in one order, that is an exact border: the one before stops there, the new one begins there.
While the broker is away nobody holds a lease, and the last one goes on listening and keeps what it hears; one that
comes back to Redis meanwhile claims what comes from then on (:mod:`loopcast_producer.turns`).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from urllib.parse import urlsplit

import structlog
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoPermissionError, RedisError

from loopcast.checkpoint.lease import Lease
from loopcast.errors import BrokerError, InvalidEvent
from loopcast.ids import new_emitter
from loopcast_producer.envelopes import Origin, loop_event
from loopcast_producer.ingest import Ingest, Item
from loopcast_producer.instruments import RedisInstruments
from loopcast_producer.receipt import Receipt
from loopcast_producer.turns import Turns

__all__ = ["RedisChannel"]

log = structlog.get_logger(__name__)

BATCH = 500
BATCH_BYTES = 1024 * 1024
"""What is larger than the window would wait until that is empty, which beside others' events may be never."""
KEPT_BYTES = 64 * 1024 * 1024
"""What is kept of messages that the broker does not take; beyond it the newest are dropped, and counted."""
LEASE_SECONDS = 2.0
HAND_OVER_SECONDS = 2 * LEASE_SECONDS + 1.0
SILENT_SECONDS = 5.0
RETRY_SECONDS = 5.0
RESTART_SECONDS = 1.0
_AWAY = (RedisError, OSError, TimeoutError)


class RedisChannel:
    """
    One channel of one Redis.

    Args:
        url: of Redis; replicas must name it alike, because the lease is called after its host, port and the channel.
        channel: whose messages are events, in the manner of `/v1/events`.
        amqp_url: where the lease is.
        max_event_bytes: the largest event.
    """

    def __init__(
        self,
        ingest: Ingest,
        instruments: RedisInstruments,
        *,
        url: str,
        channel: str,
        amqp_url: str,
        max_event_bytes: int,
    ) -> None:
        self._ingest = ingest
        self._instruments = instruments
        self._url = url
        self._channel = channel
        self._border = f"{channel}:loopcast"
        self._amqp_url = amqp_url
        self._max_event_bytes = max_event_bytes
        self._origin = Origin(source=f"redis:{channel}")
        self._turns = Turns(new_emitter(), KEPT_BYTES)
        self._client: Redis | None = None
        self._lease: Lease | None = None
        self._is_broker_away = False
        self._some = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._leaving = asyncio.Event()
        self._inactive = asyncio.Event()
        self._inactive.set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Listen, hold the lease where it can be had, and publish."""
        tasks = [asyncio.create_task(self._go_on(work)) for work in (self._listen, self._hold, self._publish)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def drained(self) -> None:
        """Give the lease away, wait for the one that takes it, if there is one, and publish what was heard before."""
        self._leaving.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HAND_OVER_SECONDS):
                await self._inactive.wait()
        self._turns.begin(False)
        self._look()
        await self._idle.wait()

    async def _go_on(self, work: Callable[[], Awaitable[None]]) -> None:
        """Begin `work` again where a defect ended it: otherwise the channel would look like one that is quiet."""
        while True:
            try:
                await work()
            except Exception:
                log.exception("redis_channel_failed", channel=self._channel)
            else:
                return
            await asyncio.sleep(RESTART_SECONDS)

    async def _listen(self) -> None:
        said = False
        while True:
            try:
                async with Redis.from_url(self._url, retry=Retry(NoBackoff(), 0)) as client, client.pubsub() as pubsub:
                    await pubsub.subscribe(self._channel, self._border)
                    await self._come_back(client, pubsub)
                    said = False
                    await self._hear(pubsub)
            except _AWAY as error:
                if not said:
                    log.warning("redis_unavailable", channel=self._channel, reason=str(error) or type(error).__name__)
                said = True
                if self._client is not None:
                    self._instruments.lost()
            finally:
                self._client = None
                self._instruments.connected(False)
            await asyncio.sleep(random.uniform(0.02, RETRY_SECONDS if said else 0.1))  # noqa: S311 - no secret

    async def _come_back(self, client: Redis, pubsub: PubSub) -> None:
        """Wait until Redis has subscribed us; what was said of borders meanwhile nobody knows."""
        async with asyncio.timeout(SILENT_SECONDS):
            for _ in (self._channel, self._border):
                while (message := await pubsub.get_message(timeout=1.0)) is None or message["type"] != "subscribe":
                    pass
        self._client = client
        self._instruments.connected(True)
        self._turns.come_back(leased=self._lease is not None)
        self._look()
        log.info("redis_connected", channel=self._channel)
        await self._announce()
        await self._claim()

    async def _hear(self, pubsub: PubSub) -> None:
        loop = asyncio.get_running_loop()
        heard = loop.time()
        while True:
            message = await pubsub.get_message(timeout=SILENT_SECONDS)
            if message is not None:
                heard = loop.time()
                if message["type"] == "message" and self._take(message["channel"], message["data"]):
                    await self._say(self._turns.holding)
            elif loop.time() - heard > 2.5 * SILENT_SECONDS:
                raise TimeoutError(f"Redis was silent for {2.5 * SILENT_SECONDS:g} s")
            else:
                await pubsub.ping()

    def _take(self, channel: bytes, data: bytes) -> bool:
        """Whether it has to be answered that this replica holds the lease."""
        answer = False
        if channel == self._border.encode():
            answer = self._turns.hear_of_turns(data.decode("utf-8", "replace"), leased=self._lease is not None)
        elif not self._turns.hear(data):
            self._instruments.heard("dropped")
        self._look()
        return answer

    def _look(self) -> None:
        """Wake and tell whoever waits for what has changed."""
        active = self._turns.active
        if active == self._inactive.is_set():
            log.info("redis_channel_taken" if active else "redis_channel_left", channel=self._channel)
            (self._inactive.clear if active else self._inactive.set)()
            self._instruments.active(active)
        if len(self._turns):
            self._idle.clear()
            self._some.set()
        else:
            self._some.clear()
            self._idle.set()

    async def _hold(self) -> None:
        while not self._leaving.is_set():
            try:
                lease = await Lease.acquire(self._amqp_url, self._reader, 0, name=f"{self._reader} lease", state=False)
            except BrokerError as error:
                log.debug("redis_lease_unavailable", reason=str(error))
                lease, self._is_broker_away = None, True
                await self._claim()
            else:
                self._is_broker_away = False
            if lease is not None:
                async with lease:
                    await self._use(lease)
                self._is_broker_away = True
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LEASE_SECONDS):
                    await self._leaving.wait()

    async def _use(self, lease: Lease) -> None:
        self._lease = lease
        try:
            await self._announce()
            waits = [asyncio.create_task(lease.wait_lost()), asyncio.create_task(self._leaving.wait())]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
        finally:
            self._lease = None

    async def _announce(self) -> None:
        """Say where in the order of messages this replica begins. Without Redis it begins when that is back."""
        if self._lease is not None and not await self._say(self._turns.beginning):
            self._turns.begin(True)
            self._look()

    async def _claim(self) -> None:
        """While nobody can have the lease, keep what comes: all replicas may have come back and wait for a turn."""
        if self._leaving.is_set() or self._lease is not None or self._client is None:
            return
        if self._is_broker_away and self._turns.undecided:
            self._turns.undecided = False
            await self._say(self._turns.claim)

    async def _say(self, word: str) -> bool:
        """Say something of turns to all replicas; False if Redis does not permit that."""
        if self._client is None:
            return True
        try:
            await self._client.publish(self._border, word)
        except NoPermissionError as error:
            hint = f"allow the user to PUBLISH to {self._border}; until then two replicas may publish a message twice"
            log.warning("redis_border_refused", reason=str(error), hint=hint)
            return False
        except _AWAY as error:
            log.debug("redis_not_announced", reason=str(error))
        return True

    async def _publish(self) -> None:
        while True:
            await self._some.wait()
            raws = self._turns.first(BATCH, BATCH_BYTES)
            await self._publish_batch([self._item(raw) for raw in raws])
            self._turns.drop_first(len(raws))
            self._look()

    async def _publish_batch(self, items: list[Item]) -> None:
        while True:
            try:
                # Ids of ours, made once: what is tried again is known by them, here and by readers.
                await self._ingest.publish(items, receipt := Receipt(), named=True)
            except BrokerError as error:
                await asyncio.sleep(min(error.retry_after, RETRY_SECONDS))
            except Exception:
                # One of them shows a defect of ours. Which one it is turns out when each is alone: none of the others
                # has to suffer for it.
                log.exception("redis_message_failed", channel=self._channel, messages=len(items))
                if len(items) == 1:
                    self._instruments.heard("invalid")
                else:
                    for item in items:
                        await self._publish_batch([item])
                return
            else:
                self._instruments.heard("invalid", receipt.invalid)
                self._instruments.heard("accepted", len(items) - receipt.invalid)
                return

    def _item(self, raw: bytes) -> Item:
        try:
            return loop_event(raw, self._origin, 0, max_bytes=self._max_event_bytes)
        except InvalidEvent as error:
            log.warning("redis_message_invalid", channel=self._channel, reason=str(error), message=repr(raw[:200]))
            return error
        except Exception as error:
            # There is nobody to answer: one message that we read wrongly must not hold up what comes behind it.
            log.exception("redis_message_failed", channel=self._channel, message=repr(raw[:200]))
            return InvalidEvent(f"The message could not be read: {error!r}.")

    @property
    def _reader(self) -> str:
        parts = urlsplit(self._url)
        place = f"{parts.hostname or parts.path}:{parts.port or 6379}/{self._channel}"
        return f"producer-redis-{hashlib.sha256(place.encode()).hexdigest()[:16]}"
