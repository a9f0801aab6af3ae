"""
Consuming a queue: deliveries in batches, acknowledged by the caller when their work is done.

A consumer ends by closing its channel, never by `basic.cancel` or `basic.nack`: measured, those hand a single active
consumer's messages to the standby out of order, and closing the channel puts them back in order.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from loopcast.broker.feed import Feed
from loopcast.broker.interface import Client, ConsumeLink, Delivery
from loopcast.broker.supervised import Supervised
from loopcast.broker.supervisor import Backoff, Supervisor

__all__ = ["Consumer"]


class Consumer(Supervised[ConsumeLink]):
    """
    One consumer of one queue, on a connection that publishes nothing.

    The tags of its deliveries go on counting over reconnects, so that an acknowledgement that comes too late names
    nothing of the new connection: it is ignored, and the message comes again, `redelivered`.
    """

    def __init__(
        self,
        client: Client,
        url: str,
        queue: str,
        *,
        name: str,
        prefetch: int,
        exclusive: bool = False,
        backoff: Backoff | None = None,
    ) -> None:
        self._client = client
        self._url = url
        self._queue = queue
        self._name = name
        self._prefetch = prefetch
        self._exclusive = exclusive
        self._feed = Feed()
        self._before = 0
        self._highest = 0
        self._done = 0
        super().__init__(
            Supervisor(
                self._connect,
                name=name,
                on_up=lambda _: self._feed.up(),
                on_down=lambda _: self._feed.down(),
                backoff=backoff,
            )
        )

    async def batches(self) -> AsyncGenerator[list[Delivery], None]:
        """What the queue gives, in batches as they come, until :meth:`close`; at most `prefetch` are unacknowledged."""
        if self._feed.closed:
            return
        self._feed = Feed()
        self._supervisor.start()
        try:
            while batch := await self._feed.take():
                yield batch
        finally:
            await self._supervisor.close()

    def ack(self, tag: int, *, multiple: bool = True) -> None:
        """
        Acknowledge a delivery, and with `multiple` all before it.

        Nothing happens for a delivery of a connection that is gone, and for one that `multiple` spoke for already: the
        broker would close the channel (https://www.rabbitmq.com/docs/confirms, "double acking").
        """
        link = self._supervisor.link
        if link is None or tag <= max(self._before, self._done):
            return
        if multiple:
            self._done = tag
        link.ack(tag - self._before, multiple=multiple)

    async def close(self) -> None:
        """Close the channel and the connection: what is not acknowledged goes back to its place in the queue."""
        self._feed.close()
        await self._supervisor.close()

    async def _connect(self) -> ConsumeLink:
        self._before = self._highest
        came = self._feed.begin(self._renumbered)
        return await self._client.open_consumer(
            self._url, self._queue, came, name=self._name, prefetch=self._prefetch, exclusive=self._exclusive
        )

    def _renumbered(self, deliveries: Sequence[Delivery]) -> Sequence[Delivery]:
        for delivery in deliveries:
            delivery.tag += self._before
        self._highest = deliveries[-1].tag
        return deliveries
