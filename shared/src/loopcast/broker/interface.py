"""
What publishing, reading the log and consuming a queue promise, whichever AMQP client does it.

Two layers. A *link* is one AMQP connection with one channel, made by a client library or by our own protocol: it knows
frames, tags and credits, and it dies with its connection. Above it, :class:`~loopcast.broker.publisher.Publisher`,
:class:`~loopcast.broker.log.LogReader` and :class:`~loopcast.broker.consumer.Consumer` live as long as the service:
they own the window, the position and the reconnecting. One conformance suite runs against every kind of link.

Publishing and consuming never share a connection: during a memory alarm RabbitMQ stops reading from a connection that
has published, its acknowledgements included (https://www.rabbitmq.com/docs/alarms).
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from loopcast.errors import BrokerError
from loopcast.topology import Binding, Queue, Topology

__all__ = [
    "AdminLink",
    "Client",
    "ConsumeLink",
    "Delivery",
    "HeaderValue",
    "Message",
    "OnDeliveries",
    "OnSettled",
    "PublishLink",
    "Settlement",
    "StreamOffset",
]

HeaderValue = str | int | bool | None
"""
What a header may hold. A delivery's headers of any other type (tables, arrays, bytes, times, fractions) are left out:
no rule of ours reads them, and a stranger may send anything.
"""

StreamOffset = int | str
"""Where to start in a stream: an offset, or `first`, `last`, `next`, or a Unix timestamp written `@1760000000`."""


class Message:
    """
    A message to publish.

    Plain attributes instead of a dataclass: one is made for every event.
    """

    __slots__ = (
        "app_id",
        "body",
        "content_type",
        "exchange",
        "headers",
        "message_id",
        "routing_key",
        "timestamp",
        "type",
    )

    def __init__(
        self,
        *,
        exchange: str,
        routing_key: str,
        body: bytes,
        message_id: str,
        type: str = "",  # noqa: A002 - the name of the AMQP property
        headers: Mapping[str, HeaderValue] | None = None,
        content_type: str = "",
        app_id: str = "",
        timestamp: int = 0,
    ) -> None:
        self.exchange = exchange
        self.routing_key = routing_key
        self.body = body
        self.message_id = message_id
        self.type = type
        self.headers: Mapping[str, HeaderValue] = {} if headers is None else headers
        self.content_type = content_type
        self.app_id = app_id
        self.timestamp = timestamp
        """Unix seconds: AMQP's timestamps have no fractions."""


class Delivery:
    """
    A message that came, from a queue or a stream.

    Plain attributes instead of a dataclass: one is made for every event.
    """

    __slots__ = (
        "app_id", "body", "content_type", "headers", "message_id", "offset", "redelivered", "routing_key", "tag",
        "timestamp", "type",
    )  # fmt: skip

    def __init__(
        self,
        *,
        tag: int,
        routing_key: str,
        body: bytes,
        message_id: str = "",
        type: str = "",  # noqa: A002 - the name of the AMQP property
        headers: Mapping[str, HeaderValue] | None = None,
        content_type: str = "",
        app_id: str = "",
        timestamp: int = 0,
        redelivered: bool = False,
        offset: int = -1,
    ) -> None:
        self.tag = tag
        self.routing_key = routing_key
        self.body = body
        self.message_id = message_id
        self.type = type
        self.headers: Mapping[str, HeaderValue] = {} if headers is None else headers
        self.content_type = content_type
        self.app_id = app_id
        self.timestamp = timestamp
        self.redelivered = redelivered
        self.offset = offset
        """The place in the stream (`x-stream-offset`, which is not among the headers); -1 for a queue."""


class Settlement(enum.Enum):
    """What the broker said of a published message."""

    CONFIRMED = "confirmed"
    """Every queue that it was routed to has it."""
    RETURNED = "returned"
    """It was routed nowhere (`mandatory`): the topology is missing."""
    REJECTED = "rejected"
    """A queue refused it (`basic.nack`)."""


OnSettled = Callable[[int, bool, Settlement], None]
"""Called with a publishing tag, whether it speaks for all unsettled tags up to it, and the settlement."""

OnDeliveries = Callable[[Sequence[Delivery]], None]
"""Called with what one read from the socket brought, in order; must not block and must not raise."""


class _Link(Protocol):
    """One connection with one channel."""

    async def wait_closed(self) -> BrokerError | None:
        """
        Wait until the link is gone; None if :meth:`close` was called, else why. Safe to cancel.

        :exc:`~loopcast.errors.LogMissing` where the broker closed the channel with 404 (no such exchange) or cancelled
        the consumer (the queue was deleted), :exc:`~loopcast.errors.BrokerUnavailable` for all else.
        """
        ...

    async def close(self) -> None:
        """Close channel and connection, in order. Safe to call again, and on a link that is gone."""
        ...


class PublishLink(_Link, Protocol):
    """
    A channel in confirm mode. Tags count from 1 in the order of the calls to :meth:`publish` (AMQP `confirm.select`).

    `on_settled` is called for each tag once; a returned message is told as `RETURNED`, not confirmed as well. The end
    of a link settles nothing.
    """

    def publish(self, messages: Sequence[Message]) -> None:
        """Write `messages` in order, `mandatory` and persistent, each with the next tag; never waits."""
        ...

    async def drain(self) -> None:
        """Wait while more is buffered than the socket takes."""
        ...

    @property
    def blocked(self) -> str | None:
        """The broker's reason while it takes nothing (`connection.blocked`), else None."""
        ...


class ConsumeLink(_Link, Protocol):
    """A channel with one consumer."""

    @property
    def server_version(self) -> str:
        """What the broker says of itself, such as `4.0.5`; empty where it does not."""
        ...

    def ack(self, tag: int, *, multiple: bool = True) -> None:
        """Acknowledge a delivery, and with `multiple` all before it. Never waits; nothing happens on a dead link."""
        ...


class AdminLink(_Link, Protocol):
    """
    A channel for what is not hot. A refused operation closes the channel and raises; the link opens another.

    Every operation raises :exc:`~loopcast.errors.BrokerUnavailable` where the connection goes or the broker refuses it
    for reasons of its own.
    """

    async def apply(self, topology: Topology) -> None:
        """
        Declare the exchanges, queues and bindings of `topology` that are missing.

        A log that exists with other retention stays as it is, with a warning that names the policy to set.

        Raises:
            TopologyMismatch: the log has another number of partitions, or an object is of another kind.
        """
        ...

    async def missing(self, topology: Topology) -> frozenset[str]:
        """The names of the queues and streams of `topology` that are not there."""
        ...

    async def verify(self, topology: Topology) -> None:
        """
        Check that the exchanges and queues of `topology` are there, without making any.

        Raises:
            LogMissing: one is not there; the sentence names it.
            TopologyMismatch: as :meth:`apply`.
        """
        ...

    async def declare(self, queue: Queue) -> None:
        """
        Declare one queue or stream; nothing where it is there.

        Raises:
            TopologyMismatch: it is there with other arguments.
        """
        ...

    async def bind(self, binding: Binding) -> None:
        """
        Bind; nothing where it is bound.

        Raises:
            LogMissing: source or destination is not there.
        """
        ...

    async def unbind(self, binding: Binding) -> None:
        """Take a binding away; nothing where there is none."""
        ...

    async def delete(self, queue: str) -> None:
        """Delete a queue or stream with what it holds; nothing where there is none."""
        ...

    async def depth(self, queue: str) -> int | None:
        """How many messages a queue holds that nobody was given yet; None where there is no such queue."""
        ...


class Client(Protocol):
    """How links are made. `url` is an AMQP URL (https://www.rabbitmq.com/docs/uri-spec)."""

    async def open_publisher(self, url: str, on_settled: OnSettled, *, name: str) -> PublishLink:
        """
        Connect and select confirm mode; `name` is what the broker's listings show.

        Raises:
            BrokerUnavailable: no connection, or the broker refused it; the sentence says why.
        """
        ...

    async def open_consumer(
        self,
        url: str,
        queue: str,
        on_deliveries: OnDeliveries,
        *,
        name: str,
        prefetch: int,
        offset: StreamOffset | None = None,
        exclusive: bool = False,
        only: str | None = None,
    ) -> ConsumeLink:
        """
        Connect and consume `queue`, from `offset` where it is a stream.

        With `only`, a broker that filters (3.13 or later) leaves out parts of the stream that have no message with this
        filter value, nor any without one. What comes is still to be looked at: a part has other messages too
        (https://www.rabbitmq.com/docs/stream-filtering).

        Raises:
            BrokerUnavailable: no connection, or the broker refused it; the sentence says why.
            LogMissing: there is no such queue.
        """
        ...

    async def open_admin(self, url: str, *, name: str) -> AdminLink:
        """
        Connect for declarations.

        Raises:
            BrokerUnavailable: no connection, or the broker refused it; the sentence says why.
        """
        ...
