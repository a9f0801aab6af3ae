"""How a client shows its token: the header fields of a request. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from loopcast.errors import InvalidToken

__all__ = ["CHALLENGE", "bearer"]

CHALLENGE = 'Bearer realm="loopcast"'
"""`WWW-Authenticate` of a 401 (RFC 6750, 3)."""


def bearer(values: Iterable[str]) -> str | None:
    """
    The token in the values of `Authorization` (RFC 6750, 2.1); None without any.

    Raises:
        InvalidToken: it is another scheme, or there are several.
    """
    found = list(values)
    if not found:
        return None
    scheme, _, token = found[0].strip().partition(" ")
    if len(found) > 1 or scheme.lower() != "bearer" or not token.strip():
        raise InvalidToken("Write it as `Authorization: Bearer <token>`, once.", reason="malformed")
    return token.strip()
