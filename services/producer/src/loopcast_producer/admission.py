"""How much of requests' bodies may be in memory at once. Pure."""

from __future__ import annotations

from loopcast_producer.problems import too_busy

__all__ = ["Admission"]


class Admission:
    """
    A budget of bytes that all requests share.

    Bodies that are being read are no messages yet, so no publisher's window counts them: a hundred clients with slow
    64 MiB bodies would otherwise fill the machine.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self.held = 0

    def take(self, size: int) -> None:
        """
        Hold `size` bytes more. Where nothing is held any size is, so that a large body is not refused for ever.

        Raises:
            Refusal: 503, there is no room.
        """
        if self.held and self.held + size > self._capacity:
            raise too_busy()
        self.held += size

    def give_back(self, size: int) -> None:
        """`size` bytes are no longer held."""
        self.held -= size
