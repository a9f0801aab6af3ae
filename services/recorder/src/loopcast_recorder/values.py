"""Reading values out of a loop's own object, in which any member may be missing or of any type. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from loopcast.errors import InvalidEvent
from loopcast.events import to_microseconds

__all__ = ["depth", "flag", "milliseconds", "number", "text", "whole"]

MAX_TEXT = 2000
"""Characters of a text that a column keeps; the whole is in the event."""

MAX_WHOLE = 2**53


def text(data: Mapping[str, object], name: str) -> str | None:
    """A text, without what a database's text cannot hold."""
    value = data.get(name)
    if not isinstance(value, str) or not value:
        return None
    return value[:MAX_TEXT].replace("\0", "").encode("utf-8", "replace").decode()


def whole(data: Mapping[str, object], name: str) -> int | None:
    """A whole number that every database and JSON reader holds."""
    value = data.get(name)
    return value if type(value) is int and -MAX_WHOLE < value < MAX_WHOLE else None


def number(data: Mapping[str, object], name: str) -> float | None:
    """A finite number."""
    value = data.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < MAX_WHOLE:
        return None
    return float(value)


def flag(data: Mapping[str, object], name: str) -> bool:
    """Whether a member is true."""
    return data.get(name) is True


def depth(data: Mapping[str, object]) -> int:
    """0 for the run's own loop, and one more for each sub-loop."""
    value = data.get("depth")
    return value if type(value) is int and 0 < value < MAX_TEXT else 0


def milliseconds(started: str | None, ended: str | None) -> float | None:
    """How long it took, never less than nothing; None where a time is missing or is none."""
    if started is None or ended is None:
        return None
    try:
        return max(0, to_microseconds(ended) - to_microseconds(started)) / 1000
    except InvalidEvent:
        return None
