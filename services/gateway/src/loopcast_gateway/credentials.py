"""Where a viewer shows its token: header, subprotocol or cookie. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from loopcast.auth import bearer
from loopcast.auth.cookies import cookie_token

__all__ = ["BEARER", "Shown", "shown"]

BEARER = "bearer."
"""What a subprotocol that carries a token begins with. It is never chosen, so no answer has it."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A token, and where it was."""

    token: str | None = field(repr=False)
    where: Literal["header", "subprotocol", "cookie", "nowhere"]


def shown(headers: Iterable[tuple[str, str]], offered: Sequence[str]) -> Shown:
    """
    What a handshake with `headers` (names in any case) that offers these subprotocols shows.

    Raises:
        InvalidToken: `Authorization` is there and has no bearer token.
    """
    fields = [(name.lower(), value) for name, value in headers]
    token = bearer(value for name, value in fields if name == "authorization")
    if token is not None:
        return Shown(token, "header")
    for name in offered:
        if name.startswith(BEARER) and len(name) > len(BEARER):
            return Shown(name.removeprefix(BEARER), "subprotocol")
    token = cookie_token(value for name, value in fields if name == "cookie")
    return Shown(token, "nowhere" if token is None else "cookie")
