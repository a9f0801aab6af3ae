"""
A checkpoint that any replica of a reader may append to, without a lease.

The state is a function of the log before its position, so it does not matter who wrote it: of several records the one
that is furthest on counts. A reader that finds its log to be another one begins a new epoch, whose records count more
than those of the log that is gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from loopcast.broker.interface import Client, Delivery, Message, StreamOffset
from loopcast.broker.publisher import Publisher
from loopcast.checkpoint.record import MAX_BYTES, Record, choose, encode
from loopcast.checkpoint.recovery import read_until
from loopcast.ids import uuid7
from loopcast.topology import APP_ID, checkpoint_stream

__all__ = ["SharedCheckpoint"]

LAST_RECORDS = 8
PUBLISH_SECONDS = 20.0
RECORD = "loopcast.checkpoint"


class SharedCheckpoint:
    """The checkpoint of `reader` for one partition; records go out over `publisher`, which need not be its own."""

    def __init__(
        self, client: Client, url: str, publisher: Publisher, reader: str, partition: int, *, name: str, form: str
    ) -> None:
        self._client = client
        self._url = url
        self._publisher = publisher
        self._stream = checkpoint_stream(reader, partition)
        self._name = name
        self._form = form
        self.epoch = 1
        """Of the records that are appended."""
        self.size = 0
        """Bytes of the last record that was appended."""

    async def recall(self) -> Record | None:
        """
        The record that counts, None where there is none. Makes the stream where it is missing.

        Raises:
            BrokerError: the broker does not answer, or has something else under the stream's name.
        """
        link = await self._client.open_admin(self._url, name=f"{self._name} checkpoint")
        try:
            await link.declare(self._stream)
        finally:
            await link.close()
        # A stream does not say where it ends: whoever sees its own mark has read all there is.
        mark = await self._publish(encode(Record(epoch=0)))

        async def read(start: StreamOffset) -> list[Delivery]:
            return await read_until(self._client, self._url, self._stream.name, start, mark, name=self._name)

        last = await read("last")
        deliveries = await read(max(0, last[0].offset - LAST_RECORDS))
        chosen, highest = await asyncio.to_thread(choose, [d.body for d in deliveries], self._form)
        if chosen is None and deliveries[0].offset > 0:
            deliveries = await read("first")
            chosen, highest = await asyncio.to_thread(choose, [d.body for d in deliveries], self._form)
        self.epoch = max(1, highest)
        return chosen

    def begin_epoch(self) -> None:
        """What was recalled is of a log that is gone: records from now on count more."""
        self.epoch += 1

    async def append(self, token: str, parts: Mapping[str, bytes]) -> None:
        """
        Write down the state `parts` at the position `token`.

        Raises:
            BrokerError: it may or may not be there.
            ValueError: it is larger than a record may be.
        """
        body = await asyncio.to_thread(encode, Record(self.epoch, token, self._form, parts))
        if len(body) > MAX_BYTES:
            raise ValueError(f"this state has {len(body)} bytes and a checkpoint at most {MAX_BYTES}")
        await self._publish(body)
        self.size = len(body)

    async def _publish(self, body: bytes) -> str:
        id_ = uuid7()
        message = Message(
            exchange="",
            routing_key=self._stream.name,
            body=body,
            message_id=id_,
            type=RECORD,
            content_type="application/octet-stream",
            app_id=APP_ID,
        )
        await self._publisher.publish([message], timeout=PUBLISH_SECONDS)
        return id_
