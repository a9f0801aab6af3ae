"""
The client over aio-pika: the reference that faster ones are held against.

Connections, channels and declarations are aio-pika's; messages go over the channel that it gives for that
(`get_underlay_channel`), because its own message objects would double what one costs, and its confirms come without
their tags. One task per message is what publishing costs all the same; the hot paths may use another client behind the
same :class:`~loopcast.broker.interface.Client`.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import logging
from collections.abc import Sequence
from functools import partial
from typing import Any, cast

from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.exceptions import AMQPError, DeliveryError, PublishError
from aiormq.abc import DeliveredMessage
from aiormq.channel import Channel
from pamqp import commands
from pamqp.common import FieldTable

from loopcast.broker.aio_pika_admin import AioPikaAdmin
from loopcast.broker.aio_pika_connection import CLOSE_TIMEOUT, CONNECT_TIMEOUT, close, connect, underlay
from loopcast.broker.aio_pika_errors import end, refusal
from loopcast.broker.interface import (
    AdminLink,
    ConsumeLink,
    Delivery,
    HeaderValue,
    Message,
    OnDeliveries,
    OnSettled,
    PublishLink,
    Settlement,
    StreamOffset,
)
from loopcast.errors import BrokerError, BrokerUnavailable, LogMissing

__all__ = ["AioPikaClient"]

BLOCKED_CLOSE_TIMEOUT = 0.1
"""A broker under an alarm reads nothing from who has published, the goodbye included."""

_HEADER_TYPES = (str, int, type(None))


class AioPikaClient:
    """Links made by aio-pika."""

    async def open_publisher(self, url: str, on_settled: OnSettled, *, name: str) -> PublishLink:
        """Open a link as :meth:`loopcast.broker.interface.Client.open_publisher` says."""
        connection = await connect(url, name=name)
        async with _closing_on_error(connection):
            channel = await connection.channel(on_return_raises=True)
            return _Publish(connection, channel, await _under(channel), on_settled)

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
        """Open a link as :meth:`loopcast.broker.interface.Client.open_consumer` says."""
        connection = await connect(url, name=name)
        async with _closing_on_error(connection):
            channel = await connection.channel(publisher_confirms=False)
            await channel.set_qos(prefetch_count=prefetch)
            under = await _under(channel)
            link = _Consume(connection, channel, under, on_deliveries)
            arguments: FieldTable = {} if offset is None else {"x-stream-offset": _offset(offset)}
            if only is not None:
                arguments |= {"x-stream-filter": only, "x-stream-match-unfiltered": True}
            await under.basic_consume(queue, link.delivered, exclusive=exclusive, arguments=arguments)
            return link

    async def open_admin(self, url: str, *, name: str) -> AdminLink:
        """Open a link as :meth:`loopcast.broker.interface.Client.open_admin` says."""
        connection = await connect(url, name=name)
        async with _closing_on_error(connection):
            return AioPikaAdmin(connection)


async def _under(channel: AbstractChannel) -> Channel:
    return cast("Channel", await channel.get_underlay_channel())


@contextlib.asynccontextmanager
async def _closing_on_error(connection: AbstractConnection) -> Any:
    """Close `connection` where the block fails, and tell in our words why."""
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            yield
    except BaseException as error:
        await close(connection)
        if isinstance(error, TimeoutError):
            raise BrokerUnavailable(f"The broker did not answer within {CONNECT_TIMEOUT:g} s.") from None
        if isinstance(error, AMQPError | OSError | RuntimeError):
            raise refusal(error) from error
        raise


def _offset(offset: StreamOffset) -> int | str | dt.datetime:
    if isinstance(offset, str) and offset.startswith("@"):
        return dt.datetime.fromtimestamp(int(offset[1:]), dt.UTC)
    return offset


class _Link:
    """One connection and its channel; gone as soon as either is."""

    def __init__(self, connection: AbstractConnection, channel: AbstractChannel, under: Channel) -> None:
        self._connection = connection
        self._channel = channel
        self._under = under
        self._under_connection = underlay(connection)
        self._asked = False
        self._reason: BrokerError | None = None
        self._watch = asyncio.create_task(self._watch_end())

    async def wait_closed(self) -> BrokerError | None:
        await asyncio.wait([self._watch])
        return None if self._asked else self._reason or BrokerUnavailable("The connection ended.")

    async def close(self) -> None:
        if not self._watch.done():
            self._asked = True
            await close(self._channel, self._connection, seconds=self._patience)
        await asyncio.wait([self._watch])

    @property
    def _patience(self) -> float:
        return CLOSE_TIMEOUT

    async def _watch_end(self) -> None:
        ends = [self._under.closing, self._under_connection.closing]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for closing in ends:
            if closing.done() and not closing.cancelled() and (error := closing.exception()) is not None:
                self._reason = self._reason or end(error)
            closing.cancel()
        await close(self._connection)


class _Publish(_Link):
    def __init__(
        self, connection: AbstractConnection, channel: AbstractChannel, under: Channel, on_settled: OnSettled
    ) -> None:
        super().__init__(connection, channel, under)
        self._on_settled = on_settled
        self._tag = 0
        self._tasks: set[asyncio.Task[Any]] = set()

    def publish(self, messages: Sequence[Message]) -> None:
        for message in messages:
            self._tag += 1
            # Tasks start in the order in which they are made, and the channel's lock is first come, first served.
            task = asyncio.create_task(self._send(message))
            self._tasks.add(task)
            task.add_done_callback(partial(self._sent, self._tag))

    async def drain(self) -> None:
        """Yield once: this library shows no more of its buffers, and the window above bounds what lies in them."""
        await asyncio.sleep(0)

    @property
    def blocked(self) -> str | None:
        # `ready` waits while the connection is blocked, and the library has no other public sign of it.
        probe = self._under_connection.ready()
        try:
            probe.send(None)
        except StopIteration:
            return None
        finally:
            probe.close()
        return "an alarm for memory or disk"

    @property
    def _patience(self) -> float:
        return CLOSE_TIMEOUT if self.blocked is None else BLOCKED_CLOSE_TIMEOUT

    async def _send(self, message: Message) -> object:
        return await self._under.basic_publish(
            message.body,
            exchange=message.exchange,
            routing_key=message.routing_key,
            properties=_properties(message),
            mandatory=True,
            wait=False,
        )

    def _sent(self, tag: int, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            self._on_settled(tag, False, Settlement.CONFIRMED)
        elif isinstance(error, PublishError):
            self._on_settled(tag, False, Settlement.RETURNED)
        elif isinstance(error, DeliveryError):
            self._on_settled(tag, False, Settlement.REJECTED)
        elif isinstance(error, TypeError | ValueError):
            # It cannot be encoded: sending it again would fail again, for ever, and hold everything behind it.
            logging.getLogger(__name__).error("unencodable message %s: %s", self._tag, error)
            self._on_settled(tag, False, Settlement.REJECTED)


class _Consume(_Link):
    def __init__(
        self, connection: AbstractConnection, channel: AbstractChannel, under: Channel, on_deliveries: OnDeliveries
    ) -> None:
        super().__init__(connection, channel, under)
        self._on_deliveries = on_deliveries
        self._batch: list[Delivery] = []
        self._acks: set[asyncio.Task[None]] = set()
        under.on_consumer_cancel_callbacks.add(self._cancelled)

    @property
    def server_version(self) -> str:
        return str(getattr(self._under_connection, "server_properties", {}).get("version", ""))

    def ack(self, tag: int, *, multiple: bool = True) -> None:
        if self._watch.done():
            return
        task = asyncio.create_task(self._ack(tag, multiple=multiple))
        self._acks.add(task)
        task.add_done_callback(self._acks.discard)

    async def delivered(self, message: DeliveredMessage) -> None:
        """Collect what came in one turn of the event loop, so that it is handed over in one call."""
        if not self._batch:
            asyncio.get_running_loop().call_soon(self._flush)
        self._batch.append(_delivery(message))

    def _flush(self) -> None:
        batch, self._batch = self._batch, []
        if not self._asked:
            self._on_deliveries(batch)

    async def _ack(self, tag: int, *, multiple: bool) -> None:
        # On a dead link nothing happens, as promised; the broker delivers again.
        with contextlib.suppress(AMQPError, OSError, RuntimeError, asyncio.CancelledError):
            await self._under.basic_ack(tag, multiple=multiple, wait=False)

    def _cancelled(self, _: object) -> None:
        self._reason = LogMissing("The broker cancelled the consumer: the queue was deleted.")
        self._closing = asyncio.create_task(close(self._channel, self._connection))


def _properties(message: Message) -> commands.Basic.Properties:
    return commands.Basic.Properties(
        content_type=message.content_type or None,
        headers=dict(message.headers),
        delivery_mode=2,
        message_id=message.message_id or None,
        timestamp=dt.datetime.fromtimestamp(message.timestamp, dt.UTC) if message.timestamp else None,
        message_type=message.type or None,
        app_id=message.app_id or None,
    )


def _delivery(message: DeliveredMessage) -> Delivery:
    properties = message.header.properties
    headers: dict[str, Any] = properties.headers or {}
    offset = headers.pop("x-stream-offset", -1)
    return Delivery(
        tag=message.delivery_tag or 0,
        routing_key=message.routing_key or "",
        body=message.body,
        message_id=properties.message_id or "",
        type=properties.message_type or "",
        headers=_plain(headers),
        content_type=properties.content_type or "",
        app_id=properties.app_id or "",
        timestamp=int(properties.timestamp.timestamp()) if properties.timestamp else 0,
        redelivered=bool(message.redelivered),
        offset=offset if isinstance(offset, int) else -1,
    )


def _plain(headers: dict[str, Any]) -> dict[str, HeaderValue]:
    return {name: value for name, value in headers.items() if isinstance(value, _HEADER_TYPES)}
