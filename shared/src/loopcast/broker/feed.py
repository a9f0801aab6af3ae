"""Deliveries on their way from a link's callback to whoever iterates over them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from loopcast.broker.interface import Delivery
from loopcast.errors import BrokerError

__all__ = ["Feed"]


class Feed:
    """
    Holds what came over the link that stands, and nothing of one that is gone: its deliveries come again.

    Nothing is handed over before the link is up, because only then can it be acknowledged. The link's prefetch bounds
    how much is held.
    """

    def __init__(self) -> None:
        self._held: list[Delivery] = []
        self._ready = asyncio.Event()
        self.generation = 0
        """Which link it is that brings: one more with each that goes."""
        self._up = False
        self._failure: BrokerError | None = None
        self.closed = False

    def begin(self, admit: Callable[[Sequence[Delivery]], Sequence[Delivery]]) -> Callable[[Sequence[Delivery]], None]:
        """The callback for a new link; `admit` returns those of its deliveries that are to be handed over."""
        self.down()
        generation = self.generation

        def came(deliveries: Sequence[Delivery]) -> None:
            if generation == self.generation and (admitted := admit(deliveries)):
                self._held.extend(admitted)
                if self._up:
                    self._ready.set()

        return came

    def up(self) -> None:
        """The new link stands: hand over."""
        self._up = True
        if self._held:
            self._ready.set()

    def down(self) -> None:
        """The link is gone, and with it what it brought."""
        self._up = False
        self.generation += 1
        self._held = []

    def fail(self, error: BrokerError) -> None:
        """End the iteration with `error`."""
        self._failure = error
        self._ready.set()

    def close(self) -> None:
        """End the iteration."""
        self.closed = True
        self.down()
        self._ready.set()

    async def take(self) -> list[Delivery]:
        """
        Wait for deliveries, and return all there are; none once closed.

        Raises:
            BrokerError: what :meth:`fail` was given.
        """
        while not self.closed:
            if self._failure is not None:
                raise self._failure
            if self._up and self._held:
                taken, self._held = self._held, []
                return taken
            self._ready.clear()
            await self._ready.wait()
        return []
