"""
A broker in memory, with streams and nothing else: for what no real broker does when it is told to.

Its consumers can be made silent while their connections stand, its streams truncated, deleted and made anew, in any
moment. Offsets have holes, as a broker's do.
"""

from __future__ import annotations

import asyncio
import itertools
import sys

from loopcast.broker.interface import Delivery, Message, Settlement
from loopcast.errors import BrokerUnavailable, LogMissing

__all__ = ["MemoryBroker"]

FILTERED = 16
"""Offsets of a part of a stream that is left out as a whole."""

CHUNK = 50


class Stream:
    """The messages of one stream."""

    def __init__(self) -> None:
        self.messages: list[Delivery] = []
        self.next = 0


class MemoryBroker:
    """Both the broker and the client that connects to it."""

    def __init__(self) -> None:
        self.streams: dict[str, Stream] = {}
        self.links: list[_Consumer] = []
        self.up = True
        self.version = "3.10.8"
        self.opened: list[str] = []
        """The names of the consumers that were opened."""

    async def open_publisher(self, url, on_settled, *, name):
        """Connect and publish."""
        del url, name
        await self._answer()
        return _Publisher(self, on_settled)

    async def open_consumer(
        self, url, queue, on_deliveries, *, name, prefetch, offset=None, exclusive=False, only=None
    ):
        """Connect and read a stream."""
        del url, exclusive
        await self._answer()
        if queue not in self.streams:
            raise LogMissing(f"There is no {queue}.")
        self.opened.append(name)
        link = _Consumer(self, queue, on_deliveries, prefetch=prefetch, offset=offset, name=name, only=only)
        self.links.append(link)
        return link

    async def open_admin(self, url, *, name):
        """Connect and declare streams."""
        del url, name
        await self._answer()
        return _Admin(self)

    def publish(self, message):
        """Append a message to the stream that its routing key names."""
        stream = self.streams[message.routing_key]
        stream.messages.append(
            Delivery(
                tag=0,
                routing_key=message.routing_key,
                body=message.body,
                message_id=message.message_id,
                type=message.type,
                headers=message.headers,
                app_id=message.app_id,
                timestamp=message.timestamp,
                offset=stream.next,
            )
        )
        stream.next += 1 + (stream.next % 97 == 96)
        for link in self.links:
            if link.queue == message.routing_key:
                link.wake()

    def fill(self, name, numbers):
        """Append a message to the stream for each of `numbers`, with the id `m-<number>`."""
        for n in numbers:
            self.publish(Message(exchange="", routing_key=name, body=b"{}", message_id=f"m-{n}", type="t"))

    def truncate(self, name, first):
        """Take away what stands before the offset `first`, as retention does."""
        stream = self.streams[name]
        stream.messages = [message for message in stream.messages if message.offset >= first]

    def delete(self, name):
        """Delete a stream; its consumers are told."""
        del self.streams[name]
        for link in [link for link in self.links if link.queue == name]:
            link.end(LogMissing("It was deleted."))

    async def _answer(self):
        await asyncio.sleep(0)
        if not self.up:
            raise BrokerUnavailable("away")


class _Link:
    def __init__(self) -> None:
        self._closed = asyncio.get_running_loop().create_future()

    async def wait_closed(self):
        return await asyncio.shield(self._closed)

    async def close(self):
        self.end(None)

    def end(self, reason):
        if not self._closed.done():
            self._closed.set_result(reason)


class _Publisher(_Link):
    blocked = None

    def __init__(self, broker, on_settled):
        super().__init__()
        self._broker, self._on_settled = broker, on_settled
        self._tags = itertools.count(1)

    def publish(self, messages):
        for message in messages:
            self._broker.publish(message)
            asyncio.get_running_loop().call_soon(self._on_settled, next(self._tags), False, Settlement.CONFIRMED)

    async def drain(self):
        pass


class _Consumer(_Link):
    def __init__(self, broker, queue, on_deliveries, *, prefetch, offset, name, only):
        super().__init__()
        self.only, self.server_version = only, broker.version
        self.broker, self.queue, self.name = broker, queue, name
        self._deliver, self._prefetch = on_deliveries, prefetch
        self.silent = False
        self._tag = self._acked = 0
        messages = broker.streams[queue].messages
        after = broker.streams[queue].next
        if isinstance(offset, str) and offset.startswith("@"):
            late = [m.offset for m in messages if m.headers.get("recorded", sys.maxsize) >= int(offset[1:]) * 1_000_000]
            self.next = late[0] if late else after
        elif isinstance(offset, int):
            self.next = offset
        else:
            self.next = {"first": 0, "next": after, "last": messages[-1].offset if messages else 0}[offset]
        self.wake()

    def wake(self):
        asyncio.get_running_loop().call_soon(self._send)

    def ack(self, tag, *, multiple=True):
        del multiple
        self._acked = max(self._acked, tag)
        self.wake()

    def end(self, reason):
        super().end(reason)
        if self in self.broker.links:
            self.broker.links.remove(self)

    def _send(self):
        stream = self.broker.streams.get(self.queue)
        if self.silent or stream is None or self._closed.done():
            return
        room = min(CHUNK, self._prefetch - (self._tag - self._acked))
        start = next((n for n, m in enumerate(stream.messages) if m.offset >= self.next), None)
        if room <= 0 or start is None:
            return
        batch = []
        for message in self._passing(stream.messages[start : start + room]):
            self._tag += 1
            fields = {name: getattr(message, name) for name in Delivery.__slots__}
            batch.append(Delivery(**{**fields, "tag": self._tag}))
        self.next = stream.messages[min(start + room, len(stream.messages)) - 1].offset + 1
        if batch:
            self._deliver(batch)
        self.wake()

    def _passing(self, messages):
        """The parts of the stream that may have what is asked for, as a broker judges it by their filter values."""
        if self.only is None or self.broker.version < "3.13":
            return messages
        parts = {
            m.offset // FILTERED for m in messages if m.headers.get("x-stream-filter-value", self.only) == self.only
        }
        return [message for message in messages if message.offset // FILTERED in parts]


class _Admin(_Link):
    def __init__(self, broker):
        super().__init__()
        self._broker = broker

    async def declare(self, queue):
        self._broker.streams.setdefault(queue.name, Stream())
