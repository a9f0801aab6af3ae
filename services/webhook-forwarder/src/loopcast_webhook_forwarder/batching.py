"""
When the events that came are a batch: pure, the time is given.

A batch is full by number or bytes, or when its first event has waited for `max_seconds`. What the endpoint no longer
asks for (its bindings changed while events lay in the queue) is left out of the request, and acknowledged with it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from loopcast.broker.interface import Delivery

__all__ = ["Collector", "Parcel"]


@dataclass(frozen=True, slots=True)
class Parcel:
    """Events that are delivered together, and the tags that settle them."""

    events: list[Delivery]
    last_tag: int
    """Of the last message, which may be one that nobody wants."""
    since: float
    """When its first message came."""
    unwanted: int = 0

    def tag_through(self, stop: int) -> int:
        """What to acknowledge when the first `stop` events are settled."""
        return self.last_tag if stop == len(self.events) else self.events[stop - 1].tag


class Collector:
    """
    Holds what came and was not taken yet, in order.

    What is `alone` is a parcel of its own: it is no event, and what comes before it has to be settled before it.
    """

    def __init__(
        self,
        *,
        max_events: int,
        max_bytes: int,
        max_seconds: float,
        wanted: Callable[[Delivery], bool],
        alone: Callable[[Delivery], bool] = lambda _: False,
    ) -> None:
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._max_seconds = max_seconds
        self._wanted = wanted
        self._alone = alone
        self._held: deque[tuple[float, Delivery]] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._held)

    @property
    def oldest(self) -> float | None:
        """When the first of what is held came."""
        return self._held[0][0] if self._held else None

    def add(self, deliveries: Iterable[Delivery], now: float) -> None:
        """More came."""
        for delivery in deliveries:
            self._held.append((now, delivery))
            self._bytes += len(delivery.body) + 1

    def clear(self) -> None:
        """The channel is gone: all of it comes again."""
        self._held.clear()
        self._bytes = 0

    def due(self, now: float) -> float | None:
        """In how many seconds there is a batch: 0 for now; None while nothing is there."""
        if not self._held:
            return None
        if len(self._held) >= self._max_events or self._bytes >= self._max_bytes:
            return 0.0
        return max(0.0, self._held[0][0] + self._max_seconds - now)

    def cut(self) -> Parcel:
        """Take the first batch: at least one message, and no more bytes than were asked for where there are several."""
        since = self._held[0][0]
        events: list[Delivery] = []
        size = unwanted = last = 0
        while self._held and len(events) < self._max_events:
            delivery = self._held[0][1]
            length = len(delivery.body) + 1
            if self._alone(delivery):
                if last:
                    break
                self._held.popleft()
                self._bytes -= length
                return Parcel([delivery], delivery.tag, since)
            if not self._wanted(delivery):
                unwanted += 1
            elif events and size + length > self._max_bytes:
                break
            else:
                events.append(delivery)
                size += length
            self._held.popleft()
            self._bytes -= length
            last = delivery.tag
        return Parcel(events, last, since, unwanted)
