"""What `GET /v1/experiments/{e}/events` and `/runs` may be asked, of gateway and recorder alike, checked. Pure."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, cast

from loopcast.errors import InvalidPosition, LoopcastError
from loopcast.position import Position

__all__ = [
    "DEFAULT_LIMIT",
    "MAX_LIMIT",
    "MAX_TS",
    "PARAMETERS",
    "RUN_PARAMETERS",
    "SEPARATOR",
    "BadQuery",
    "Order",
    "Query",
    "RunQuery",
    "check_names",
    "places_of",
    "positions_of",
    "read_limit",
    "read_query",
    "read_run_query",
]

DEFAULT_LIMIT = 100
MAX_LIMIT = 1000

Order = Literal["oldest", "newest"]
MAX_TS = 1e12
"""Unix seconds that a time may have: far beyond what RFC 3339 can write."""

SEPARATOR = ","
"""Between the positions of several partitions, where they are one parameter."""

PARAMETERS = ("after", "before", "since_ts", "until_ts", "limit", "order")
RUN_PARAMETERS = ("limit", "open")


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
class RunQuery:
    """Which runs, and at most how many."""

    limit: int = DEFAULT_LIMIT
    open: bool = False
    """Only those that go on, or wait to."""


def read_query(parameters: Mapping[str, str], covered: range, *, now: float | None = None) -> Query:
    """
    Read the parameters of a request for events in the partitions `covered`.

    Raises:
        BadQuery: one is unknown or wrong, or two exclude each other.
    """
    check_names(parameters, PARAMETERS)
    if "after" in parameters and "before" in parameters:
        raise BadQuery("Give one of after and before, not both.")
    before = positions_of(parameters, "before", covered)
    return Query(
        after=positions_of(parameters, "after", covered),
        before=before,
        since=_time(parameters, "since_ts", now),
        until=_time(parameters, "until_ts", now),
        limit=read_limit(parameters),
        order=_order(parameters.get("order"), default="newest" if before else "oldest"),
    )


def read_run_query(parameters: Mapping[str, str]) -> RunQuery:
    """
    Read the parameters of a request for runs.

    Raises:
        BadQuery: one is unknown or wrong.
    """
    check_names(parameters, RUN_PARAMETERS)
    flag = parameters.get("open", "false")
    if flag not in ("true", "false"):
        raise BadQuery(f"open must be true (only runs that go on or wait to) or false, not {flag[:40]!r}.")
    return RunQuery(limit=read_limit(parameters), open=flag == "true")


def check_names(parameters: Mapping[str, str], names: Sequence[str]) -> None:
    """
    Look whether the parameters have these names.

    Raises:
        BadQuery: one has another.
    """
    for name in parameters:
        if name not in names:
            raise BadQuery(f"There is no parameter {name[:40]!r}; there are {', '.join(names)}.")


def positions_of(parameters: Mapping[str, str], name: str, covered: range) -> dict[int, Position]:
    """
    The positions of the parameter `name`, by partition; none where it is not given.

    Raises:
        BadQuery: as :func:`places_of`.
    """
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


def read_limit(parameters: Mapping[str, str]) -> int:
    """
    The parameter `limit`, or what it is without.

    Raises:
        BadQuery: it is no number, or not one that may be.
    """
    text = parameters.get("limit")
    if text is None:
        return DEFAULT_LIMIT
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= MAX_LIMIT):
        raise BadQuery(f"limit must be a number from 1 to {MAX_LIMIT}, not {text[:40]!r}.")
    return int(text)


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


def _order(text: str | None, *, default: Order) -> Order:
    if text is None:
        return default
    if text not in ("oldest", "newest"):
        raise BadQuery(f"order must be oldest or newest, not {text[:40]!r}.")
    return cast("Order", text)
