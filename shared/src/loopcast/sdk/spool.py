"""
What waits to be sent: records in order, on disk, bounded in bytes, with an explicit rule for when that is reached.

A queue of segments. Each is a file, or memory where there is no folder or the disk does not take more; the disk is
tried again after a few seconds, so a disk that was full for a while costs no event and no order.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from itertools import accumulate

from loopcast.sdk.batch import Batch, load
from loopcast.sdk.folder import Cursor, SpoolFolder
from loopcast.sdk.framing import HEAD_BYTES, frame
from loopcast.sdk.segments import MemorySegment, Segment

__all__ = ["SET_ASIDE", "Spool"]

MAX_SEGMENT_BYTES = 4 * 1024 * 1024
MIN_SEGMENT_BYTES = 64 * 1024
DISK_AGAIN_SECONDS = 5.0
"""How long after the disk refused it is tried again."""
MOST_FAULTS = 10
"""So often a place is read in vain before what lies there is given up."""
SET_ASIDE = 0
"""The number of the segment that holds a copy of what is taken, where what came behind it was dropped."""


class Spool:
    """
    Not thread-safe: its owner holds a lock; :meth:`load` alone is called without it.

    Records that were taken stay counted until they are settled, because until then they are neither delivered nor
    lost; they are never the ones to go when it is full. One batch is taken at a time. While the producer is away a
    batch stays taken for hours: what is dropped behind it leaves the disk all the same.

    Args:
        capacity: bytes, frames included.
        full: `drop_oldest` or `drop_newest`.
        make: makes the folder for the first record, OSError where none can be had; None to keep all in memory.
        folder: where another process left its records (:func:`loopcast.sdk.recovery.recover`).
    """

    load = staticmethod(load)

    def __init__(
        self,
        capacity: int,
        full: str,
        make: Callable[[], SpoolFolder] | None = None,
        *,
        folder: SpoolFolder | None = None,
    ) -> None:
        self._capacity = capacity
        self._drop_oldest = full == "drop_oldest"
        self._make = make
        self._volatile = make is None
        self._folder = folder
        self._segment_bytes = min(MAX_SEGMENT_BYTES, max(MIN_SEGMENT_BYTES, capacity // 8))
        self._segments: deque[Segment] = deque()
        # The first record that was not taken is at (_reading, _offset); what comes is appended to _tail.
        self._reading: Segment | None = None
        self._offset = 0
        self._tail: Segment | None = None
        self._next = 1
        self._again = 0.0
        self._aside_again = 0.0
        self._faults = 0
        self.batch: Batch | None = None
        """What is taken and not settled."""
        self._size = 0
        self.waiting = 0
        """How many can be taken."""
        self._taken = 0
        self.gone = 0
        """How many records have left, delivered or dropped, since the beginning."""
        self.dropped = 0
        """How many were dropped because it was full. Kept on the disk, so that a process that is killed has told it."""
        self.damaged = 0
        """Bytes that could not be read back."""
        self.unreadable = 0
        """How many records were lost to that."""
        self.error = ""
        """Why records wait in memory that should be on disk."""

    def __len__(self) -> int:
        return self.waiting + self._taken

    @property
    def about(self) -> dict[str, object]:
        """Where the records go."""
        return {} if self._folder is None else self._folder.about

    @property
    def place(self) -> str:
        """Where it lies, to be shown to a person."""
        return "memory" if self._folder is None else str(self._folder.path)

    @property
    def room(self) -> float:
        """How much is free, from 0 to 1."""
        return max(0.0, 1 - self._size / self._capacity) if self._capacity else 0.0

    @property
    def in_memory(self) -> int:
        """How many of the records would not outlive the process."""
        self._look_after_folder()
        volatile = sum(segment.waiting for segment in self._segments if not segment.durable)
        return volatile + (self._taken if self.batch is not None and not self.batch.segment.durable else 0)

    def append(self, record: bytes) -> int:
        """Keep `record`; return how many, it included, had to be dropped for that."""
        cost = len(record) + HEAD_BYTES
        size = self._size + cost
        tail = self._tail
        if (
            tail is not None
            and size <= self._capacity
            and tail.size + cost <= self._segment_bytes
            and (tail.durable or self._volatile)
            and tail.append(record)
        ):
            tail.waiting += 1
            self._size = size
            self.waiting += 1
            return 0
        return self._append_elsewhere(record, cost)

    def _append_elsewhere(self, record: bytes, cost: int) -> int:
        """Make room, or a segment, or find out that the disk takes no more."""
        dropped = 0
        if self._size + cost > self._capacity:
            # One that does not fit beside what is taken costs itself alone.
            dropped = self._make_room(cost) if self._drop_oldest and cost <= self._capacity - self._in_hand() else 0
            if self._size + cost > self._capacity:
                self._count_dropped(1)
                return dropped + 1
        tail = self._tail
        if tail is None or tail.size + cost > self._segment_bytes or not (tail.durable or self._stays_in_memory()):
            tail = self._roll()
        while not tail.append(record):
            self._refused(getattr(tail, "error", ""))
            tail = self._instead_of(tail, cost)
        tail.waiting += 1
        self._size += cost
        self.waiting += 1
        return dropped

    def _in_hand(self) -> int:
        """Bytes of what is taken."""
        return 0 if self.batch is None else sum(map(len, self.batch.records)) + HEAD_BYTES * len(self.batch.records)

    def plan(self) -> tuple[Segment, int] | None:
        """Where the next batch begins: a segment and an offset in it. None where nothing waits."""
        if not self.waiting or self.batch is not None:
            return None
        return self._skip(), self._offset

    def take(self, plan: tuple[Segment, int], batch: Batch, damaged: int) -> bool:
        """Take the batch that was loaded by `plan`, unless those records were dropped meanwhile: False."""
        segment, offset = plan
        if segment is not self._reading or offset != self._offset or self.batch is not None:
            return False
        self._skip_damage(damaged)
        self._faults = 0
        # A signal's handler may be here while a record is written and not counted yet: that one is not to be had.
        count = min(len(batch.records), segment.waiting)
        if not count:
            self._give_up(segment)
            return False
        batch = Batch(batch.records[:count], batch.ends[:count], segment)
        self.batch, self._taken, self._offset = batch, count, batch.ends[-1]
        segment.waiting -= count
        self.waiting -= count
        return True

    def stumble(self, plan: tuple[Segment, int]) -> None:
        """The disk did not give what lies at `plan`: after some times in a row it is given up, and counted."""
        self._faults += 1
        if self._faults >= MOST_FAULTS and plan[0] is self._reading:
            self._faults = 0
            self._give_up(plan[0])

    def settle(self, count: int) -> int:
        """The first `count` records of what is taken are delivered, or given up; 0 where nothing is taken any more."""
        batch = self.batch
        if batch is None or not count:
            return 0
        self._taken -= count
        self._size -= sum(map(len, batch.records[:count])) + HEAD_BYTES * count
        self.gone += count
        if count < len(batch.records):
            self.batch = Batch(batch.records[count:], batch.ends[count:], batch.segment)
            if batch.segment.number != SET_ASIDE:
                self._commit(batch.segment, batch.ends[count - 1])
        else:
            self.batch = None
            self._commit(self._skip(), self._offset)
        return count

    def abandon(self) -> int:
        """Nothing will be sent any more: give up what would not outlive the process, and say how many those are."""
        self._look_after_folder()
        self._spill()
        lost = self.in_memory
        self.gone += lost
        for segment in self._segments:
            if not segment.durable:
                self.waiting -= segment.waiting
                segment.waiting = 0
        if self.batch is not None and not self.batch.segment.durable:
            self.batch, self._taken = None, 0
        return lost

    def sync(self) -> None:
        """Force what waits to the disk."""
        self._look_after_folder()
        for segment in list(self._segments):
            segment.sync()

    def close(self) -> None:
        """Let go of files and lock: an empty spool is removed, another one is left to the next process."""
        for segment in self._segments:
            segment.close()
        if self._folder is not None:
            self._folder.close(remove=not len(self))
        self._folder = self._make = None

    def forget(self) -> None:
        """Close what a fork's child inherited, without a word to the files: they are its parent's."""
        for segment in self._segments:
            segment.close()
        if self._folder is not None:
            self._folder.close(remove=False)
        self._folder = self._make = None

    def adopt(self, segment: Segment, start: int, records: list[bytes]) -> None:
        """Take over a segment that another process left: `records` are in it from `start` on."""
        if not self._segments:
            self._reading, self._offset = segment, start
        self._segments.append(segment)
        segment.begins = start
        segment.waiting = len(records)
        self.waiting += len(records)
        self._size += sum(map(len, records)) + HEAD_BYTES * len(records)

    def _spill(self) -> None:
        """Write what is in memory to the disk after all, at the same offsets, where it takes it now."""
        for place, segment in enumerate(self._segments):
            if segment.durable or self._folder is None:
                continue
            try:
                file = self._folder.segment(segment.number)
            except OSError:
                return
            if not file.write(segment.read(0, segment.size)):
                file.delete()
                return
            file.waiting = segment.waiting
            self._segments[place] = file
            self._reading = file if self._reading is segment else self._reading
            self._tail = file if self._tail is segment else self._tail
            if self.batch is not None and self.batch.segment is segment:
                self.batch = self.batch._replace(segment=file)

    def _stays_in_memory(self) -> bool:
        return (self._folder is None and self._make is None) or time.monotonic() < self._again

    def _instead_of(self, refused: Segment, cost: int) -> Segment:
        """Where to append what the disk did not take into `refused`: the memory from before goes on, where it can."""
        if not refused.size:
            self._segments.remove(refused)
            refused.delete()
            before = self._segments[-1] if self._segments else None
            if before is not None and not before.durable and before.size + cost <= self._segment_bytes:
                self._tail = before
                return before
        return self._roll()

    def _look_after_folder(self) -> None:
        """Where somebody deleted the folder, what lies in it would not outlive the process: have another."""
        if self._folder is None or not self._folder.is_gone:
            return
        self._folder.close(remove=False)
        self._folder = self._tail = None
        for segment in self._segments:
            segment.durable = False
        try:
            self._folder = None if self._make is None else self._make()
        except OSError as error:
            self._refused(str(error))
        self._spill()

    def _refused(self, error: str) -> None:
        self.error = error or "the disk takes no more"
        self._again = time.monotonic() + DISK_AGAIN_SECONDS

    def _roll(self) -> Segment:
        """A new segment at the end: a file where that can be."""
        number, self._next = self._next, self._next + 1
        segment: Segment | None = None
        if not self._stays_in_memory():
            try:
                if self._folder is None:
                    assert self._make is not None
                    self._folder = self._make()
                segment, self.error = self._folder.segment(number), ""
            except OSError as error:
                self._refused(str(error))
        segment = segment or MemorySegment(number)
        if not self._segments:
            self._reading, self._offset = segment, 0
        self._segments.append(segment)
        self._tail = segment
        return segment

    def _make_room(self, cost: int) -> int:
        """Drop the oldest that were not taken, until `cost` bytes fit."""
        dropped = 0
        while self._size + cost > self._capacity and self.waiting:
            segment = self._skip()
            try:
                batch, damaged = self.load((segment, self._offset), 1, 4096)
            except OSError:
                batch = None
            if batch is None or not batch.records:
                self._give_up(segment)
                continue
            self._skip_damage(damaged)
            self._offset = batch.ends[0]
            segment.waiting -= 1
            self.waiting -= 1
            self.gone += 1
            self._size -= len(batch.records[0]) + HEAD_BYTES
            dropped += 1
        self._count_dropped(dropped)
        return dropped

    def _count_dropped(self, count: int) -> None:
        """Remember, on the disk too, that so many went by policy."""
        self.dropped += count
        if not count or self._reading is None:
            return
        if self._set_aside():
            self._commit(self._skip(), self._offset)
        elif self.batch is not None:
            # What was dropped of the batch's own segment the next process finds again; of the others nothing stays.
            begin = self.batch.ends[0] - len(self.batch.records[0]) - HEAD_BYTES
            self._commit(self._skip(), 0, Cursor(self.batch.segment.number, begin, self.dropped))

    def _set_aside(self) -> bool:
        """
        Have what is taken in a segment of its own, so that the cursor may go past what is dropped behind it.

        The next process finds it there and sends it first. False where the disk does not take it: then nothing that was
        dropped leaves the disk before the batch is settled.
        """
        batch = self.batch
        if batch is None or not batch.segment.durable or batch.segment.number == SET_ASIDE:
            return True
        if self._folder is None or time.monotonic() < self._aside_again:
            return False
        self._aside_again = time.monotonic() + DISK_AGAIN_SECONDS
        try:
            segment = self._folder.segment(SET_ASIDE)
        except OSError:
            return False
        if segment.size or not segment.write(b"".join(map(frame, batch.records))):
            segment.delete()
            return False
        self._aside_again = 0.0
        ends = accumulate(len(record) + HEAD_BYTES for record in batch.records)
        self.batch = Batch(batch.records, list(ends), segment)
        self._segments.appendleft(segment)
        return True

    def _skip_damage(self, size: int) -> None:
        self.damaged += size
        self._size = max(0, self._size - size)

    def _give_up(self, segment: Segment) -> None:
        """What is left in `segment` cannot be read."""
        lost = segment.waiting
        self._skip_damage(segment.size - self._offset)
        self._offset = segment.size
        segment.waiting = 0
        self.waiting -= lost
        self.gone += lost
        self.unreadable += lost

    def _skip(self) -> Segment:
        """The segment to read on in: the next one where this one has been read to its end."""
        reading = self._reading
        assert reading is not None
        while not reading.waiting:
            following = next((s for s in self._segments if s.number > reading.number), None)
            if following is None:
                break
            reading, self._offset = following, following.begins
        self._reading = reading
        return reading

    def _commit(self, reading: Segment, offset: int, cursor: Cursor | None = None) -> None:
        """
        Everything before is dealt with, but for what is taken: remember it, delete what holds nothing else.

        In this order: what is deleted before the cursor has passed it would be neither delivered nor told, where the
        process dies in between. `cursor` is written where the next process has to begin elsewhere.
        """
        if self._folder is not None:
            self._folder.write_cursor(cursor or Cursor(reading.number, offset, self.dropped))
        held = None if self.batch is None else self.batch.segment
        for segment in list(self._segments):
            if segment.number >= reading.number and not self._is_spent(segment):
                break
            if segment is not held:
                self._segments.remove(segment)
                self._tail = None if segment is self._tail else self._tail
                segment.delete()

    def _is_spent(self, segment: Segment) -> bool:
        """Whether everything in the last segment is dealt with, and it is not small enough to go on with."""
        return not len(self) and segment.size > MIN_SEGMENT_BYTES and len(self._segments) == 1
