"""
Messages that a gateway puts straight into a stream and sees come back: where the log ends, and how late it comes.

A broker cannot be asked where a stream ends. What stands before a heartbeat that came back is history, what comes after
it is live, and an offset beyond it is of another log. One that does not come back over a connection that stands tells
that the consumer is dead, which nobody else would ever say.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence

from loopcast.broker.interface import Delivery, HeaderValue, Message
from loopcast.broker.publisher import Publisher
from loopcast.ids import uuid7
from loopcast.topology import APP_ID, HEARTBEAT
from loopcast_gateway.partition import CHECKPOINT

__all__ = ["HEARTBEAT_SECONDS", "Heartbeats"]

HEARTBEAT_SECONDS = 10.0
PUBLISH_SECONDS = 5.0
OUTSTANDING = 100


class Heartbeats:
    """Those of one gateway in one stream."""

    def __init__(self, publisher: Publisher, stream: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._publisher = publisher
        self._stream = stream
        self._clock = clock
        self._awaited: dict[str, asyncio.Future[int]] = {}
        self._sending: dict[str, float] = {}
        """Not confirmed yet. One may be back before that: its delivery and its confirm come over two connections."""
        self._sent: OrderedDict[str, float] = OrderedDict()
        self._lag = 0.0

    @property
    def lag(self) -> float:
        """Seconds that the last heartbeat took, or that the earliest one takes that is not back yet."""
        oldest = next(iter(self._sent.values()), None)
        return self._lag if oldest is None else max(self._lag, self._clock() - oldest)

    @property
    def overdue(self) -> float:
        """For how many seconds a heartbeat that the broker has confirmed has not come back; 0 where none is missing."""
        oldest = next(iter(self._sent.values()), None)
        return 0.0 if oldest is None else self._clock() - oldest

    def forgive(self) -> None:
        """Wait for no heartbeat any more that was sent before now."""
        self._sending.clear()
        self._sent.clear()

    async def mark(self, timeout: float) -> int:
        """
        The offset of a heartbeat sent now: whatever was in the log when this was called stands before it.

        Raises:
            TimeoutError: it did not come back in time.
            BrokerError: it could not be sent.
        """
        id_ = uuid7()
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._awaited[id_] = future
        try:
            async with asyncio.timeout(timeout):
                await self._publisher.wait_connected()
                await self._publisher.publish([self._message(id_)], timeout=timeout)
                return await future
        finally:
            del self._awaited[id_]

    async def beat(self, checkpoint: int | None = None) -> None:
        """
        Send one; `checkpoint` is the offset up to which a checkpoint was written just now.

        Raises:
            BrokerError: it could not be sent, or was not confirmed.
        """
        id_ = uuid7()
        self._sending[id_] = self._clock()
        try:
            await self._publisher.publish([self._message(id_, checkpoint)], timeout=PUBLISH_SECONDS)
        finally:
            sent = self._sending.pop(id_, None)
        if sent is not None:
            self._sent[id_] = sent
        if len(self._sent) > OUTSTANDING:
            self._sent.popitem(last=False)

    def came(self, deliveries: Sequence[Delivery]) -> None:
        """The reader got these."""
        if not (self._awaited or self._sent or self._sending):
            return
        for delivery in deliveries:
            if delivery.type != HEARTBEAT:
                continue
            waited_for = self._sent if delivery.message_id in self._sent else self._sending
            if (sent := waited_for.pop(delivery.message_id, None)) is not None:
                self._lag = self._clock() - sent
            future = self._awaited.get(delivery.message_id)
            if future is not None and not future.done():
                future.set_result(delivery.offset)

    def _message(self, id_: str, checkpoint: int | None = None) -> Message:
        headers: dict[str, HeaderValue] = {} if checkpoint is None else {CHECKPOINT: checkpoint}
        return Message(
            exchange="",
            routing_key=self._stream,
            body=b"{}",
            message_id=id_,
            type=HEARTBEAT,
            app_id=APP_ID,
            headers=headers,
            timestamp=int(time.time()),
        )
