"""
Publishing with confirms, in order, over whatever happens to the connection.

One publisher is one connection and one ordered window: a queue that is stuck stops the connection that publishes to it,
so a producer keeps one publisher per partition. A message is in the window from :meth:`Publisher.publish` until the
broker settled it; a connection that comes back begins with the whole window. So nothing is lost while the process
lives, the order is kept, and what can come twice is what was in flight, under the same id.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from loopcast.broker.interface import Client, Message, PublishLink, Settlement
from loopcast.broker.meter import ConnectionMeter
from loopcast.broker.supervised import Supervised
from loopcast.broker.supervisor import Backoff, Supervisor
from loopcast.broker.window import Entry, Window
from loopcast.errors import BrokerBlocked, BrokerError, BrokerUnavailable, LogMissing

__all__ = ["WINDOW_BYTES", "Publisher"]

WINDOW_BYTES = 32 * 1024 * 1024


async def _nothing() -> None:
    pass


class Publisher(Supervised[PublishLink]):
    """
    Messages of successive calls to :meth:`publish` reach the broker in the order of the calls.

    `prepare` runs before each connection is opened: what binds the log again, so that nothing is confirmed that did
    not go into it.
    """

    def __init__(
        self,
        client: Client,
        url: str,
        *,
        name: str,
        window_bytes: int = WINDOW_BYTES,
        prepare: Callable[[], Awaitable[None]] = _nothing,
        backoff: Backoff | None = None,
        meter: ConnectionMeter | None = None,
    ) -> None:
        self._client = client
        self._url = url
        self._name = name
        self._prepare = prepare
        self._meter = meter
        self._window = Window(window_bytes)
        self._generation = 0
        self._trouble: BrokerError | None = None
        self._closed = False
        self._calls: dict[asyncio.Future[list[Settlement]], _Call] = {}
        super().__init__(Supervisor(self._connect, name=name, on_up=self._resend, on_down=self._lost, backoff=backoff))

    async def __aenter__(self) -> Publisher:
        # Asked for once: it is a system call each time (3.11).
        self._loop = asyncio.get_running_loop()
        self._supervisor.start()
        return self

    @property
    def blocked(self) -> str | None:
        """The broker's reason while it takes nothing, else None."""
        link = self._supervisor.link
        return None if link is None else link.blocked

    @property
    def unconfirmed_bytes(self) -> int:
        """How much the window holds."""
        return self._window.size

    async def publish(self, messages: Sequence[Message], *, timeout: float) -> list[Settlement]:
        """
        Publish `messages` and wait until the broker settled each: the settlements, in their order.

        Whoever gets an error tries again with the same ids: a message that is still in the window is not sent twice,
        and one that landed meanwhile comes a second time, which readers drop. A caller that is cancelled or times out
        leaves its messages in the window, where they keep their place.

        Raises:
            BrokerUnavailable: not connected, so nothing was sent; or not settled within `timeout` seconds, so the
                messages may have landed or may land later.
            BrokerBlocked: the same, because of an alarm.
            WindowFull: too much is unconfirmed; nothing was sent.
            LogMissing: a message was routed nowhere, or what it was published to is not there.
        """
        if not messages:
            return []
        settlements = self.send(messages)
        try:
            _, late = await asyncio.wait((settlements,), timeout=timeout)
        finally:
            # Nobody else has this future: what it stands for stays in the window, the waiting is over.
            if (call := self._calls.pop(settlements, None)) is not None:
                call.leave()
        if late:
            raise self.why_late(timeout)
        found = settlements.result()
        if Settlement.RETURNED in found:
            raise LogMissing(
                "An event was routed nowhere: the log is not bound to the exchange. Nothing was accepted; the broker's "
                "topology has to be made again."
            )
        return found

    def send(self, messages: Sequence[Message]) -> asyncio.Future[list[Settlement]]:
        """
        Publish `messages` at once, without waiting: what the broker says of each comes later, in their order.

        For callers that do more in one step than publish, such as numbering. Whether it comes in time is theirs to
        watch (:meth:`why_late`); a returned message is one of the settlements here.

        Raises:
            BrokerUnavailable: not connected; nothing was sent.
            BrokerBlocked: the broker takes nothing; nothing was sent.
            WindowFull: too much is unconfirmed; nothing was sent.
        """
        link = self._ready()
        entries, fresh = self._window.add(messages)
        link.publish(fresh)
        call = _Call(entries, self._loop, self._calls)
        self._calls[call.settlements] = call
        return call.settlements

    async def close(self) -> None:
        """Close the connection. Who still waits gets :exc:`BrokerUnavailable`: drain first."""
        self._closed = True
        await self._supervisor.close()
        for call in list(self._calls.values()):
            call.fail(BrokerUnavailable("This publisher was closed before the broker confirmed."))

    def _ready(self) -> PublishLink:
        link = self._supervisor.link
        if self._closed:
            raise BrokerUnavailable("This publisher is closed.")
        if link is None:
            raise _again(self._supervisor.reason)
        if (reason := link.blocked) is not None:
            raise BrokerBlocked(f"The broker takes nothing for now: {reason}.")
        return link

    def why_late(self, seconds: float) -> BrokerError:
        """What to tell who has waited `seconds` for a confirm in vain."""
        link = self._supervisor.link
        if link is None:
            return _again(self._supervisor.reason)
        if (reason := link.blocked) is not None:
            return BrokerBlocked(f"The broker takes nothing for now: {reason}.")
        if self._trouble is not None:
            return _again(self._trouble)
        return BrokerUnavailable(
            f"The broker did not confirm within {seconds:g} s: the events may still land, so send again the same ids."
        )

    async def _connect(self) -> PublishLink:
        await self._prepare()
        self._generation += 1
        generation = self._generation

        def settled(tag: int, multiple: bool, settlement: Settlement) -> None:
            # A late word from a connection that is gone speaks of tags that mean other messages now.
            if generation == self._generation:
                self._trouble = None
                self._window.settle(tag, multiple, settlement)

        return await self._client.open_publisher(self._url, settled, name=self._name)

    def _lost(self, reason: BrokerError) -> None:
        """Remember `reason` until the broker settles something again: a connection alone does not mean that it will."""
        self._trouble = reason
        if self._meter is not None:
            self._meter.down()

    def _resend(self, link: PublishLink) -> None:
        link.publish(self._window.restart())
        if self._meter is not None:
            self._meter.up()


class _Call:
    """One call to publish: waits for its entries, and stands among `calls` until they are settled."""

    __slots__ = ("_calls", "_entries", "_left", "settlements")

    def __init__(
        self,
        entries: list[Entry],
        loop: asyncio.AbstractEventLoop,
        calls: dict[asyncio.Future[list[Settlement]], _Call],
    ) -> None:
        self._entries = entries
        self._calls = calls
        self.settlements: asyncio.Future[list[Settlement]] = loop.create_future()
        # Messages of one id share an entry, which settles once.
        different = entries if len(entries) == 1 else list({id(entry): entry for entry in entries}.values())
        self._left = len(different)
        for entry in different:
            entry.waiters.append(self._one_settled)

    def leave(self) -> None:
        """Wait no more."""
        for entry in self._entries:
            if self._one_settled in entry.waiters:
                entry.waiters.remove(self._one_settled)

    def fail(self, error: BrokerError) -> None:
        """Say that nothing will be settled any more."""
        self._calls.pop(self.settlements, None)
        self.leave()
        if not self.settlements.done():
            self.settlements.set_exception(error)

    def _one_settled(self) -> None:
        self._left -= 1
        if self._left:
            return
        self._calls.pop(self.settlements, None)
        if not self.settlements.done():
            self.settlements.set_result([entry.settlement for entry in self._entries if entry.settlement is not None])


def _again(reason: BrokerError | None) -> BrokerError:
    """A fresh error of the same kind: raising one object for many callers would grow its traceback."""
    if reason is None:
        return BrokerUnavailable("There is no connection to the broker.")
    return type(reason)(str(reason))
