"""
Events in the order in which they were numbered, each once.

The log keeps the order of first copies, and yet what a reader gets may have a step back in it: a producer of another
version, a relay that was fed by two. An event that comes too early waits for those before it, but not for ever: they
may never come (an event over the size limit keeps its number). How long is a matter of the log and not of a clock, so
that reading the same log again gives the same order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import msgspec

from loopcast.events import Event, parse
from loopcast.holes import Hole
from loopcast.repeats import Repeats

__all__ = ["HOLD_MICROSECONDS", "WINDOW", "Ordering"]

WINDOW = 1000
"""Events that may be read before the ones that a held event waits for are given up."""

HOLD_MICROSECONDS = 5_000_000
"""The same in the time of the log."""

FIRST = 1
"""The number of an emitter's first event."""

_Source = tuple[str, str]


@dataclass(slots=True)
class _Held:
    event: Event
    number: int
    read: int
    recorded: int


class _Record(msgspec.Struct, array_like=True):
    read: int
    now: int
    repeats: bytes
    held: list[tuple[bytes, int, int, int]]
    doubted: list[tuple[str, str, int]] = []


@dataclass(slots=True)
class Counts:
    """What this reader met."""

    missing: int = 0
    """Numbers that never came."""


class Ordering:
    """The repeat table of one reader, and the events that wait."""

    def __init__(self, repeats: Repeats | None = None) -> None:
        self.repeats = repeats or Repeats()
        self.counts = Counts()
        self.now = 0
        """The latest time that the log has told, in microseconds."""
        self._read = 0
        self._held: dict[_Source, dict[int, _Held]] = {}
        self._oldest: list[_Held] = []
        # When the log may have lost something before the next event of a source.
        self._doubted: dict[_Source, int] = {}
        self._holes: list[Hole] = []

    @property
    def waiting(self) -> int:
        """How many events wait for others."""
        return sum(map(len, self._held.values()))

    def doubt(self) -> None:
        """The log lost something here, or may have: each emitter's next number may jump, and nothing is missing."""
        self._doubted.update(dict.fromkeys(self.repeats.numbered(), self._read))

    def missed(self) -> Sequence[Hole]:
        """What never came before the event that came out last, once."""
        if not self._holes:
            return ()
        holes, self._holes = self._holes, []
        return holes

    def admit(self, event: Event) -> Iterable[Event]:
        """Take the next event of the log; what may be folded now, in order."""
        self._read += 1
        recorded = event.recorded
        if recorded is not None and recorded > self.now:
            self.now = recorded
        number, emitter = event.number, event.emitter
        if number is None or emitter is None:
            ready: Iterable[Event] = () if self.repeats.seen(event.run, None, None, event.id) else (event,)
        else:
            ready = self._take(event, (event.run, emitter), number)
        return [*ready, *self._give_up()] if self._oldest else ready

    def tick(self, now: int) -> Iterable[Event]:
        """Learn the log's time from a record that is no event."""
        self.now = max(self.now, now)
        return self._give_up()

    def _take(self, event: Event, source: _Source, number: int) -> Iterable[Event]:
        last = self.repeats.last(*source)
        if number > (FIRST if last is None else last + 1):
            self._hold(source, event, number)
            return ()
        if self.repeats.seen(*source, number, event.id):
            return ()
        if self._doubted:
            self._doubted.pop(source, None)
        if source in self._held:
            return [event, *self._follow(source, number)]
        return (event,)

    def _hold(self, source: _Source, event: Event, number: int) -> None:
        waiting = self._held.setdefault(source, {})
        if number in waiting:
            self.repeats.dropped += 1
            return
        held = _Held(event, number, self._read, self.now)
        waiting[number] = held
        self._oldest.append(held)

    def _follow(self, source: _Source, number: int) -> Iterator[Event]:
        """What waited for `number`, as far as there is no other gap."""
        waiting = self._held[source]
        while (held := waiting.pop(number + 1, None)) is not None:
            number = held.number
            self._let_go(source, held)
            yield held.event
        self._tidy(source)

    def _give_up(self) -> Iterator[Event]:
        """Let go, in their order, all of a source whose oldest event has waited too long."""
        while self._oldest and self._is_due(self._oldest[0]):
            event = self._oldest[0].event
            assert event.emitter is not None
            source = (event.run, event.emitter)
            waiting = self._held[source]
            for number in sorted(waiting):
                held = waiting.pop(number)
                last = self.repeats.last(*source)
                self.counts.missing += number - (FIRST if last is None else last + 1)
                self._let_go(source, held)
                self._miss(source, held)
                yield held.event
            self._tidy(source)

    def _miss(self, source: _Source, held: _Held) -> None:
        event, doubted = held.event, self._doubted.get(source)
        if doubted is None:
            if missing := self.repeats.hole(event.attempt):
                self._holes.append(Hole(event.experiment, event.run, missing))
        elif held.read > doubted:
            del self._doubted[source]

    def _is_due(self, held: _Held) -> bool:
        return self._read - held.read > WINDOW or self.now - held.recorded > HOLD_MICROSECONDS

    def _let_go(self, source: _Source, held: _Held) -> None:
        self.repeats.seen(*source, held.number, held.event.id)
        self._oldest.remove(held)

    def _tidy(self, source: _Source) -> None:
        if not self._held[source]:
            del self._held[source]

    def dump(self) -> bytes:
        """All of it but the counters, for a checkpoint."""
        held = [(h.event.encode(), h.number, h.read, h.recorded) for h in self._oldest]
        doubted = [(*source, read) for source, read in self._doubted.items()]
        return msgspec.msgpack.encode(_Record(self._read, self.now, self.repeats.dump(), held, doubted))

    @classmethod
    def load(cls, record: bytes) -> Ordering:
        """
        Read back what :meth:`dump` wrote.

        Raises:
            ValueError: it did not.
        """
        try:
            stored = msgspec.msgpack.decode(record, type=_Record)
        except msgspec.MsgspecError as error:
            raise ValueError(f"this is no record of an order: {error}") from None
        ordering = cls(Repeats.load(stored.repeats))
        ordering._read, ordering.now = stored.read, stored.now
        ordering._doubted = {(run, emitter): read for run, emitter, read in stored.doubted}
        for body, *rest in stored.held:
            held = _Held(parse(body), *rest)
            ordering._oldest.append(held)
            ordering._held.setdefault((held.event.run, held.event.emitter or ""), {})[held.number] = held
        return ordering
