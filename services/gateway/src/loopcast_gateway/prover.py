"""Whether the log still has the message that a position points at: from memory where possible, else by reading it."""

from __future__ import annotations

from collections.abc import Sequence

from loopcast.position import Anchor, Position, verify
from loopcast_gateway.history import History
from loopcast_gateway.tail import Tail

__all__ = ["Prover"]

MARK_SECONDS = 3.0
"""How long the heartbeat may take that proves a position to be of another log."""


class Prover:
    """Judges positions of every partition."""

    def __init__(self, tails: Sequence[Tail], history: History) -> None:
        self._tails = tails
        self._history = history

    async def prove(self, position: Position) -> Anchor:
        """
        What the log proves about `position`.

        Raises:
            BrokerError: the log cannot be asked.
            TimeoutError: the same.
        """
        tail = self._tails[position.partition]
        # Another gateway may be ahead of this one: only an offset beyond a heartbeat sent now is of another log. And
        # the broker must not be asked for an offset beyond the end, because it answers with silence.
        if position.offset > tail.partition.tail and position.offset > await tail.mark(MARK_SECONDS):
            return Anchor.EPOCH_CHANGED
        known = tail.partition.prove(position)
        if known is not None:
            return known
        first = await self._history.first(position.partition, position.offset)
        return verify(position, first.offset, first.message_id)
