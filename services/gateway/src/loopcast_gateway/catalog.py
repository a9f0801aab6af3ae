"""What there is to watch: each experiment that the log has shown, with its first and last event, and where they are."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Sequence

import msgspec

from loopcast.events import format_time
from loopcast.position import Position
from loopcast_gateway.entry import Entry
from loopcast_gateway.spans import MERGE, Mark, Segment, Trail, mark_of

__all__ = ["Catalog", "Listed", "Shown"]

MAX_EXPERIMENTS = 10_000
MAX_SPANS = 100_000


class Shown(msgspec.Struct, omit_defaults=True):
    """An event of an experiment, without its content."""

    pos: str | None = None
    type: str | None = None
    recordedtime: str | None = None


class Listed(msgspec.Struct):
    """An experiment."""

    experiment_id: str
    events: int
    first: Shown
    last: Shown


class _Record(msgspec.Struct, array_like=True):
    version: int
    everything: Trail | None
    seen: list[tuple[str, Trail]]
    forgotten: int
    # Programs of before do not have what follows: it is read as if nothing was gone, and left out of what they write.
    begins: int = 0
    begins_recorded: int = 0
    unknown: int = 0
    gone: list[str] = []


VERSION = 1
_decoder = msgspec.msgpack.Decoder(_Record)


class Catalog:
    """
    Experiments by the time of their last event; beyond `limit`, those that were silent longest are left out.

    Where the events of an experiment are is known for all of the log that was read. Beyond `max_spans` in all it is
    known less precisely, and a replay reads more than it needs.
    """

    def __init__(self, *, limit: int = MAX_EXPERIMENTS, max_spans: int = MAX_SPANS) -> None:
        self._limit = limit
        self._max_spans = max_spans
        self._spans = 0
        self._seen: OrderedDict[str, Trail] = OrderedDict()
        self._everything: Trail | None = None
        # The log's first message that is left, where it stands and when it was recorded.
        self._begins = self._begins_recorded = 0
        # Experiments that the log has nothing of any more; of those before this time not even that is known.
        self._gone: OrderedDict[str, None] = OrderedDict()
        self._unknown = 0
        self.forgotten = 0
        """How many experiments were left out."""

    def __len__(self) -> int:
        return len(self._seen)

    def add(self, entry: Entry) -> None:
        """Note an event."""
        if self._everything is None:
            self._everything = Trail.begin(entry)
        trail = self._seen.get(entry.experiment)
        if trail is None:
            trail = self._seen[entry.experiment] = Trail.begin(entry)
            if len(self._seen) > self._limit:
                self._forget_one()
        self._seen.move_to_end(entry.experiment)
        mark = mark_of(entry)
        self._spans += self._everything.add(entry, mark) + trail.add(entry, mark)
        if self._spans > self._max_spans:
            self._thin()

    def trail(self, experiment: str | None) -> Trail | None:
        """The events of `experiment` (None is all) by their places; None where none were seen, or it was left out."""
        return self._everything if experiment is None else self._seen.get(experiment)

    def segments(
        self, experiment: str | None, partition: int, behind: int, until: int, since: int, *, merge: int = MERGE
    ) -> list[Segment]:
        """What to read for its events above `behind`, up to `until`, later than `since` (microseconds)."""
        trail = self.trail(experiment)
        if trail is not None:
            return trail.segments(partition, behind, until, since=since, merge=merge)
        return [Segment(behind, until)] if self.forgotten and until > behind else []

    def begin(self, first: int, recorded: int) -> None:
        """
        What is read first of the log stands at the offset `first`: what was before it, nobody here knows.

        Args:
            first: 0 is the beginning of a log that has lost nothing.
            recorded: microseconds since 1970.
        """
        if first:
            self._begins, self._begins_recorded, self._unknown = first, recorded, recorded

    def cut(self, first: int, recorded: int) -> None:
        """The log begins at the offset `first`, with what was `recorded` then (0: unknown): forget what was before."""
        if first <= self._begins:
            return
        for experiment in [e for e, trail in self._seen.items() if trail.last.offset < first]:
            del self._seen[experiment]
            self._gone[experiment] = None
        for trail in (*self._seen.values(), *([self._everything] if self._everything is not None else [])):
            if trail.spans and trail.spans[0].first < first:
                trail.cut(first)
        left = self._everything.spans if self._everything is not None else []
        self._begins = first
        self._begins_recorded = recorded or (left[0].recorded if left else sys.maxsize)
        while len(self._gone) > self._limit:
            self._gone.popitem(last=False)
            self._unknown = self._begins_recorded
        self._count()

    def lost(self, experiment: str | None, since: int) -> bool:
        """Whether events of `experiment` (None is all) recorded after `since` (microseconds) may be gone."""
        if not self._begins or since >= self._begins_recorded:
            return False
        trail = self.trail(experiment)
        if experiment is None or since < self._unknown or experiment in self._gone:
            return True
        return self.forgotten > 0 if trail is None else trail.lost or not trail.first.id

    def listing(self, partition: int) -> list[Listed]:
        """The experiments, the most recently active first."""
        return [
            Listed(
                experiment_id=experiment,
                events=trail.events,
                first=_shown(trail.first, partition),
                last=_shown(trail.last, partition),
            )
            for experiment, trail in reversed(self._seen.items())
        ]

    def dump(self) -> bytes:
        """The catalogue for a checkpoint."""
        return msgspec.msgpack.encode(
            _Record(
                VERSION,
                self._everything,
                list(self._seen.items()),
                self.forgotten,
                self._begins,
                self._begins_recorded,
                self._unknown,
                list(self._gone),
            )
        )

    def load(self, record: bytes) -> None:
        """
        Read back what :meth:`dump` gave.

        Raises:
            ValueError: it did not, or another version did.
        """
        try:
            stored = _decoder.decode(record)
        except msgspec.MsgspecError as error:
            raise ValueError(f"this is no catalogue: {error}") from None
        if stored.version != VERSION:
            raise ValueError(f"this catalogue has version {stored.version}; this program knows {VERSION}")
        self._everything, self._seen, self.forgotten = stored.everything, OrderedDict(stored.seen), stored.forgotten
        self._begins, self._begins_recorded, self._unknown = stored.begins, stored.begins_recorded, stored.unknown
        self._gone = OrderedDict.fromkeys(stored.gone)
        self._count()

    def _forget_one(self) -> None:
        _, trail = self._seen.popitem(last=False)
        self._spans -= len(trail.spans)
        self.forgotten += 1

    def _thin(self) -> None:
        trails: Sequence[Trail] = [*self._seen.values(), *([self._everything] if self._everything is not None else [])]
        longest = max(len(trail.spans) for trail in trails)
        for trail in trails:
            if len(trail.spans) * 2 > longest:
                self._spans -= trail.thin()

    def _count(self) -> None:
        self._spans = sum(len(trail.spans) for trail in self._seen.values())
        self._spans += 0 if self._everything is None else len(self._everything.spans)
        if self._spans > self._max_spans:
            self._thin()


def _shown(mark: Mark, partition: int) -> Shown:
    if not mark.id:
        return Shown()
    return Shown(
        pos=str(Position.of(partition, mark.offset, mark.id)), type=mark.type, recordedtime=format_time(mark.recorded)
    )
