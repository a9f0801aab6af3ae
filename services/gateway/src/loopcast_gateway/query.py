"""What a stream of Server-Sent Events may be asked, checked, and how several positions are one word. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, cast

from loopcast.history_query import SEPARATOR, BadQuery, check_names, places_of, positions_of
from loopcast.position import Position
from loopcast_gateway.filters import BadFilter, filter_of

__all__ = ["STREAM_PARAMETERS", "StreamQuery", "joined", "read_stream_query"]

STREAM_PARAMETERS = ("after", "from", "types", "exclude")


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamQuery:
    """Where a stream of Server-Sent Events begins, and which types it has."""

    after: Mapping[int, Position] = field(default_factory=dict)
    """By partition; where some are there, the others begin at the earliest."""
    start: Literal["now", "earliest"] = "now"
    types: list[str] | None = None
    exclude: list[str] | None = None


def read_stream_query(parameters: Mapping[str, str], last_id: str | None, covered: range) -> StreamQuery:
    """
    Read the parameters of a request for a stream of the partitions `covered`.

    The id that a browser comes back with counts most.

    Raises:
        BadQuery: one is unknown or wrong.
    """
    check_names(parameters, STREAM_PARAMETERS)
    if last_id:
        after = places_of("Last-Event-ID", last_id.split(SEPARATOR), covered)
    else:
        after = positions_of(parameters, "after", covered)
    start = parameters.get("from", "now")
    if start not in ("now", "earliest"):
        raise BadQuery(f"from must be now or earliest, not {start[:40]!r}.")
    types, exclude = _patterns(parameters, "types"), _patterns(parameters, "exclude")
    try:
        filter_of(types, exclude)
    except BadFilter as error:
        raise BadQuery(str(error)) from None
    return StreamQuery(after=after, start=cast("Literal['now', 'earliest']", start), types=types, exclude=exclude)


def joined(places: str | Sequence[str] | None) -> str | None:
    """A position as an address or an event's id has it: those of several partitions in one word."""
    return places if places is None or isinstance(places, str) else SEPARATOR.join(places)


def _patterns(parameters: Mapping[str, str], name: str) -> list[str] | None:
    return parameters[name].split(",") if name in parameters else None
