"""
The ordered window of messages that the broker has not settled: pure bookkeeping, no socket, no clock.

Order is the point. Messages stand in the window as they were handed over; on every new connection the whole window
goes out again from its front, so that no message overtakes one published before it, whatever broke in between.
Publishing tags count from 1 on each channel (https://www.rabbitmq.com/docs/confirms), so those of a window are always
one run of numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from loopcast.broker.interface import HeaderValue, Message, Settlement
from loopcast.errors import WindowFull

__all__ = ["Entry", "Window"]

OVERHEAD_BYTES = 512
"""What a message costs besides its body: properties, headers, objects. So that empty bodies fill the window too."""


_Key = tuple[str, str, HeaderValue, str]


class Entry:
    """A message in the window, and who waits for it."""

    __slots__ = ("key", "message", "settlement", "size", "waiters")

    def __init__(self, message: Message, key: _Key) -> None:
        self.message = message
        self.key = key
        self.size = len(message.body) + OVERHEAD_BYTES
        self.settlement: Settlement | None = None
        self.waiters: list[Callable[[], None]] = []
        """Called once, when the message is settled; whoever stops waiting takes its own out."""


class Window:
    """
    Unsettled messages in the order in which they were published, bounded by bytes.

    A message whose id stands in the window already, on its way to the same place, is the same message, tried again by
    its sender: it joins the first and is not sent twice. Experiments name their events apart from each other, so of
    another one the same id means another message, in a queue of dead letters too.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.size = 0
        """Bytes of what is unsettled."""
        self._by_tag: dict[int, Entry] = {}
        self._by_id: dict[_Key, Entry] = {}
        self._lowest = 1
        self._next = 1

    def __len__(self) -> int:
        return len(self._by_tag)

    def add(self, messages: Sequence[Message]) -> tuple[list[Entry], list[Message]]:
        """
        Take `messages` in: the entry of each, and those that are new and have to be sent now, in order.

        All or none: what does not fit as a whole is refused. Into an empty window everything fits, so that a batch
        over the capacity is not refused for ever.

        Raises:
            WindowFull: too much is unsettled.
        """
        keys = [_key(message) for message in messages]
        fresh = {key: Entry(m, key) for key, m in zip(keys, messages, strict=True) if key not in self._by_id}
        size = sum(entry.size for entry in fresh.values())
        if self._by_tag and self.size + size > self.capacity:
            raise WindowFull(
                f"{self.size:,} bytes of events wait for the broker's confirmation and {size:,} more do not fit into "
                f"{self.capacity:,}: send again in a moment, with the same ids."
            )
        self._by_id.update(fresh)
        for entry in fresh.values():
            self._by_tag[self._next] = entry
            self._next += 1
        self.size += size
        return [self._by_id[key] for key in keys], [entry.message for entry in fresh.values()]

    def settle(self, tag: int, multiple: bool, settlement: Settlement) -> None:
        """
        Settle a message, and with `multiple` all unsettled ones before it, in order; their waiters are called.

        A tag that is unknown or settled already changes nothing.
        """
        tags = range(self._lowest, min(tag + 1, self._next)) if multiple else (tag,)
        for settled in tags:
            entry = self._by_tag.pop(settled, None)
            if entry is not None:
                self._settle(entry, settlement)
        while self._lowest < self._next and self._lowest not in self._by_tag:
            self._lowest += 1

    def restart(self) -> list[Message]:
        """Number what is unsettled from 1 again, for a new channel, and return it: it has to be sent, in this order."""
        entries = list(self._by_tag.values())
        self._by_tag = dict(enumerate(entries, start=1))
        self._lowest, self._next = 1, len(entries) + 1
        return [entry.message for entry in entries]

    def _settle(self, entry: Entry, settlement: Settlement) -> None:
        entry.settlement = settlement
        self.size -= entry.size
        del self._by_id[entry.key]
        waiters, entry.waiters = entry.waiters, []
        for waiter in waiters:
            waiter()


def _key(message: Message) -> _Key:
    return message.exchange, message.routing_key, message.headers.get("experiment"), message.message_id
