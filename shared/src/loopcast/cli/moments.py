"""Times as people write them on a command line: so long ago, or a date and time."""

from __future__ import annotations

import datetime as dt
import re
import time

from loopcast.errors import ConfigurationError

__all__ = ["UNITS", "parse_moment", "span"]

_AGO = re.compile(r"([0-9]{1,9})([smhd])\Z")
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
"""Seconds by the letter that people write."""


def parse_moment(text: str, option: str = "--since", now: float | None = None) -> float:
    """
    Unix seconds of `2h` (so long ago), or of an ISO 8601 time, which is UTC where it does not say.

    Raises:
        ConfigurationError: it is neither; the sentence names `option`.
    """
    if match := _AGO.match(text):
        return (time.time() if now is None else now) - int(match[1]) * UNITS[match[2]]
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(f"{option} {text!r}: write 2h, 7d, or a time such as 2026-11-20T12:00:00Z.") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).timestamp()


def span(seconds: float) -> str:
    """How long so many seconds are: `42s`, `3m 20s`, `5h 12m` or `2d 4h`."""
    whole = max(0, int(seconds))
    for size, name, smaller, below in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= size:
            return f"{whole // size}{name} {whole % size // smaller}{below}"
    return f"{whole}s"
