"""
Which pages and which names may reach a service: the checks against pages that use a visitor's browser. Pure.

A page may open a WebSocket to anywhere, and its browser sends the visitor's cookies and comes from the visitor's
machine, so the server must look at `Origin` itself (RFC 6455, 10.2). A page can also have its own name point at
127.0.0.1 and then *is* the same origin (DNS rebinding), so a service on loopback answers to loopback names only.
"""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urlsplit

from loopcast.settings import PublicSettings, is_loopback

__all__ = ["Origins"]

MAX_LENGTH = 1024
"""A longer one names nobody (a name has 253 characters: RFC 1035, 2.3.4), and `urlsplit` keeps what it was asked."""

_DEFAULT_PORTS = {"http": 80, "https": 443}


class Origins:
    """
    The rule of one service: `allowed` origins, the same origin, and on `loopback` every loopback origin.

    A request without `Origin` comes from no page and is allowed. `hosts` are the names that the service answers to:
    without any, on loopback those of loopback and of allowed origins, else all.
    """

    def __init__(self, allowed: Collection[str], *, loopback: bool, hosts: Collection[str] = ()) -> None:
        self._allowed = {origin.rstrip("/").lower() for origin in allowed}
        self._names = {*(host.lower() for host in hosts), *(urlsplit(origin).hostname for origin in self._allowed)}
        self._loopback = loopback
        self._any_host = not loopback and not hosts

    @classmethod
    def of(cls, settings: PublicSettings) -> Origins:
        """The rule that a service's settings make."""
        return cls(settings.allowed_origins, loopback=is_loopback(settings.host), hosts=settings.allowed_hosts)

    def allows_host(self, host: str | None) -> bool:
        """Whether `host`, as the `Host` header has it, names this service."""
        if self._any_host:
            return True
        name = _split(f"//{host or ''}")[0]
        return name is not None and (name in self._names or (self._loopback and is_loopback(name)))

    def allows_origin(self, origin: str | None, host: str | None) -> bool:
        """Whether a page of `origin` may use the service that it reached as `host`."""
        if origin is None:
            return True
        origin = origin.rstrip("/").lower()
        if origin in self._allowed:
            return True
        name, port = _split(origin)
        if name is None:
            return False
        if self._loopback and is_loopback(name):
            return True
        # Behind a proxy that ends TLS the scheme here is not the page's, so a port left out is that of the origin's.
        return (name, port) == _split(f"{urlsplit(origin).scheme}://{host or ''}".lower())


def _split(url: str) -> tuple[str | None, int | None]:
    """Name and port of `url`; no name where it is no URL."""
    if len(url) > MAX_LENGTH:
        return None, None
    try:
        parts = urlsplit(url)
        return parts.hostname, parts.port or _DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return None, None
