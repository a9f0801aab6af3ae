"""
The lease of one partition for one reader, and the only connection by which its holder writes.

An exclusive queue belongs to the connection that declared it and goes with it (AMQP 0-9-1, 2.1.6; RabbitMQ refuses
another connection with 405). The records are published on that same connection, so a holder that was frozen, cut off or
taken for dead cannot write any more once another one holds the lease. It does nothing else, and beats every 10 s.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from types import TracebackType

from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.exceptions import AMQPError
from aiormq.exceptions import ChannelLockedResource

from loopcast.broker.aio_pika_connection import close, connect, underlay
from loopcast.broker.aio_pika_errors import end, refusal
from loopcast.checkpoint.record import MAX_BYTES, Record, encode
from loopcast.errors import BrokerError, BrokerUnavailable
from loopcast.ids import uuid7
from loopcast.topology import APP_ID, CLOUDEVENT, HEARTBEAT, Queue, checkpoint_stream, lease_queue

__all__ = ["Lease"]

HEARTBEAT_SECONDS = 10
OPERATION_SECONDS = 20.0
RECORD = "loopcast.checkpoint"
"""The `type` of a record's message."""


class Lease:
    """A lease that is held. Made by :meth:`acquire`; released by leaving it or by losing its connection."""

    def __init__(self, connection: AbstractConnection, channel: AbstractChannel, stream: Queue) -> None:
        self._connection = connection
        self._under = underlay(connection)
        self._channel = channel
        self._stream = stream

    @classmethod
    async def acquire(cls, url: str, reader: str, partition: int, *, name: str, state: bool = True) -> Lease | None:
        """
        Take the lease and make the checkpoint stream where it is missing; None where another one holds it.

        Without `state` there is no such stream, and nothing to :meth:`write` to.

        Raises:
            BrokerUnavailable: no connection, or the broker refused something.
            TopologyMismatch: the checkpoint stream is something else.
        """
        # A holder that is gone must not hold for longer than it has to, whatever the URL says.
        connection = await connect(url, name=name, heartbeat=HEARTBEAT_SECONDS)
        stream = checkpoint_stream(reader, partition)
        try:
            async with asyncio.timeout(OPERATION_SECONDS):
                channel = await connection.channel(on_return_raises=True)
                await channel.declare_queue(lease_queue(reader, partition), exclusive=True)
                if state:
                    await channel.declare_queue(stream.name, durable=True, arguments=dict(stream.declared))
            return cls(connection, channel, stream)
        except ChannelLockedResource:
            await close(connection)
            return None
        except BaseException as error:
            await close(connection)
            if isinstance(error, TimeoutError):
                raise BrokerUnavailable(f"The broker did not answer within {OPERATION_SECONDS:g} s.") from None
            if isinstance(error, AMQPError | OSError | RuntimeError):
                raise refusal(error) from error
            raise

    async def __aenter__(self) -> Lease:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.release()

    @property
    def stream(self) -> str:
        """The name of the checkpoint stream."""
        return self._stream.name

    @property
    def is_held(self) -> bool:
        """Whether the connection stands, as far as this end knows."""
        return not (self._under.is_closed or self._channel.is_closed)

    async def wait_lost(self) -> BrokerError:
        """Wait until the connection is gone, and say why: whatever the lease was for must stop at once."""
        channel = await self._channel.get_underlay_channel()
        watched = [self._under.closing, channel.closing]
        await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
        for future in watched:
            if future.done() and not future.cancelled() and (error := future.exception()) is not None:
                return end(error)
        return BrokerUnavailable("The connection that held the lease ended.")

    async def write(self, record: Record) -> str:
        """
        Append `record`, and return its message's id when the broker has it.

        Raises:
            BrokerUnavailable: it may or may not be there; the lease is lost, or as good as.
            ValueError: it is larger than a record may be.
        """
        body = encode(record)
        if len(body) > MAX_BYTES:
            raise ValueError(f"this state has {len(body)} bytes and a checkpoint at most {MAX_BYTES}")
        return await self._publish(self._stream.name, body, RECORD, "application/octet-stream")

    async def beat(self, log: str, now: int) -> None:
        """
        Tell the log `log` the time, in Unix seconds: a record that every reader skips.

        Raises:
            BrokerUnavailable: as :meth:`write`.
        """
        await self._publish(log, b"{}", HEARTBEAT, CLOUDEVENT, timestamp=now)

    async def dead_letter(self, queue: str, body: bytes, headers: dict[str, str | int]) -> None:
        """
        Put a message into the quorum queue `queue`, which is made where it is missing.

        Raises:
            BrokerUnavailable: as :meth:`write`.
        """
        try:
            async with asyncio.timeout(OPERATION_SECONDS):
                await self._channel.declare_queue(queue, durable=True, arguments={"x-queue-type": "quorum"})
        except (AMQPError, OSError, RuntimeError, TimeoutError) as error:
            raise BrokerUnavailable(f"The queue {queue} could not be made: {error}.") from error
        await self._publish(queue, body, queue, "application/x-protobuf", headers=headers)

    async def release(self) -> None:
        """Give the lease back. Safe to call again."""
        await close(self._connection)

    async def _publish(
        self,
        queue: str,
        body: bytes,
        kind: str,
        content_type: str,
        *,
        timestamp: int = 0,
        headers: dict[str, str | int] | None = None,
    ) -> str:
        message = Message(
            body,
            content_type=content_type,
            delivery_mode=DeliveryMode.PERSISTENT,
            message_id=uuid7(),
            type=kind,
            app_id=APP_ID,
            headers=dict(headers) if headers else None,
            timestamp=dt.datetime.fromtimestamp(timestamp, dt.UTC) if timestamp else None,
        )
        try:
            async with asyncio.timeout(OPERATION_SECONDS):
                await self._channel.default_exchange.publish(message, queue, mandatory=True)
        except TimeoutError:
            raise BrokerUnavailable(f"The broker did not confirm within {OPERATION_SECONDS:g} s.") from None
        except (AMQPError, OSError, RuntimeError) as error:
            raise refusal(error) from error
        return message.message_id or ""
