"""What `GET /v1/experiments/{e}/events` may be asked, checked: the gateway's own parameters. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from loopcast.errors import InvalidPosition, LoopcastError
from loopcast.position import Position

__all__ = ["DEFAULT_LIMIT", "MAX_LIMIT", "Asked", "BadQuery", "read_query"]

DEFAULT_LIMIT = 100
MAX_LIMIT = 1000
_PARAMETERS = ("after", "before", "since_ts", "until_ts", "limit", "order")


class BadQuery(LoopcastError):
    """A parameter is wrong; the sentence says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Which events, at most how many, and from which end."""

    after: Position | None = None
    before: Position | None = None
    since: float | None = None
    """Unix seconds; events recorded later than this."""
    until: float | None = None
    """Unix seconds; no events recorded later than this."""
    limit: int = DEFAULT_LIMIT
    newest: bool = False


def read_query(parameters: Mapping[str, str], partition: int) -> Asked:
    """
    Read the parameters of a request for events in `partition`.

    Raises:
        BadQuery: one is unknown or wrong, or two exclude each other.
    """
    for name in parameters:
        if name not in _PARAMETERS:
            raise BadQuery(f"There is no parameter {name[:40]!r}; there are {', '.join(_PARAMETERS)}.")
    if "after" in parameters and "before" in parameters:
        raise BadQuery("Give one of after and before, not both.")
    order = parameters.get("order", "newest" if "before" in parameters else "oldest")
    if order not in ("oldest", "newest"):
        raise BadQuery(f"order must be oldest or newest, not {order[:40]!r}.")
    return Asked(
        after=_position(parameters, "after", partition),
        before=_position(parameters, "before", partition),
        since=_time(parameters, "since_ts"),
        until=_time(parameters, "until_ts"),
        limit=_limit(parameters.get("limit")),
        newest=order == "newest",
    )


def _position(parameters: Mapping[str, str], name: str, partition: int) -> Position | None:
    if name not in parameters:
        return None
    try:
        position = Position.parse(parameters[name])
    except InvalidPosition as error:
        raise BadQuery(f"{name}: {error}") from None
    if position.partition != partition:
        raise BadQuery(f"{name}: this position is of another experiment's part of the log.")
    return position


def _time(parameters: Mapping[str, str], name: str) -> float | None:
    text = parameters.get(name)
    if text is None:
        return None
    try:
        moment = float(text)
    except ValueError:
        moment = -1.0
    # Not a comparison that NaN passes.
    if not 0 <= moment < 1e12:
        raise BadQuery(f"{name} must be Unix seconds, such as 1790000000.5, not {text[:40]!r}.")
    return moment


def _limit(text: str | None) -> int:
    if text is None:
        return DEFAULT_LIMIT
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= MAX_LIMIT):
        raise BadQuery(f"limit must be a number from 1 to {MAX_LIMIT}, not {text[:40]!r}.")
    return int(text)
