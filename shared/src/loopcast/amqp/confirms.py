"""
Publisher confirms: which of our messages the broker's acknowledgements speak of. Pure.

See https://www.rabbitmq.com/docs/confirms#publisher-confirms.
A returned message comes back with its content but without its tag, before the `basic.ack` that speaks for it, and that
one may speak for others as well. So it is found again by what it is: its id and where it was sent.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from loopcast.amqp.parser import Acknowledged, Returned
from loopcast.broker.interface import Message, Settlement

__all__ = ["Confirms", "Settled"]


class Settled(NamedTuple):
    """What is to be told of a publishing tag, and with `multiple` of all unsettled before it."""

    tag: int
    multiple: bool
    settlement: Settlement


class Confirms:
    """
    The unsettled messages of one channel.

    A message that cannot be encoded has a tag of ours and none of the broker's, so the two counts drift apart at each.
    """

    def __init__(self) -> None:
        self._sent = 0
        self._lowest = 1
        self._unsettled: dict[int, Message] = {}
        self._returned: set[int] = set()
        self._newest_returned = 0
        self._skipped: list[int] = []

    def sent(self, messages: Sequence[Message]) -> None:
        """Give the next tags to `messages`, which go to the broker."""
        first = self._sent + 1
        self._sent += len(messages)
        self._unsettled.update(zip(range(first, self._sent + 1), messages, strict=True))

    def skip(self) -> Settled:
        """Give the next tag to a message that cannot be sent."""
        self._skipped.append(self._sent + 1)
        return Settled(self._sent + len(self._skipped), False, Settlement.REJECTED)

    def returned(self, returned: Returned) -> None:
        """Remember which message came back, until it is acknowledged."""
        what = (returned.message_id, returned.routing_key, returned.exchange)
        # They come back in the order in which they went: whoever begins at the front for each stands still for seconds
        # where a whole window comes back.
        for tags in (range(self._newest_returned + 1, self._sent + 1), list(self._unsettled)):
            for tag in tags:
                message = self._unsettled.get(tag)
                if message is None or tag in self._returned:
                    continue
                if (message.message_id, message.routing_key, message.exchange) == what:
                    self._returned.add(tag)
                    self._newest_returned = tag
                    return

    def acknowledged(self, acknowledged: Acknowledged) -> list[Settled]:
        """Say what an acknowledgement settles, each message once; nothing, where that was said before."""
        tag, multiple, accepted = acknowledged
        settlement = Settlement.CONFIRMED if accepted else Settlement.REJECTED
        if multiple:
            # Tag 0 speaks for all (AMQP 0-9-1, basic.ack).
            return self._up_to(min(tag, self._sent) or self._sent, settlement)
        if self._unsettled.pop(tag, None) is None:
            return []
        while self._lowest <= self._sent and self._lowest not in self._unsettled:
            self._lowest += 1
        if tag in self._returned:
            self._returned.discard(tag)
            settlement = Settlement.RETURNED
        return [self._settled(tag, multiple=False, settlement=settlement)]

    def _up_to(self, last: int, settlement: Settlement) -> list[Settled]:
        settled = []
        for tag in sorted(tag for tag in self._returned if tag <= last):
            if self._forget(tag - 1):
                settled.append(self._settled(tag - 1, multiple=True, settlement=settlement))
            del self._unsettled[tag]
            self._returned.discard(tag)
            settled.append(self._settled(tag, multiple=False, settlement=Settlement.RETURNED))
        if self._forget(last):
            settled.append(self._settled(last, multiple=True, settlement=settlement))
        return settled

    def _forget(self, last: int) -> bool:
        """Drop what is unsettled up to `last`; whether there was any."""
        before = len(self._unsettled)
        for tag in range(self._lowest, last + 1):
            self._unsettled.pop(tag, None)
        self._lowest = max(self._lowest, last + 1)
        return len(self._unsettled) < before

    def _settled(self, tag: int, *, multiple: bool, settlement: Settlement) -> Settled:
        """Name the broker's `tag` as we count."""
        return Settled(tag + bisect_right(self._skipped, tag), multiple, settlement)
