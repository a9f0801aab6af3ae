"""
A state stream, of an endpoint or of all: following it, and writing to it so that the writer knows where it stands.

A stream cannot be asked for its end, so whoever has to know all that was written before writes a record of its own and
waits until that one comes back: what lies before it has been read by then.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import structlog

from loopcast.broker.interface import Client, Message
from loopcast.broker.log import LogReader
from loopcast.broker.publisher import Publisher
from loopcast.errors import BrokerError, LogChanged
from loopcast.ids import uuid7
from loopcast.topology import APP_ID
from loopcast_webhook_forwarder.state import Record, State, decode, encode, fold

__all__ = ["StateStream"]

PUBLISH_SECONDS = 10.0
PREFETCH = 200
log = structlog.get_logger(__name__)


class StateStream:
    """
    What a stream tells, of one endpoint or of all, as this process knows it. `on_change` is called after each record.

    The publisher is the endpoint's own, and its `prepare` makes the stream where it is missing.
    """

    def __init__(
        self, client: Client, url: str, stream: str, publisher: Publisher, *, on_change: Callable[[], None]
    ) -> None:
        self._client = client
        self._url = url
        self._stream = stream
        self._publisher = publisher
        self._on_change = on_change
        self._awaited: dict[str, asyncio.Event] = {}
        self.state = State()

    @contextlib.asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        """Follow the stream while the block runs."""
        task = asyncio.create_task(self._follow())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def write(self, record: Record) -> None:
        """
        Write, and wait for the broker's confirm.

        Raises:
            BrokerError: it was not confirmed; it may have been written.
        """
        await self._publish(self._message(record))

    async def sync(self, record: Record | None = None) -> State:
        """
        Write `record`, or a mark, and wait until it has been read: the state with all that was written before it.

        Raises:
            BrokerError: it was not confirmed, or did not come back in time; it may have been written.
        """
        message = self._message(record or Record())
        came = self._awaited[message.message_id] = asyncio.Event()
        try:
            await self._publish(message)
            async with asyncio.timeout(PUBLISH_SECONDS):
                await came.wait()
        except TimeoutError:
            raise BrokerError(f"{self._stream} did not give back what was written to it.") from None
        finally:
            del self._awaited[message.message_id]
        return self.state

    async def _publish(self, message: Message) -> None:
        await self._publisher.publish([message], timeout=PUBLISH_SECONDS)

    def _message(self, record: Record) -> Message:
        return Message(
            exchange="",
            routing_key=self._stream,
            body=encode(record),
            message_id=uuid7(),
            type="loopcast.webhook.state",
            content_type="application/json",
            app_id=APP_ID,
        )

    async def _follow(self) -> None:
        while True:
            async with LogReader(
                self._client, self._url, self._stream, name=f"follow {self._stream}", prefetch=PREFETCH
            ) as reader:
                try:
                    async for deliveries in reader.batches("first"):
                        for delivery in deliveries:
                            self._read(delivery.message_id, delivery.body)
                        self._on_change()
                except LogChanged as error:
                    log.warning("state_read_again", stream=self._stream, reason=str(error))
                    self.state = State()

    def _read(self, message_id: str, body: bytes) -> None:
        self.state = fold(self.state, decode(body))
        if (came := self._awaited.get(message_id)) is not None:
            came.set()
