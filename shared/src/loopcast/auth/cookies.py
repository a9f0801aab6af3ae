"""
The session cookie: a token where the pages of a service send it by themselves, and no script can read it. Pure.

`SameSite=Strict` keeps other sites from using it, and services look at `Origin` besides: a page on another port of the
same machine is the same site (https://datatracker.ietf.org/doc/html/draft-ietf-httpbis-rfc6265bis, 5.2).
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["COOKIE", "MAX_COOKIE_TOKEN", "clear_cookie", "cookie_token", "set_cookie"]

COOKIE = "loopcast_session"
MAX_COOKIE_TOKEN = 3800
"""Browsers keep cookies of 4096 bytes, attributes included (RFC 6265, 6.1)."""


def cookie_token(values: Iterable[str]) -> str | None:
    """The token in the values of `Cookie`."""
    for value in values:
        for part in value.split(";"):
            name, _, token = part.strip().partition("=")
            if name == COOKIE and token:
                return token
    return None


def set_cookie(token: str, *, seconds: int, secure: bool) -> str:
    """`Set-Cookie` that keeps `token`, which is made of characters that need no quotes, for `seconds`."""
    attributes = f"Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict"
    return f"{COOKIE}={token}; {attributes}{'; Secure' if secure else ''}"


def clear_cookie() -> str:
    """`Set-Cookie` that takes it away."""
    return set_cookie("", seconds=0, secure=False)
