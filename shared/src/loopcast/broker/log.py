"""
Reading one stream of the log by offset, for ever: over lost connections, without a hole that nobody is told of.

A stream answers a wrong offset with silence (measured on 3.10.8): truncated, it starts later; deleted and made anew, it
gives another message; past its end, it gives nothing, ever. So a reader that comes back reads its last delivery once
more and compares: the same id at the same offset proves that this is the log that it was reading. Anything else ends
the iteration with :exc:`~loopcast.errors.LogChanged`, and the caller decides where to begin again. What a caller starts
from is the caller's to prove, with :func:`loopcast.position.verify`.

Nor does a connection that stands say anything when retention overtakes a slow reader: the next delivery is of the
first segment that is left (measured on 3.10.8; `osiris_log:read_header0` in 4.0.5). So at a hole in the offsets that
is larger than the broker's own records leave, the stream is asked for its first offset, before anything behind the
hole is handed over. And such a consumer may stay silent for ever, whatever is published (3.10.8, about one in ten):
with `silent_seconds` a reader that gets nothing for so long looks by another connection whether there is something,
and opens its own anew where there is.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncGenerator, Sequence

import structlog

from loopcast.broker.acks import ACK_SECONDS, Acks
from loopcast.broker.feed import Feed
from loopcast.broker.interface import Client, ConsumeLink, Delivery, OnDeliveries, StreamOffset
from loopcast.broker.resume import Resume, unbroken
from loopcast.broker.supervised import Supervised
from loopcast.broker.supervisor import Backoff, Supervisor
from loopcast.errors import BrokerError, BrokerUnavailable, LogChanged
from loopcast.position import Anchor

__all__ = ["LOG_PREFETCH", "SILENT_SECONDS", "LogReader"]

log = structlog.get_logger(__name__)

LOG_PREFETCH = 2000
PROOF_SECONDS = 5.0
"""How long the delivery that proves the log may take: it lies in the stream, so it costs the broker one disk read."""
SILENT_SECONDS = 15.0
"""For readers that live as long as their service, of a log that is rarely quiet: after how long to look."""
LOOK_SECONDS = 2.0
"""How long such a look may take. What a stream has comes in a few milliseconds."""
LATE_SECONDS = 1.0
"""How much later than to whoever looks something may come that was published in that moment."""
HOLE_SECONDS = 0.5
"""How long until a broker is asked again that did not answer where the stream begins."""
DOUBT_SECONDS = 3.0
"""How long a stream that passes over what it has is asked again before it is believed that it lost it."""


class LogReader(Supervised[ConsumeLink]):
    """
    One reader of one stream, on a connection that publishes nothing.

    What is buffered is bounded by `prefetch`: only what was handed over is acknowledged, so a slow caller slows the
    broker down and nobody else. One iteration at a time. `only` is the filter value of
    :meth:`loopcast.broker.interface.Client.open_consumer`; `silent_seconds` is after how long without a
    delivery to look whether there is one, never if it is None.
    """

    def __init__(
        self,
        client: Client,
        url: str,
        stream: str,
        *,
        name: str,
        prefetch: int = LOG_PREFETCH,
        backoff: Backoff | None = None,
        proof_seconds: float = PROOF_SECONDS,
        only: str | None = None,
        silent_seconds: float | None = None,
    ) -> None:
        self._client = client
        self._url = url
        self._stream = stream
        self._name = name
        self._prefetch = prefetch
        self._proof_seconds = proof_seconds
        self._only = only
        self._silent_seconds = silent_seconds
        self.server_version = ""
        """What the broker said of itself when it was last connected."""
        self._resume = Resume("next")
        self._doubted: float | None = None
        """Since when the stream says that it lost what it has."""
        self._feed = Feed()
        self._acks = Acks(prefetch)
        self._waits_since = 0.0
        """Since when the link that stands has brought nothing."""
        super().__init__(Supervisor(self._connect, name=name, on_up=self._stands, on_down=self._lost, backoff=backoff))

    async def batches(self, start: StreamOffset) -> AsyncGenerator[Sequence[Delivery], None]:
        """
        What the stream has from `start` on, in batches as they come, until :meth:`close`.

        Deliveries below an offset that was asked for are dropped: the broker begins with the chunk that has it. A
        timestamp is exact to the chunk only, so the caller drops what is too old.

        Raises:
            LogChanged: retention overtook the reading; or after a reconnect the log had lost what was read last, or is
                another one.
        """
        if self._feed.closed:
            return
        self._resume, self._feed = Resume(start), Feed()
        self._supervisor.start()
        tending = [asyncio.create_task(self._ack_in_time()), asyncio.create_task(self._look_in_time())]
        try:
            while batch := await self._take():
                # Hole by hole; not what its link, when it goes meanwhile, will bring again.
                link = self._feed.generation
                while batch and await self._may_follow(batch[0], link):
                    count = len(batch) if self._only is not None else unbroken(batch)
                    piece, batch = batch[:count], batch[count:]
                    self._resume.handed(piece[-1])
                    self._ack(self._acks.handed(piece[-1].tag, time.monotonic()))
                    yield piece
        finally:
            for task in tending:
                task.cancel()
            await self._supervisor.close()

    async def _take(self) -> Sequence[Delivery]:
        self._waits_since = time.monotonic()
        try:
            return await self._feed.take()
        finally:
            # Who does not wait is not kept waiting.
            self._waits_since = math.inf

    async def _may_follow(self, delivery: Delivery, link: int) -> bool:
        """
        Whether `delivery` may be handed over next: nothing was lost before it, and the link that brought it stands.

        What the broker filters has holes everywhere, and is not asked about.

        Raises:
            LogChanged: retention has taken what was in the hole.
        """
        asks = self._only is None and not self._resume.follows(delivery)
        while asks and link == self._feed.generation:
            first = None
            with contextlib.suppress(BrokerError):
                first = await self._first()
            if first is None:
                await asyncio.sleep(HOLE_SECONDS)
            elif self._resume.last is not None and first > self._resume.last:
                raise self._changed(Anchor.TRUNCATED)
            else:
                break
        return link == self._feed.generation

    async def renew(self) -> None:
        """Give up the connection that stands and open another: who calls this knows that it should say something."""
        link = self._supervisor.link
        if link is not None:
            await link.close()

    async def close(self) -> None:
        """End the connection, and the iteration after the batch that it is at."""
        self._feed.close()
        await self._supervisor.close()

    def _stands(self, _: ConsumeLink) -> None:
        if self._waits_since != math.inf:
            self._waits_since = time.monotonic()
        self._feed.up()

    def _lost(self, reason: BrokerError) -> None:
        self._feed.down()
        if isinstance(reason, LogChanged):
            self._feed.fail(reason)

    def _ack(self, tag: int | None) -> None:
        link = self._supervisor.link
        if tag is not None and link is not None:
            link.ack(tag)

    async def _ack_in_time(self) -> None:
        while True:
            await asyncio.sleep(ACK_SECONDS / 10)
            self._ack(self._acks.due(time.monotonic()))

    async def _look_in_time(self) -> None:
        while self._silent_seconds is not None:
            await asyncio.sleep(self._silent_seconds / 3)
            if self.connected and time.monotonic() - self._waits_since >= self._silent_seconds:
                await self._look(self._waits_since)

    async def _look(self, since: float) -> None:
        """Open a link anew that brought nothing `since`, where the stream has something for it."""
        resume, beyond = self._resume, None
        # Of a beginning in time the stream gives what was before it too, which says nothing.
        if resume.offset == "first" or isinstance(resume.offset, int):
            with contextlib.suppress(BrokerError):
                beyond = await self._ask(resume.offset, behind=resume.last, seconds=LOOK_SECONDS)
        if beyond is not None:
            await asyncio.sleep(LATE_SECONDS)
        if since != self._waits_since:
            return
        if beyond is not None:
            log.warning("consumer_silent", connection=self._name, stream=self._stream, offset=beyond)
            await self.renew()
        self._waits_since = time.monotonic()

    async def _connect(self) -> ConsumeLink:
        """
        Open a link at the place to go on from, proven to be the place.

        Silence is proof only where the stream is known to answer: it is asked for its beginning, and then once more.
        """
        link = await self._open_proven()
        if link is None and await self._first() is not None:
            link = await self._open_proven()
            if link is None:
                raise self._changed(Anchor.EPOCH_CHANGED)
        if link is None:
            raise BrokerUnavailable(f"{self._stream} gives nothing, not even what was read from it before.")
        return link

    async def _open_proven(self) -> ConsumeLink | None:
        """A link whose first delivery proved the stream, or None where nothing came."""
        proof: asyncio.Future[Anchor] = asyncio.get_running_loop().create_future()
        resume = self._resume

        def admit(deliveries: Sequence[Delivery]) -> Sequence[Delivery]:
            anchor, fresh = resume.came(deliveries)
            if anchor is not None and not proof.done():
                proof.set_result(anchor)
            return fresh

        needed = resume.begin()
        self._acks = Acks(self._prefetch)
        asked = time.time()
        link = await self._open(self._feed.begin(admit), resume.offset, prefetch=self._prefetch)
        resume.opened(asked)
        if not needed:
            return link
        try:
            anchor = await asyncio.wait_for(proof, self._proof_seconds)
        except TimeoutError:
            await link.close()
            return None
        except BaseException:
            await link.close()
            raise
        if anchor is not Anchor.PROVEN:
            await link.close()
            if anchor is Anchor.TRUNCATED and await self._passed_over():
                raise BrokerUnavailable(f"{self._stream} passes over what it still has (offset {resume.last}).")
            raise self._changed(anchor)
        self._doubted = None
        return link

    async def _passed_over(self) -> bool:
        """
        Whether the stream passed over what it should still have: retention takes its beginning and nothing else.

        A consumer that asks for an offset which a log that is just being filled anew does not have yet may be given a
        later one first; asked again, the log says what it is.
        """
        first, now = await self._first(), time.monotonic()
        if first is None:
            # It has just given something: a broker that is slow now.
            return True
        if self._resume.last is None or first > self._resume.last:
            return False
        self._doubted = self._doubted or now
        return now < self._doubted + DOUBT_SECONDS

    async def _first(self) -> int | None:
        """The first offset that the stream has, or None where it has nothing to give now."""
        return await self._ask("first", behind=None, seconds=self._proof_seconds)

    async def _ask(self, offset: StreamOffset, *, behind: int | None, seconds: float) -> int | None:
        """The first offset `behind` another one that the stream gives from `offset` on; None where it gives none."""
        came: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def take(deliveries: Sequence[Delivery]) -> None:
            found = next((d.offset for d in deliveries if behind is None or d.offset > behind), None)
            if found is not None and not came.done():
                came.set_result(found)

        link = await self._open(take, offset, prefetch=1 if behind is None else self._prefetch)
        try:
            return await asyncio.wait_for(came, seconds)
        except TimeoutError:
            return None
        finally:
            await link.close()

    async def _open(self, came: OnDeliveries, offset: StreamOffset, *, prefetch: int) -> ConsumeLink:
        link = await self._client.open_consumer(
            self._url, self._stream, came, name=self._name, prefetch=prefetch, offset=offset, only=self._only
        )
        self.server_version = link.server_version
        return link

    def _changed(self, anchor: Anchor) -> LogChanged:
        happened = "has lost what was read last" if anchor is Anchor.TRUNCATED else "is not the log it was"
        return LogChanged(f"{self._stream} {happened} (offset {self._resume.last}).", reason=anchor)
