"""A connection that consumes one queue or stream, without any I/O."""

from __future__ import annotations

import datetime as dt
import struct

from pamqp import commands
from pamqp.common import FieldTable

from loopcast.amqp.connection import Connection, Login, Phase
from loopcast.amqp.faults import UNEXPECTED_FRAME, Fault
from loopcast.amqp.parser import Item
from loopcast.broker.interface import StreamOffset

__all__ = ["ConsumeConnection"]

_CONSUMER_TAG = "loopcast"
_ACK = struct.Struct(">BHIIQBB")
_BASIC_ACK = 0x003C0050


class ConsumeConnection(Connection):
    """
    The channel has one consumer, with `prefetch` unacknowledged deliveries at most.

    Per-consumer `basic.qos`, the only kind that quorum queues and streams have
    (https://www.rabbitmq.com/docs/consumer-prefetch).
    """

    def __init__(
        self,
        login: Login,
        queue: str,
        *,
        prefetch: int,
        offset: StreamOffset | None = None,
        exclusive: bool = False,
        only: str | None = None,
    ) -> None:
        arguments: FieldTable = {} if offset is None else {"x-stream-offset": _offset(offset)}
        if only is not None:
            arguments |= {"x-stream-filter": only, "x-stream-match-unfiltered": True}
        consume = commands.Basic.Consume(0, queue, _CONSUMER_TAG, False, False, exclusive, False, arguments)
        super().__init__(login, [commands.Basic.Qos(0, prefetch, False), consume])

    def ack(self, tag: int, *, multiple: bool) -> None:
        """Acknowledge a delivery, and with `multiple` all before it; nothing once the connection is over."""
        if self.phase is Phase.READY:
            self._output.append(_ACK.pack(1, 1, 13, _BASIC_ACK, tag, multiple, 0xCE))

    def _content(self, item: Item) -> None:
        if not isinstance(item, list):
            raise Fault(UNEXPECTED_FRAME, "an acknowledgement came to a channel that publishes nothing")
        # What comes after the channel was closed goes back to its queue.
        if self.phase is Phase.READY:
            self._events.append(item)


def _offset(offset: StreamOffset) -> int | str | dt.datetime:
    """As `x-stream-offset` has it (https://www.rabbitmq.com/docs/streams#consuming)."""
    if isinstance(offset, str) and offset.startswith("@"):
        return dt.datetime.fromtimestamp(int(offset[1:]), dt.UTC)
    return offset
