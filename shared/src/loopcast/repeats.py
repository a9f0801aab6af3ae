"""
The class that drops repeats: what makes "at least once" in the log "once" for whoever reads it.

A retry may put an event into the log twice. The repeat key is (run, emitter, sequence): an emitter numbers the events
of a run upwards and first copies stand in the log in that order, so a number at or below the last one seen of its
(run, emitter) is a repeat. An event that nobody numbered is known by its id, within a window.

Pure: it knows nothing of brokers or bodies, only of these four values, which stand in a message's headers. A reader
that resumes in the middle of the log calls :meth:`Repeats.seen` for a lead-in of messages before its place and ignores
what it says: that warms the table.

The same numbers tell what never came. What an emitter had to drop (its spool was full) leaves a hole: 987 is followed
by 12204. :meth:`Repeats.hole` says how many numbers are in it, and which may jump without an event being missing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

import msgspec

__all__ = ["Repeats"]

VERSION = 1


class _Record(msgspec.Struct, array_like=True):
    version: int
    numbered: list[tuple[str, str, int]]
    unnumbered: list[str]


_decoder = msgspec.msgpack.Decoder(_Record)


class Repeats:
    """
    What one reader has seen, oldest use first, so that the table can be bounded.

    `pairs` (run, emitter) are kept and `ids` of events without a number. A repeat that comes after its entry had to go
    is not known again: `evicted` counts the entries of both kinds that went, `dropped` the repeats.
    """

    __slots__ = ("_ids", "_last", "_max_ids", "_max_pairs", "dropped", "evicted", "skipped")

    def __init__(self, *, pairs: int = 10_000, ids: int = 10_000) -> None:
        self._last: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._ids: OrderedDict[str, None] = OrderedDict()
        self._max_pairs = max(1, pairs)
        self._max_ids = max(1, ids)
        self.dropped = 0
        self.evicted = 0
        self.skipped = 0
        """How many numbers lie between the last event that was new and the one of its emitter before; see `hole`."""

    def __len__(self) -> int:
        return len(self._last) + len(self._ids)

    def seen(self, run: str, emitter: str | None, sequence: int | None, id_: str) -> bool:
        """Whether this event came before. If it did not, it has now."""
        if emitter is None or sequence is None:
            return self._seen_id(id_)
        key = (run, emitter)
        last = self._last
        before = last.get(key)
        if before is None:
            self.skipped = 0
        elif sequence <= before:
            self.dropped += 1
            return True
        else:
            self.skipped = sequence - before - 1
        last[key] = sequence
        last.move_to_end(key)
        if len(last) > self._max_pairs:
            last.popitem(last=False)
            self.evicted += 1
        return False

    def hole(self, attempt: object) -> int:
        """
        How many events are missing before the last event that was new, whose attempt is `attempt`.

        Only whoever read everything between that event and the emitter's one before may believe it.

        0 for the first event of an emitter: those before it may lie where nobody read, or be forgotten. And 0 for one
        without an attempt, because a producer numbered it and not its source: what the broker did not confirm has used
        up its number, and whoever sent it sends it again, under another. A source numbers once, for all its retries.
        """
        return self.skipped if attempt else 0

    def last(self, run: str, emitter: str) -> int | None:
        """The number of the last event seen of an emitter; None where there was none, or it is forgotten."""
        return self._last.get((run, emitter))

    def numbered(self) -> Iterable[tuple[str, str]]:
        """The (run, emitter) that it knows the last numbers of."""
        return self._last.keys()

    def _seen_id(self, id_: str) -> bool:
        self.skipped = 0
        if id_ in self._ids:
            self.dropped += 1
            return True
        self._ids[id_] = None
        if len(self._ids) > self._max_ids:
            self._ids.popitem(last=False)
            self.evicted += 1
        return False

    def merge(self, other: Repeats) -> None:
        """Know all that `other` knows too; its entries count as used later than these. The counters stay."""
        for key, sequence in other._last.items():
            self._last[key] = max(sequence, self._last.get(key, -1))
            self._last.move_to_end(key)
        for id_ in other._ids:
            self._ids[id_] = None
            self._ids.move_to_end(id_)
        self._shrink()

    def _shrink(self) -> None:
        while len(self._last) > self._max_pairs:
            self._last.popitem(last=False)
            self.evicted += 1
        while len(self._ids) > self._max_ids:
            self._ids.popitem(last=False)
            self.evicted += 1

    def dump(self) -> bytes:
        """The table for a checkpoint, in the order of use. The counters are not in it."""
        numbered = [(run, emitter, sequence) for (run, emitter), sequence in self._last.items()]
        return msgspec.msgpack.encode(_Record(VERSION, numbered, list(self._ids)))

    @classmethod
    def load(cls, record: bytes, *, pairs: int = 10_000, ids: int = 10_000) -> Repeats:
        """
        Read a table back, the latest entries of it where it has more than the bounds.

        Raises:
            ValueError: :meth:`dump` of this version did not write it.
        """
        try:
            stored = _decoder.decode(record)
        except msgspec.MsgspecError as error:
            raise ValueError(f"this is no table of repeats: {error}") from None
        if stored.version != VERSION:
            raise ValueError(f"this table of repeats has version {stored.version}; this program knows {VERSION}")
        table = cls(pairs=pairs, ids=ids)
        table._last.update(((run, emitter), sequence) for run, emitter, sequence in stored.numbered)
        table._ids.update((id_, None) for id_ in stored.unnumbered)
        table._shrink()
        return table
