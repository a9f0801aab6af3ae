"""Declaring and checking the topology over aio-pika."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.exceptions import AMQPError, ChannelNotFoundEntity, ChannelPreconditionFailed
from aiormq.exceptions import ChannelAccessRefused

from loopcast.broker.aio_pika_connection import close, underlay
from loopcast.broker.aio_pika_errors import refusal
from loopcast.broker.inequivalent import RETENTION, Inequivalent, retention_advice
from loopcast.errors import BrokerError, BrokerUnavailable, LogMissing, TopologyMismatch
from loopcast.topology import Argument, Binding, Exchange, Queue, Topology

__all__ = ["AioPikaAdmin"]

OPERATION_TIMEOUT = 30.0
_log = structlog.get_logger("loopcast.broker")


class AioPikaAdmin:
    """An admin link as :class:`loopcast.broker.interface.AdminLink` has it."""

    def __init__(self, connection: AbstractConnection) -> None:
        self._connection = connection
        self._under = underlay(connection)
        self._channel: AbstractChannel | None = None
        self._asked = False

    async def wait_closed(self) -> BrokerError | None:
        """Wait until the connection is gone; None if :meth:`close` was called, else why."""
        closing = self._under.closing
        await asyncio.wait([closing])
        if self._asked:
            return None
        error = None if closing.cancelled() else closing.exception()
        return BrokerUnavailable("The connection ended.") if error is None else refusal(error)

    async def close(self) -> None:
        """Close the connection."""
        self._asked = True
        await close(self._connection, seconds=OPERATION_TIMEOUT)

    async def apply(self, topology: Topology) -> None:
        """Declare what is missing, as :meth:`loopcast.broker.interface.AdminLink.apply` says."""
        for exchange in topology.exchanges:
            await self._declare_exchange(exchange, topology)
        for queue in topology.queues:
            await self._declare_queue(queue)
        for binding in topology.bindings:
            await self._bind(binding)

    async def missing(self, topology: Topology) -> frozenset[str]:
        """The names of the queues and streams that are not there."""
        return frozenset([queue.name for queue in topology.queues if not await self._has_queue(queue.name)])

    async def verify(self, topology: Topology) -> None:
        """Check without making, as :meth:`loopcast.broker.interface.AdminLink.verify` says."""
        if await self._has_exchange(topology.marker.name):
            await self._compare_partitions(topology)
        for exchange in topology.exchanges:
            if not await self._has_exchange(exchange.name):
                raise LogMissing(f"The exchange {exchange.name} is not there, and LOOPCAST_TOPOLOGY=verify makes none.")
        for name in sorted(await self.missing(topology)):
            raise LogMissing(f"The queue {name} is not there, and LOOPCAST_TOPOLOGY=verify makes none.")

    async def declare(self, queue: Queue) -> None:
        """Declare one queue, as :meth:`loopcast.broker.interface.AdminLink.declare` says."""
        await self._declare_queue(queue)

    async def bind(self, binding: Binding) -> None:
        """Bind, as :meth:`loopcast.broker.interface.AdminLink.bind` says."""
        await self._bind(binding)

    async def unbind(self, binding: Binding) -> None:
        """Take a binding away; RabbitMQ answers with success where there is none."""

        async def unbind(channel: AbstractChannel) -> None:
            queue = await channel.get_queue(binding.destination, ensure=False)
            await queue.unbind(binding.source, binding.key, arguments=dict(binding.arguments))

        with contextlib.suppress(LogMissing):
            await self._do(unbind)

    async def delete(self, queue: str) -> None:
        """Delete a queue with what it holds; RabbitMQ answers with success where there is none."""
        await self._do(lambda channel: channel.queue_delete(queue))

    async def depth(self, queue: str) -> int | None:
        """How many messages wait in a queue."""
        found: list[int] = []

        async def ask(channel: AbstractChannel) -> None:
            declared = await channel.declare_queue(queue, passive=True)
            found.append(declared.declaration_result.message_count or 0)

        return found[0] if await self._exists(ask) else None

    async def _compare_partitions(self, topology: Topology) -> None:
        """Declare the marker, which is there: only an active declaration compares."""
        try:
            await self._declare_exchange(topology.marker, topology)
        except BrokerUnavailable as error:
            if not isinstance(error.__cause__, ChannelAccessRefused):
                raise
            _log.warning("partitions_unverified", exchange=topology.marker.name, reason=str(error))

    async def _declare_exchange(self, exchange: Exchange, topology: Topology) -> None:
        try:
            await self._do(
                lambda channel: channel.declare_exchange(
                    exchange.name, exchange.kind, durable=True, arguments=dict(exchange.arguments)
                )
            )
        except TopologyMismatch as error:
            found = Inequivalent.parse(str(error))
            if exchange == topology.marker and found is not None and found.argument == "alternate-exchange":
                raise TopologyMismatch(
                    f"The log {topology.log} was made with {found.current} partitions and LOOPCAST_PARTITIONS says "
                    f"{topology.partitions}: set {found.current}, or give a new LOOPCAST_LOG_NAME."
                ) from error
            raise

    async def _declare_queue(self, queue: Queue) -> None:
        """Declare `queue`; where it exists with other retention, find out what it has, and leave it so."""
        arguments: dict[str, Argument] = dict(queue.declared)
        adopted: dict[str, Argument | None] = {}
        while True:
            try:
                await self._do(
                    lambda channel: channel.declare_queue(queue.name, durable=True, arguments=dict(arguments))
                )
                break
            except TopologyMismatch as error:
                found = Inequivalent.parse(str(error))
                if found is None or not found.is_retention or found.argument in adopted:
                    raise
                adopted[found.argument] = found.current
                arguments.pop(found.argument, None)
                if found.current is not None:
                    arguments[found.argument] = found.current
        if adopted:
            has = {RETENTION[name]: value for name, value in adopted.items()}
            _log.warning("log_has_other_retention", log=queue.name, has=has, fix=retention_advice(queue, adopted))

    async def _bind(self, binding: Binding) -> None:
        async def bind(channel: AbstractChannel) -> None:
            get = channel.get_queue if binding.to == "queue" else channel.get_exchange
            destination = await get(binding.destination, ensure=False)
            await destination.bind(binding.source, binding.key, arguments=dict(binding.arguments))

        await self._do(bind)

    async def _has_queue(self, name: str) -> bool:
        return await self._exists(lambda channel: channel.declare_queue(name, passive=True))

    async def _has_exchange(self, name: str) -> bool:
        return await self._exists(lambda channel: channel.get_exchange(name))

    async def _exists(self, operation: Callable[[AbstractChannel], Awaitable[Any]]) -> bool:
        try:
            await self._do(operation)
        except LogMissing:
            return False
        return True

    async def _do(self, operation: Callable[[AbstractChannel], Awaitable[Any]]) -> None:
        """Run one operation, on a new channel where the last one was refused."""
        try:
            async with asyncio.timeout(OPERATION_TIMEOUT):
                if self._channel is None or self._channel.is_closed:
                    self._channel = await self._connection.channel(publisher_confirms=False)
                await operation(self._channel)
        except TimeoutError:
            raise BrokerUnavailable(f"The broker did not answer within {OPERATION_TIMEOUT:g} s.") from None
        except (AMQPError, OSError, RuntimeError) as error:
            if isinstance(error, ChannelNotFoundEntity | ChannelPreconditionFailed | ChannelAccessRefused):
                self._channel = None
            raise refusal(error) from error
