"""What there is to watch: each experiment that the log has shown, with its first and last event."""

from __future__ import annotations

from collections import OrderedDict

import msgspec

from loopcast.events import format_time
from loopcast_gateway.entry import Entry

__all__ = ["Catalog", "Listed", "Mark"]


class Mark(msgspec.Struct):
    """An event of an experiment, without its content."""

    pos: str
    type: str
    recordedtime: str


class Listed(msgspec.Struct):
    """An experiment."""

    experiment_id: str
    events: int
    first: Mark
    last: Mark


class _Seen:
    __slots__ = ("events", "first", "last")

    def __init__(self, entry: Entry) -> None:
        self.events = 0
        self.first = self.last = entry


class Catalog:
    """Experiments by the time of their last event; beyond `limit`, those that were silent longest are left out."""

    def __init__(self, limit: int = 10_000) -> None:
        self._limit = limit
        self._seen: OrderedDict[str, _Seen] = OrderedDict()
        self.forgotten = 0
        """How many experiments were left out."""

    def __len__(self) -> int:
        return len(self._seen)

    def add(self, entry: Entry) -> None:
        """Note an event."""
        seen = self._seen.get(entry.experiment)
        if seen is None:
            seen = self._seen[entry.experiment] = _Seen(entry)
        seen.events += 1
        seen.last = entry
        self._seen.move_to_end(entry.experiment)
        if len(self._seen) > self._limit:
            self._seen.popitem(last=False)
            self.forgotten += 1

    def listing(self) -> list[Listed]:
        """The experiments, the most recently active first."""
        return [
            Listed(experiment_id=experiment, events=seen.events, first=_mark(seen.first), last=_mark(seen.last))
            for experiment, seen in reversed(self._seen.items())
        ]


def _mark(entry: Entry) -> Mark:
    return Mark(pos=entry.pos, type=entry.type, recordedtime=format_time(entry.recorded))
