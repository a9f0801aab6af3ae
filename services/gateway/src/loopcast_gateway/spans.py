"""
Where in the log the events of one experiment are: the sparse index by which a replay skips what is not its own. Pure.

A span is a stretch of the log in which events of the experiment follow each other closely, at most :data:`STEP` of
them. So the spans are also marks at about every 1,000th event, by which the newest so many, or those since a time, are
found without reading what is before them. There may be more in a span than is asked for, never less.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from loopcast.position import Position, anchor_hash
from loopcast_gateway.entry import Entry

__all__ = ["GAP", "STEP", "Mark", "Segment", "Span", "Trail", "mark_of", "total"]

STEP = 1000
"""Events of a span; twice as many each time that the spans of an experiment are thinned out."""

GAP = 1000
"""Messages of others after which a new span begins: reading them costs about as much as seeking."""

LENGTH = 10_000
"""Messages that a span reaches over, whosever they are; twice as many each time that the spans are thinned out."""

MERGE = 4000
"""Messages of others between two spans that are read in one go all the same."""


class Mark(msgspec.Struct, array_like=True):
    """An event, without its content."""

    offset: int
    id: str
    type: str
    recorded: int


class Span(msgspec.Struct, array_like=True):
    """All events of the experiment from the offset `first` to `last`, both inclusive."""

    first: int
    last: int
    events: int
    recorded: int
    """The latest time at which one of them was recorded, in microseconds since 1970."""
    anchor: bytes
    """The hash of the `message_id` at `first`, which proves that a log is the one that this is about."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of the log to read: what is above the offset `behind`, up to and with `until`."""

    behind: int
    until: int
    first: Position | None = None
    """The message that must stand at `behind` + 1, where that is known."""
    events: int | None = None
    """How many events of the experiment it has at most; None where that is not known."""

    @property
    def length(self) -> int:
        """How many messages it has at most."""
        return self.until - self.behind


class Trail(msgspec.Struct, array_like=True):
    """The events of one experiment, by their places."""

    first: Mark
    last: Mark
    events: int = 0
    spans: list[Span] = []
    step: int = STEP
    length: int = LENGTH
    lost: bool = False
    """Whether the log had events of it that are gone."""

    @classmethod
    def begin(cls, entry: Entry) -> Trail:
        """With its first event, which is still to be added."""
        mark = mark_of(entry)
        return cls(mark, mark, spans=[])

    def add(self, entry: Entry, mark: Mark) -> bool:
        """Note the next event, which is `mark`; whether a span began with it."""
        offset, recorded = entry.offset, entry.recorded
        self.events += 1
        self.last = mark
        spans = self.spans
        if spans:
            span = spans[-1]
            if span.events < self.step and offset - span.last <= GAP and offset - span.first < self.length:
                span.last = offset
                span.events += 1
                span.recorded = max(span.recorded, recorded)
                return False
        spans.append(Span(offset, offset, 1, recorded, anchor_hash(entry.id)))
        return True

    def thin(self) -> int:
        """Make one span of each two; how many fewer there are. The last one, which still grows, stays."""
        spans, before = self.spans, len(self.spans)
        pairs = [spans[n : n + 2] for n in range(0, before - 1, 2)]
        rest = spans[2 * len(pairs) :]
        self.spans = [_joined(one, two) for one, two in pairs] + rest
        self.step *= 2
        self.length *= 2
        return before - len(self.spans)

    def cut(self, first: int) -> None:
        """Forget the spans of which nothing is left in a log that begins at the offset `first`."""
        gone, self.lost = 0, True
        while gone < len(self.spans) and self.spans[gone].last < first:
            self.events -= self.spans[gone].events
            gone += 1
        del self.spans[:gone]
        if self.spans and self.first.offset < first:
            # Only the span's beginning is known of what is left, and not by its id.
            self.first = Mark(max(first, self.spans[0].first), "", "", 0)

    def segments(self, partition: int, behind: int, until: int, *, since: int = 0, merge: int = MERGE) -> list[Segment]:
        """
        What to read for the events above `behind` up to `until`, those before `since` (microseconds) left out.

        Over `merge` messages of others it is read in one go.
        """
        found: list[Segment] = []
        spans = self.spans
        start = bisect_right(spans, behind, key=lambda span: span.last)
        for span in spans[start:]:
            if span.first > until or until <= behind:
                break
            if span.recorded < since:
                continue
            low, high = max(behind, span.first - 1), min(span.last, until)
            if found and low - found[-1].until <= merge:
                found[-1] = Segment(found[-1].behind, high, found[-1].first, (found[-1].events or 0) + span.events)
                continue
            anchor = Position(partition, span.first, span.anchor) if low == span.first - 1 else None
            found.append(Segment(low, high, anchor, span.events))
        return found

    def behind_newest(self, count: int, until: int) -> int:
        """An offset above which there are at least `count` events up to `until`, or all of them."""
        spans = self.spans
        end = bisect_right(spans, until, key=lambda span: span.first)
        seen = 0
        for number in range(end - 1, -1, -1):
            # A span that reaches beyond the end has fewer that count, and how many is not known.
            seen += spans[number].events if spans[number].last <= until else 0
            if seen >= count:
                return spans[number].first - 1
        return -1


def mark_of(entry: Entry) -> Mark:
    """What is kept of an event."""
    return Mark(entry.offset, entry.id, entry.type, entry.recorded)


def _joined(one: Span, two: Span) -> Span:
    return Span(one.first, two.last, one.events + two.events, max(one.recorded, two.recorded), one.anchor)


def total(segments: Sequence[Segment]) -> int:
    """How many messages there are to read."""
    return sum(segment.length for segment in segments)
