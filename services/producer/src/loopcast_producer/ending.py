"""How a connection tells the application that it ends a request whose body is being read, so that it is answered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loopcast_producer.problems import Refusal

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope

__all__ = ["EXTENSION", "Ending", "refusable"]

EXTENSION = "loopcast"
"""Under which name a scope has its :class:`Ending`, as `ending` (ASGI, "Extensions")."""


class Ending:
    """Whether, and why, nothing more of a request's body is waited for."""

    __slots__ = ("refusal",)

    def __init__(self) -> None:
        self.refusal: Refusal | None = None


def refusable(scope: Scope, receive: Receive) -> Receive:
    """`receive` of a request, which raises the refusal where its connection ends it."""
    ending: Ending | None = scope.get("extensions", {}).get(EXTENSION, {}).get("ending")
    if ending is None:
        return receive

    async def receive_or_refuse() -> Message:
        message = await receive()
        if ending.refusal is not None:
            raise ending.refusal
        return message

    return receive_or_refuse
