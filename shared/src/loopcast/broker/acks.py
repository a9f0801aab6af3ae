"""
When to acknowledge what was read from a stream: pure, the clock is the caller's.

Acknowledging takes nothing out of a stream; it gives the broker credit for more. Too often costs a frame each, too
rarely lets the credit run dry, and never is punished: a consumer that leaves a delivery unacknowledged longer than the
broker's consumer timeout is closed (https://www.rabbitmq.com/docs/consumers#acknowledgement-timeout), which on a quiet
log takes no more than a few deliveries under the batch size. So there is a time bound as well.
"""

from __future__ import annotations

__all__ = ["ACK_SECONDS", "Acks"]

ACK_SECONDS = 30.0


class Acks:
    """Says up to which tag to acknowledge, when a quarter of the credit is used or `seconds` have passed."""

    def __init__(self, prefetch: int, *, seconds: float = ACK_SECONDS) -> None:
        self._batch = max(1, prefetch // 4)
        self._seconds = seconds
        self._handed = 0
        self._acked = 0
        self._oldest: float | None = None

    def handed(self, tag: int, now: float) -> int | None:
        """Everything up to `tag` was handed over: the tag to acknowledge up to, if it is time."""
        self._handed = tag
        if self._oldest is None:
            self._oldest = now
        if tag - self._acked >= self._batch:
            return self._ack()
        return self.due(now)

    def due(self, now: float) -> int | None:
        """The tag to acknowledge up to, if something waits for that too long."""
        if self._oldest is not None and now - self._oldest >= self._seconds:
            return self._ack()
        return None

    def _ack(self) -> int:
        self._acked, self._oldest = self._handed, None
        return self._acked
