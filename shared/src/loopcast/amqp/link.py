"""
The shell of asyncio around a connection: a socket, timers, and nothing that decides.

What one turn of the event loop has to send goes out in one write, however many callers it comes from.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Generic, TypeVar, cast

from loopcast.amqp.connection import TICKS, Connection
from loopcast.amqp.consumer import ConsumeConnection
from loopcast.amqp.events import Closed, Event, Ready, Settled
from loopcast.amqp.publisher import PublishConnection
from loopcast.amqp.uri import Target
from loopcast.broker.interface import Delivery, Message, OnDeliveries, OnSettled
from loopcast.errors import BrokerError, BrokerUnavailable

__all__ = ["ConsumingLink", "Link", "PublishingLink"]

CLOSE_SECONDS = 5.0
"""How long the broker may take to say goodbye."""

C = TypeVar("C", bound=Connection)


class Link(asyncio.Protocol, Generic[C]):
    """One connection and its socket. Used from one event loop."""

    def __init__(self, connection: C) -> None:
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._closed: asyncio.Future[BrokerError | None] = self._loop.create_future()
        self._gone: asyncio.Future[None] = self._loop.create_future()
        self._writable = asyncio.Event()
        self._writable.set()
        self._flushing = False
        self._ticking: asyncio.TimerHandle | None = None

    async def open(self, target: Target) -> None:
        """
        Connect, log in and set the channel up.

        Raises:
            BrokerUnavailable: no connection, or the broker refused it.
            LogMissing: the queue is not there.
            ConfigurationError: the certificates of `target` cannot be read.
        """
        opened = False
        try:
            async with asyncio.timeout(target.connect_timeout):
                await self._connect(target)
                await self._ready
            opened = True
        except TimeoutError:
            raise BrokerUnavailable(
                f"The broker at {target} did not answer within {target.connect_timeout:g} s."
            ) from None
        except OSError as error:
            raise BrokerUnavailable(f"There is no connection to the broker at {target}: {error}.") from error
        finally:
            if not opened:
                # Also where the broker was ready and the caller had given up in the same moment: nobody else knows of
                # this connection, and its consumer would take what a queue has and never acknowledge it.
                self._abort()

    async def wait_closed(self) -> BrokerError | None:
        """Wait until the link is gone; None if :meth:`close` was called, else why."""
        return await asyncio.shield(self._closed)

    async def close(self) -> None:
        """Close channel and connection, in order."""
        self._handle(self._connection.close())
        self._flush()
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await asyncio.shield(self._gone)
        except TimeoutError:
            pass
        finally:
            self._abort()

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet the broker."""
        self._transport = cast("asyncio.Transport", transport)
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Hand over what came, and answer."""
        self._handle(self._connection.receive(data))
        self._flush()

    def pause_writing(self) -> None:
        """Make :meth:`PublishingLink.drain` wait: the socket takes no more."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Let :meth:`PublishingLink.drain` go on."""
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell everybody who waits."""
        self._handle(self._connection.lost(exc))
        self._writable.set()
        if not self._gone.done():
            self._gone.set_result(None)

    # What is behind it.

    async def _connect(self, target: Target) -> None:
        tls = target.tls
        await self._loop.create_connection(
            lambda: self,
            target.host,
            target.port,
            ssl=None if tls is None else tls.context(),
            server_hostname=None if tls is None else tls.server_name,
            ssl_shutdown_timeout=None if tls is None else CLOSE_SECONDS,
        )

    def _handle(self, events: Sequence[Event]) -> None:
        for event in events:
            if isinstance(event, list | Settled):
                self._content(event)
            elif isinstance(event, Ready):
                self._begin(event.heartbeat / TICKS)
            else:
                self._end(event)

    def _content(self, event: list[Delivery] | Settled) -> None:
        """Hand over what the link is for."""
        raise NotImplementedError

    def _begin(self, tick_seconds: float) -> None:
        if not self._ready.done():
            self._ready.set_result(None)
        if tick_seconds:
            self._ticking = self._loop.call_later(tick_seconds, self._tick, tick_seconds)

    def _tick(self, seconds: float) -> None:
        self._ticking = self._loop.call_later(seconds, self._tick, seconds)
        self._handle(self._connection.tick())
        self._flush()

    def _end(self, closed: Closed) -> None:
        if self._ticking is not None:
            self._ticking.cancel()
        if not self._closed.done():
            self._closed.set_result(closed.error)
        if not self._ready.done():
            self._ready.set_exception(closed.error or BrokerUnavailable("The connection was closed."))
        self._writable.set()
        self._flush()
        if self._transport is not None:
            # A half-open connection never takes what is left to write.
            self._transport.close()
            self._loop.call_later(CLOSE_SECONDS, self._abort)

    def _abort(self) -> None:
        if not self._gone.done() and self._transport is not None:
            self._transport.abort()

    def _soon(self) -> None:
        """Write before the event loop waits for anything."""
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        output = self._connection.output()
        if output and self._transport is not None:
            self._transport.write(output)


class PublishingLink(Link[PublishConnection]):
    """A link that publishes: :class:`loopcast.broker.interface.PublishLink`."""

    def __init__(self, connection: PublishConnection, on_settled: OnSettled) -> None:
        super().__init__(connection)
        self._on_settled = on_settled

    @property
    def blocked(self) -> str | None:
        """The broker's reason while it takes nothing, else None."""
        return self._connection.blocked

    def publish(self, messages: Sequence[Message]) -> None:
        """Write `messages` in order, each with the next tag; never waits."""
        settled = self._connection.publish(messages)
        if settled:
            # Not from inside this call: the caller does not expect to hear of it before it returns.
            self._loop.call_soon(self._handle, settled)
        self._soon()

    async def drain(self) -> None:
        """Wait while more is buffered than the socket takes."""
        if self._flushing:
            await asyncio.sleep(0)
        await self._writable.wait()

    def _content(self, event: list[Delivery] | Settled) -> None:
        if isinstance(event, Settled):
            self._on_settled(*event)


class ConsumingLink(Link[ConsumeConnection]):
    """A link that consumes: :class:`loopcast.broker.interface.ConsumeLink`."""

    def __init__(self, connection: ConsumeConnection, on_deliveries: OnDeliveries) -> None:
        super().__init__(connection)
        self._on_deliveries = on_deliveries

    @property
    def server_version(self) -> str:
        """What the broker says of itself."""
        return self._connection.server_version

    def ack(self, tag: int, *, multiple: bool = True) -> None:
        """Acknowledge a delivery, and with `multiple` all before it; never waits."""
        self._connection.ack(tag, multiple=multiple)
        self._soon()

    def _content(self, event: list[Delivery] | Settled) -> None:
        if isinstance(event, list):
            self._on_deliveries(event)
