"""
What a person does with endpoints: look, try, pause, put back, drop.

Works on the broker and the endpoints file alone: no forwarder has to run, and those that do follow the state stream.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Self

import msgspec

from loopcast.broker.clients import client_of
from loopcast.broker.consumer import Consumer
from loopcast.broker.interface import Delivery, Message
from loopcast.broker.publisher import Publisher
from loopcast.errors import ConfigurationError
from loopcast.events import Event, format_time, source_of
from loopcast.ids import uuid7
from loopcast.routing import matches
from loopcast.settings import WebhookForwarderSettings
from loopcast.topology import (
    APP_ID,
    CLOUDEVENT,
    HEARTBEAT,
    Queue,
    webhook_dead_letters,
    webhook_names,
    webhook_queue,
    webhook_state,
)
from loopcast_webhook_forwarder.answers import Answer, Fault
from loopcast_webhook_forwarder.courier import taken_at
from loopcast_webhook_forwarder.dead_letters import DEAD, put_behind, replayed
from loopcast_webhook_forwarder.egress import Egress
from loopcast_webhook_forwarder.formats import encode_payload
from loopcast_webhook_forwarder.leftovers import REMOVED
from loopcast_webhook_forwarder.log_stretch import mark, read_until
from loopcast_webhook_forwarder.objects import Objects
from loopcast_webhook_forwarder.runner import AGENT
from loopcast_webhook_forwarder.setups import Setup, read_setups
from loopcast_webhook_forwarder.signing import call_id, sign
from loopcast_webhook_forwarder.state import Control, Record, State
from loopcast_webhook_forwarder.state_stream import StateStream

__all__ = ["Operator", "Row"]

PUBLISH_SECONDS = 30.0
QUIET_SECONDS = 2.0
"""A queue that gave nothing for so long has nothing more to give."""
MAX_LOOK = 2000
NEW = "new"
CHUNK = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One endpoint as `list` shows it."""

    name: str
    state: str
    queued: int
    dead: int
    failures: int
    failing_since: float | None
    next_try: float | None
    last: str


class Operator:
    """An async context manager around the connections that its work needs."""

    def __init__(self, settings: WebhookForwarderSettings) -> None:
        if settings.webhooks_file is None:
            raise ConfigurationError("Say where the endpoints are: LOOPCAST_WEBHOOKS_FILE or --file.")
        self._settings = settings
        self._url = settings.amqp_url
        self._client = client_of(settings.amqp_client)
        self._setups = read_setups(settings.webhooks_file, trace_url=settings.trace_url)
        self._objects = Objects(self._client, self._url, name=f"{AGENT} command")
        self._publisher = Publisher(self._client, self._url, name=f"{AGENT} command")

    async def __aenter__(self) -> Self:
        # The first question shows a broker that is away, before anything waits for it.
        await self._objects.depth(self._settings.broker_topology.streams[0])
        await self._publisher.__aenter__()
        await self._publisher.wait_connected()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._publisher.close()
        await self._objects.aclose()

    @property
    def names(self) -> Sequence[str]:
        """The endpoints of the file."""
        return sorted(self._setups)

    async def rows(self) -> list[Row]:
        """All endpoints of the file, and those that it no longer has whose queues are there."""
        known: set[str] = set()
        if await self._objects.depth(webhook_names().name) is not None:
            async with self._following(webhook_names()) as stream:
                known = set((await stream.sync()).names)
        rows = [await self.row(name) for name in self.names]
        left = [await self.row(name) for name in sorted(known - self._setups.keys())]
        return rows + [replace(row, state=REMOVED) for row in left if row.state != NEW]

    async def row(self, name: str) -> Row:
        """What is known of an endpoint; one that no forwarder has run yet is `new`."""
        queued = await self._objects.depth(webhook_queue(name).name)
        dead = await self._objects.depth(webhook_dead_letters(name).name)
        if queued is None:
            return Row(
                name=name, state=NEW, queued=0, dead=dead or 0, failures=0, failing_since=None, next_try=None, last=""
            )
        async with self._state(name) as stream:
            state = await stream.sync()
        wait = state.waits_until()
        return Row(
            name=name,
            state=_word(state),
            queued=queued,
            dead=dead or 0,
            failures=state.progress.failures,
            failing_since=state.progress.failing_since,
            next_try=wait if wait > time.time() else None,
            last=state.control.reason if state.control.mode != "running" else state.progress.last,
        )

    async def set_mode(self, name: str, mode: Literal["running", "paused"], reason: str) -> None:
        """
        Pause or resume an endpoint; resuming ends a wait, too.

        Raises:
            ConfigurationError: there is no such endpoint.
        """
        await self._require_queue(name)
        async with self._state(name) as stream:
            state = await stream.sync()
            control = Control(version=state.control.version + 1, mode=mode, reason=reason, at=time.time())
            await stream.sync(Record(control=control))

    async def test(self, name: str) -> Answer | Fault:
        """
        Post one signed event of type `loopcast.test` to an endpoint, now, whatever its state.

        Raises:
            ConfigurationError: the file has no such endpoint.
        """
        setup = self._setup(name)
        now = time.time()
        event = Event(
            id=uuid7(),
            source=source_of("loopcast-test", "test"),
            type="loopcast.test",
            time=format_time(int(now * 1e6)),
            experiment="loopcast-test",
            run="test",
            data=msgspec.Raw(b'{"event":"loopcast.test","message":"a test by loopcast webhooks test"}'),
        )
        delivery = Delivery(
            tag=0, routing_key="", body=event.encode(), message_id=event.id, app_id=APP_ID, content_type=CLOUDEVENT
        )
        payload = encode_payload([delivery], setup.endpoint)
        headers = {
            **setup.credentials.headers,
            "Content-Type": payload.content_type,
            **sign(setup.credentials.keys, id=call_id([event.id]), timestamp=int(now), body=payload.body),
        }
        egress = Egress(
            allow_private=setup.endpoint.allow_private, timeout=setup.endpoint.timeout, tls=setup.tls, agent=AGENT
        )
        async with egress:
            return await egress.post(setup.credentials.url, payload.body, headers, now=now)

    async def dead(self, name: str, limit: int) -> list[Mapping[str, object]]:
        """The first dead letters of an endpoint; they stay where they are."""
        await self._require_queue(name)
        found: list[Mapping[str, object]] = []
        queue = webhook_dead_letters(name).name
        there = min(limit, MAX_LOOK, await self._objects.depth(queue) or 0)
        if there:
            # All that can be had, whatever is asked for: the broker puts a part of what it took back once before behind
            # the rest, and all of it in its place.
            async with self._given(queue, MAX_LOOK) as batches:
                async for batch in batches:
                    found += [_described(delivery) for delivery in batch]
                    if len(found) >= there:
                        break
        return found[:limit]

    async def replay_dead(self, name: str, *, since: float, limit: int) -> int:
        """Put dead letters back into the queue, the oldest first, each confirmed before it is taken away: how many."""
        await self._require_queue(name)
        count = seen = 0
        queue = webhook_dead_letters(name).name
        there = await self._objects.depth(queue) or 0
        if not there:
            return 0
        async with self._consumer(queue) as consumer, self._quiet(consumer) as batches:
            async for batch in batches:
                chosen = [d for d in batch if taken_at(d) >= since and f"{DEAD}first-offset" not in d.headers]
                chosen = chosen[: limit - count]
                # What is left alone would fill what the broker gives ahead, and hide the letters behind it.
                tags = {delivery.tag for delivery in chosen}
                behind = [] if there <= MAX_LOOK else [d for d in batch if d.tag not in tags]
                await self._put([replayed(name, d) for d in chosen] + [put_behind(name, d) for d in behind])
                for delivery in (*chosen, *behind):
                    consumer.ack(delivery.tag, multiple=False)
                count, seen = count + len(chosen), seen + len(batch)
                if count >= limit or seen >= there:
                    break
            # The acknowledgements are written by tasks of their own.
            await asyncio.sleep(0.1)
        return count

    async def replay_log(self, name: str, *, since: float, limit: int) -> int:
        """Put what the log has for an endpoint since a Unix time into its queue, under the same ids: how many."""
        patterns = self._setup(name).endpoint.patterns
        await self._require_queue(name)
        count = 0
        for stream in self._settings.broker_topology.streams:
            marked = await mark(self._publisher, stream)
            reading = read_until(self._client, self._url, stream, f"@{int(since)}", marked, name=f"{AGENT} replay")
            async with contextlib.aclosing(reading) as batches:
                async for batch in batches:
                    chosen = [
                        replayed(name, d)
                        for d in batch
                        if d.type != HEARTBEAT
                        and taken_at(d) >= since
                        and any(matches(pattern, d.routing_key) for pattern in patterns)
                    ][: limit - count]
                    for start in range(0, len(chosen), CHUNK):
                        await self._put(chosen[start : start + CHUNK])
                    count += len(chosen)
                    if count >= limit:
                        break
        return count

    async def drop(self, name: str, *, dead: bool) -> int:
        """
        Delete the queue and the state of an endpoint that the file no longer has: how many events went with them.

        Raises:
            ConfigurationError: the file still has it, or there is no such endpoint.
        """
        if name in self._setups:
            raise ConfigurationError(f"Take {name} out of {self._settings.webhooks_file} first: it would come again.")
        await self._require_queue(name)
        queues = [webhook_queue(name).name, *([webhook_dead_letters(name).name] if dead else [])]
        count = sum([await self._objects.depth(queue) or 0 for queue in queues])
        for queue in (*queues, webhook_state(name).name):
            await self._objects.delete(queue)
        return count

    def _setup(self, name: str) -> Setup:
        if name not in self._setups:
            known = ", ".join(self.names) or "none"
            raise ConfigurationError(f"{self._settings.webhooks_file} has no endpoint {name!r}; it has: {known}.")
        return self._setups[name]

    async def _require_queue(self, name: str) -> None:
        found = [await self._objects.depth(q.name) for q in (webhook_queue(name), webhook_dead_letters(name))]
        if found == [None, None]:
            raise ConfigurationError(f"The broker has no endpoint {name!r}: has a forwarder run with it?")
        if None in found:
            await self._objects.ensure(name)

    @contextlib.asynccontextmanager
    async def _state(self, name: str) -> AsyncIterator[StateStream]:
        async with self._following(webhook_state(name)) as stream:
            yield stream

    @contextlib.asynccontextmanager
    async def _following(self, queue: Queue) -> AsyncIterator[StateStream]:
        stream = StateStream(self._client, self._url, queue.name, self._publisher, on_change=lambda: None)
        async with stream.following():
            yield stream

    @contextlib.asynccontextmanager
    async def _consumer(self, queue: str) -> AsyncIterator[Consumer]:
        async with Consumer(self._client, self._url, queue, name=f"{AGENT} command", prefetch=MAX_LOOK) as consumer:
            yield consumer

    @contextlib.asynccontextmanager
    async def _given(self, queue: str, count: int) -> AsyncIterator[AsyncIterator[list[Delivery]]]:
        """What a queue gives, at most `count` at a time, until it is quiet; nothing is acknowledged."""
        consumer = Consumer(self._client, self._url, queue, name=f"{AGENT} command", prefetch=count)
        async with consumer, self._quiet(consumer) as batches:
            yield batches

    @contextlib.asynccontextmanager
    async def _quiet(self, consumer: Consumer) -> AsyncIterator[AsyncIterator[list[Delivery]]]:
        """The consumer's batches until nothing came for a while."""
        came: asyncio.Queue[list[Delivery]] = asyncio.Queue()

        async def fill() -> None:
            async for batch in consumer.batches():
                came.put_nowait(batch)

        async def take() -> AsyncIterator[list[Delivery]]:
            with contextlib.suppress(TimeoutError):
                while True:
                    yield await asyncio.wait_for(came.get(), QUIET_SECONDS)

        task = asyncio.create_task(fill())
        try:
            await consumer.wait_connected()
            yield take()
        finally:
            await consumer.close()
            task.cancel()
            await asyncio.wait([task])

    async def _put(self, messages: Sequence[Message]) -> None:
        if messages:
            await self._publisher.publish(messages, timeout=PUBLISH_SECONDS)


def _word(state: State) -> str:
    mode, progress = state.control.mode, state.progress
    if mode != "running":
        return mode
    if progress.spill is not None:
        return "catching up"
    return {"closed": "ok" if not progress.failures else "retrying"}.get(progress.phase, progress.phase)


def _described(delivery: Delivery) -> Mapping[str, object]:
    own: Callable[[str], object] = lambda name: delivery.headers.get(f"{DEAD}{name}")  # noqa: E731 - read four times
    return {
        "id": delivery.message_id,
        "experiment": delivery.headers.get("experiment"),
        "type": delivery.type,
        "reason": own("reason"),
        "attempts": own("attempts"),
        "at": own("at"),
        "answer": own("answer"),
        "count": own("count"),
    }
