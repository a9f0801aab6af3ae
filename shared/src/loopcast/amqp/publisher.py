"""A connection that publishes with confirms, without any I/O."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from pamqp import commands

from loopcast.amqp.confirms import Confirms, Settled
from loopcast.amqp.connection import Connection, Login, Phase
from loopcast.amqp.faults import UNEXPECTED_FRAME, Fault
from loopcast.amqp.parser import Acknowledged, Item, Returned
from loopcast.amqp.publishing import Encoder
from loopcast.broker.interface import Message

__all__ = ["PublishConnection"]

log = logging.getLogger(__name__)


class PublishConnection(Connection):
    """The channel is in confirm mode (`confirm.select`)."""

    def __init__(self, login: Login) -> None:
        super().__init__(login, [commands.Confirm.Select()])
        self._confirms = Confirms()
        self._encoder = Encoder(self._frame_max)

    def publish(self, messages: Sequence[Message]) -> list[Settled]:
        """
        Publish `messages` in order, each with the next tag; nothing once the connection is over.

        Returns what is settled already: a message that cannot be encoded is rejected here, because one that raises
        would be in the way of everything behind it, for ever.
        """
        if self.phase is not Phase.READY:
            return []
        encode, sendable = self._encoder.encode, 0
        settled: list[Settled] = []
        for position, message in enumerate(messages):
            try:
                self._output += encode(message)
            except (ValueError, TypeError) as error:
                log.error("The message %s cannot be published: %s", message.message_id[:64], error)  # noqa: TRY400
                self._confirms.sent(messages[sendable:position])
                settled.append(self._confirms.skip())
                sendable = position + 1
        self._confirms.sent(messages[sendable:])
        return settled

    def _opened(self) -> None:
        self._encoder = Encoder(self._frame_max)

    def _content(self, item: Item) -> None:
        if isinstance(item, Acknowledged):
            self._events += self._confirms.acknowledged(item)
        elif isinstance(item, Returned):
            self._confirms.returned(item)
        else:
            raise Fault(UNEXPECTED_FRAME, "a delivery came to a channel that consumes nothing")
