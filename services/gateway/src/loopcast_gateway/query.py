"""What `GET /v1/experiments/{e}/events` may be asked, checked. Pure."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast

from loopcast.errors import InvalidPosition, LoopcastError
from loopcast.position import Position
from loopcast_gateway.filters import BadFilter, filter_of

__all__ = [
    "DEFAULT_LIMIT",
    "MAX_LIMIT",
    "MAX_TS",
    "PARAMETERS",
    "BadQuery",
    "Order",
    "Query",
    "position_of",
    "read_limit",
    "read_query",
]

DEFAULT_LIMIT = 100
MAX_LIMIT = 1000

Order = Literal["oldest", "newest"]
MAX_TS = 1e12
"""Unix seconds that a time may have: far beyond what RFC 3339 can write."""

STREAM_PARAMETERS = ("after", "from", "types", "exclude")
PARAMETERS = ("after", "before", "since_ts", "until_ts", "limit", "order")


class BadQuery(LoopcastError):
    """A parameter is wrong; the sentence says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Which events, at most how many, and from which end."""

    after: Position | None = None
    before: Position | None = None
    since: float | None = None
    """Unix seconds; events recorded later than this."""
    until: float | None = None
    """Unix seconds; no events recorded later than this."""
    anchored: bool = False
    """Whether an event recorded exactly at `since` is a place: then what stands behind it in the log is wanted."""
    limit: int = DEFAULT_LIMIT
    order: Order = "oldest"


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamQuery:
    """Where a stream of Server-Sent Events begins, and which types it has."""

    after: Position | None = None
    start: Literal["now", "earliest"] = "now"
    types: list[str] | None = None
    exclude: list[str] | None = None


def read_query(parameters: Mapping[str, str], covered: range, *, now: float | None = None) -> Query:
    """
    Read the parameters of a request for events in the partitions `covered`.

    Raises:
        BadQuery: one is unknown or wrong, or two exclude each other.
    """
    _known(parameters, PARAMETERS)
    bounds = [name for name in ("after", "before", "since_ts") if name in parameters]
    if len(bounds) > 1:
        raise BadQuery(f"Give one of after, before and since_ts, not {' and '.join(bounds)}.")
    if len(covered) > 1 and bounds not in ([], ["since_ts"]):
        raise BadQuery(f"{bounds[0]}: over several partitions * is read by time, not by position.")
    partition = covered[0]
    before = _position(parameters, "before", partition)
    return Query(
        after=_position(parameters, "after", partition),
        before=before,
        since=_time(parameters, "since_ts", now),
        until=_time(parameters, "until_ts", now),
        limit=_limit(parameters.get("limit")),
        order=_order(parameters.get("order"), default="newest" if before is not None else "oldest"),
    )


def read_stream_query(parameters: Mapping[str, str], last_id: str | None, partition: int) -> StreamQuery:
    """
    Read the parameters of a request for a stream of `partition`; the id that a browser comes back with counts most.

    Raises:
        BadQuery: one is unknown or wrong.
    """
    _known(parameters, STREAM_PARAMETERS)
    if last_id:
        after: Position | None = position_of("Last-Event-ID", last_id, partition)
    else:
        after = _position(parameters, "after", partition)
    start = parameters.get("from", "now")
    if start not in ("now", "earliest"):
        raise BadQuery(f"from must be now or earliest, not {start[:40]!r}.")
    types, exclude = _patterns(parameters, "types"), _patterns(parameters, "exclude")
    try:
        filter_of(types, exclude)
    except BadFilter as error:
        raise BadQuery(str(error)) from None
    return StreamQuery(after=after, start=cast("Literal['now', 'earliest']", start), types=types, exclude=exclude)


def read_limit(parameters: Mapping[str, str]) -> int:
    """
    Read the parameters of a request that has a limit and nothing else.

    Raises:
        BadQuery: one is unknown or wrong.
    """
    _known(parameters, ("limit",))
    return _limit(parameters.get("limit"))


def _known(parameters: Mapping[str, str], names: Sequence[str]) -> None:
    for name in parameters:
        if name not in names:
            raise BadQuery(f"There is no parameter {name[:40]!r}; there are {', '.join(names)}.")


def _patterns(parameters: Mapping[str, str], name: str) -> list[str] | None:
    return parameters[name].split(",") if name in parameters else None


def _position(parameters: Mapping[str, str], name: str, partition: int) -> Position | None:
    return position_of(name, parameters[name], partition) if name in parameters else None


def position_of(name: str, token: str, partition: int) -> Position:
    """
    The position that the parameter `name` has, in `partition`.

    Raises:
        BadQuery: it is none, or of another partition.
    """
    try:
        position = Position.parse(token)
    except InvalidPosition as error:
        raise BadQuery(f"{name}: {error}") from None
    if position.partition != partition:
        raise BadQuery(f"{name}: this position is of another experiment's part of the log.")
    return position


def _time(parameters: Mapping[str, str], name: str, now: float | None) -> float | None:
    text = parameters.get(name)
    if text is None:
        return None
    try:
        moment = float(text)
    except ValueError:
        moment = -1.0
    # Not a comparison that NaN passes.
    if not 0 <= moment < MAX_TS:
        example = time.time() if now is None else now
        raise BadQuery(f"{name} must be Unix seconds, such as {example:.3f}, not {text[:40]!r}.")
    return moment


def _limit(text: str | None) -> int:
    if text is None:
        return DEFAULT_LIMIT
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= MAX_LIMIT):
        raise BadQuery(f"limit must be a number from 1 to {MAX_LIMIT}, not {text[:40]!r}.")
    return int(text)


def _order(text: str | None, *, default: Order) -> Order:
    if text is None:
        return default
    if text not in ("oldest", "newest"):
        raise BadQuery(f"order must be oldest or newest, not {text[:40]!r}.")
    return cast("Order", text)
