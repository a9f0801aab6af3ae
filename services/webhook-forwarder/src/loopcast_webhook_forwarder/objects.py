"""An endpoint's objects in the broker: made, bound, unbound and deleted, over one connection opened when needed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from loopcast.broker.interface import AdminLink, Client
from loopcast.errors import BrokerUnavailable
from loopcast.topology import EVENTS, Binding, Queue, webhook_dead_letters, webhook_queue, webhook_state

__all__ = ["Objects"]

T = TypeVar("T")


class Objects:
    """Administration over one connection. Every method raises :exc:`~loopcast.errors.BrokerError` where it fails."""

    def __init__(self, client: Client, url: str, *, name: str) -> None:
        self._client = client
        self._url = url
        self._name = name
        self._link: AdminLink | None = None
        self._lock = asyncio.Lock()

    async def ensure(self, endpoint: str) -> None:
        """Declare the queue, the dead letters and the state of an endpoint where they are missing."""
        for queue in (webhook_queue(endpoint), webhook_dead_letters(endpoint), webhook_state(endpoint)):
            await self._do(lambda link, queue=queue: link.declare(queue))  # type: ignore[misc]

    async def declare(self, queue: Queue) -> None:
        """Declare a queue or stream where it is missing."""
        await self._do(lambda link: link.declare(queue))

    async def bind(self, endpoint: str, patterns: Iterable[str]) -> None:
        """Bind the queue of an endpoint to the events."""
        for pattern in patterns:
            await self._do(lambda link, pattern=pattern: link.bind(_binding(endpoint, pattern)))  # type: ignore[misc]

    async def unbind(self, endpoint: str, patterns: Iterable[str]) -> None:
        """Take bindings of an endpoint's queue away."""
        for pattern in patterns:
            await self._do(lambda link, pattern=pattern: link.unbind(_binding(endpoint, pattern)))  # type: ignore[misc]

    async def depth(self, queue: str) -> int | None:
        """How many messages wait in a queue; None where there is none."""
        return await self._do(lambda link: link.depth(queue))

    async def delete(self, queue: str) -> None:
        """Delete a queue or stream with what it holds."""
        await self._do(lambda link: link.delete(queue))

    async def aclose(self) -> None:
        """Close the connection."""
        link, self._link = self._link, None
        if link is not None:
            await link.close()

    async def _do(self, operation: Callable[[AdminLink], Awaitable[T]]) -> T:
        """One operation at a time; a connection that went is made anew once."""
        async with self._lock:
            if self._link is not None:
                try:
                    return await operation(self._link)
                except BrokerUnavailable:
                    await self.aclose()
            self._link = await self._client.open_admin(self._url, name=self._name)
            return await operation(self._link)


def _binding(endpoint: str, pattern: str) -> Binding:
    return Binding(source=EVENTS, destination=webhook_queue(endpoint).name, to="queue", key=pattern)
