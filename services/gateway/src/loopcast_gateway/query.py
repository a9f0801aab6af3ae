"""What `GET /v1/experiments/{e}/events` may be asked, checked. Pure."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, cast

from loopcast.errors import InvalidPosition, LoopcastError
from loopcast.position import Position
from loopcast_gateway.filters import BadFilter, filter_of

__all__ = [
    "DEFAULT_LIMIT",
    "MAX_LIMIT",
    "MAX_TS",
    "PARAMETERS",
    "SEPARATOR",
    "BadQuery",
    "Order",
    "Query",
    "joined",
    "places_of",
    "read_limit",
    "read_query",
]

DEFAULT_LIMIT = 100
MAX_LIMIT = 1000

Order = Literal["oldest", "newest"]
MAX_TS = 1e12
"""Unix seconds that a time may have: far beyond what RFC 3339 can write."""

SEPARATOR = ","
"""Between the positions of several partitions, where they are one parameter."""

STREAM_PARAMETERS = ("after", "from", "types", "exclude")
PARAMETERS = ("after", "before", "since_ts", "until_ts", "limit", "order")


class BadQuery(LoopcastError):
    """A parameter is wrong; the sentence says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Which events, at most how many, and from which end."""

    after: Mapping[int, Position] = field(default_factory=dict)
    """By partition, what the events stand behind; a partition that is not there is read from its beginning."""
    before: Mapping[int, Position] = field(default_factory=dict)
    """By partition, what the events stand in front of; a partition that is not there is read to its end."""
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

    after: Mapping[int, Position] = field(default_factory=dict)
    """By partition; where some are there, the others begin at the earliest."""
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
    if "after" in parameters and "before" in parameters:
        raise BadQuery("Give one of after and before, not both.")
    before = _positions(parameters, "before", covered)
    return Query(
        after=_positions(parameters, "after", covered),
        before=before,
        since=_time(parameters, "since_ts", now),
        until=_time(parameters, "until_ts", now),
        limit=_limit(parameters.get("limit")),
        order=_order(parameters.get("order"), default="newest" if before else "oldest"),
    )


def read_stream_query(parameters: Mapping[str, str], last_id: str | None, covered: range) -> StreamQuery:
    """
    Read the parameters of a request for a stream of the partitions `covered`.

    The id that a browser comes back with counts most.

    Raises:
        BadQuery: one is unknown or wrong.
    """
    _known(parameters, STREAM_PARAMETERS)
    if last_id:
        after = places_of("Last-Event-ID", last_id.split(SEPARATOR), covered)
    else:
        after = _positions(parameters, "after", covered)
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


def _positions(parameters: Mapping[str, str], name: str, covered: range) -> dict[int, Position]:
    return places_of(name, parameters[name].split(SEPARATOR), covered) if name in parameters else {}


def places_of(name: str, tokens: Iterable[str], covered: range) -> dict[int, Position]:
    """
    The positions that the parameter `name` has, by partition; at most one for each of those `covered`.

    Raises:
        BadQuery: one is none, is of another partition, or there are two of the same.
    """
    found: dict[int, Position] = {}
    for token in tokens:
        try:
            position = Position.parse(token)
        except InvalidPosition as error:
            raise BadQuery(f"{name}: {error}") from None
        if position.partition not in covered:
            raise BadQuery(f"{name}: this position is of another experiment's part of the log.")
        if position.partition in found:
            raise BadQuery(f"{name}: there are two positions of the same part of the log.")
        found[position.partition] = position
    return found


def joined(places: str | Sequence[str] | None) -> str | None:
    """A position as an address or an event's id has it: those of several partitions in one word."""
    return places if places is None or isinstance(places, str) else SEPARATOR.join(places)


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
