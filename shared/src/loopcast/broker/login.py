"""
The login of a broker as its files have it now, so that a password is rotated without a restart.

Everything that connects has the URL that the process started with; here it becomes the URL of one connection.
"""

from __future__ import annotations

from collections.abc import Callable

from loopcast.errors import BrokerUnavailable, ConfigurationError

__all__ = ["current", "follow"]

_followed: dict[str, Callable[[], str]] = {}
"""By the URL of the start, what reads it anew. A process has one broker, and tells once: see `loopcast.lifecycle`."""


def follow(url: str, read: Callable[[], str]) -> None:
    """From now on connections to `url` are made to what `read` gives."""
    _followed[url] = read


def current(url: str) -> str:
    """
    The URL to connect to where `url` is asked for.

    Raises:
        BrokerUnavailable: a file cannot be read now; it is tried again as any connection is.
    """
    read = _followed.get(url)
    if read is None:
        return url
    try:
        return read()
    except ConfigurationError as error:
        raise BrokerUnavailable(str(error)) from None
