"""One event as the fold sees it: what it says, of which run, and when."""

from __future__ import annotations

from loopcast.errors import InvalidEvent
from loopcast.events import Event, to_microseconds
from loopcast_otel_exporter.state import Run

__all__ = ["Moment", "time_of"]

_MAX_NANOSECONDS = 2**63


class Moment:
    """Plain attributes instead of a dataclass: one is made for every event."""

    __slots__ = ("data", "depth", "event", "run", "time")

    def __init__(self, event: Event, data: dict[str, object], run: Run, time: int) -> None:
        self.event = event
        self.data = data
        self.run = run
        self.time = time
        depth = data.get("depth")
        self.depth = depth if type(depth) is int and depth > 0 else 0


def time_of(event: Event, run: Run) -> int:
    """
    When an event happened, in nanoseconds since 1970.

    Its own time; where it has none, when it was recorded or its id was made (RFC 9562, 5.7); else not later than the
    run's last event. Never the time at which somebody reads it.
    """
    for told in (event.time, event.recorded_time):
        if told is not None:
            try:
                nanoseconds = to_microseconds(told) * 1000
            except InvalidEvent:
                continue
            if 0 < nanoseconds < _MAX_NANOSECONDS:
                return nanoseconds
    return _time_of_id(event.id) or run.latest or 1


def _time_of_id(id_: str) -> int:
    digits = id_.replace("-", "")
    if len(digits) != 32 or digits[12] != "7":
        return 0
    try:
        return int(digits[:12], 16) * 1_000_000
    except ValueError:
        return 0
