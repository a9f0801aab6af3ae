"""What everything that keeps a link to the broker can be asked, whatever the link is for."""

from __future__ import annotations

from types import TracebackType
from typing import Generic, Self

from loopcast.broker.supervisor import L, Supervisor
from loopcast.errors import BrokerError

__all__ = ["Supervised"]


class Supervised(Generic[L]):
    """Has a supervisor, says how its link is, and ends with the block that it was entered for."""

    def __init__(self, supervisor: Supervisor[L]) -> None:
        self._supervisor = supervisor

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def connected(self) -> bool:
        """Whether the connection stands and what it is for goes on."""
        return self._supervisor.connected

    @property
    def reason(self) -> BrokerError | None:
        """Why it is not connected: no broker, or one that lacks what is needed (:exc:`~loopcast.errors.LogMissing`)."""
        return self._supervisor.reason

    @property
    def losses(self) -> int:
        """How many connections were lost."""
        return self._supervisor.losses

    async def wait_connected(self) -> None:
        """Wait until the connection stands."""
        await self._supervisor.wait_connected()

    async def close(self) -> None:
        """End the connection."""
        await self._supervisor.close()
