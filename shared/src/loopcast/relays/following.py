"""
Follows a file that somebody appends lines to, as it grows, is rotated, truncated, deleted and made anew.

The open file is what is followed, not its name: what was renamed or deleted is read to its end before the next file of
that name is begun with.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import os
import time
from pathlib import Path

from loopcast.relays.lines import Counts, Line, Lines

__all__ = ["Follower"]

CHUNK_BYTES = 256 * 1024
TAIL_BYTES = 256
"""How much before its place a follower looks at, to see that the file is still the one that it read."""
HEAD_BYTES = 256
END_BYTES = 64 * 1024
"""By its first and last bytes a copy of a file that was read is told from one that was not; lines may end alike too."""
MAX_HEADS = 100
EXHAUSTED = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOMEM))
"""These say nothing of the file: it is there all the same."""
SECOND = 10**9
CLOCK_NS = 20_000_000
COMPRESSED = (".gz", ".zst", ".bz2", ".xz")
QUIET_POLLS = 3
"""So often nothing may come any more from a file that was rotated, before it is left: its writer may not know yet."""


class Follower:
    """
    One file, by its name. Not thread-safe.

    Args:
        path: need not exist yet.
        counts: rotations and truncations are counted here.
    """

    def __init__(self, path: Path, counts: Counts) -> None:
        self._path = path
        self._counts = counts
        self._file = -1
        self._identity: tuple[int, int] = (0, 0)
        self._lines = Lines()
        self._tail = b""
        self._size = 0
        self._known = 0
        self._quiet = 0
        self._heads: list[str] = []
        self._missed: set[int] = set()
        # A file's time is of a coarser clock.
        self._written = time.time_ns() - CLOCK_NS
        self.generation = 0
        """How many files it has begun with, one that was cut counting as another."""

    @property
    def offset(self) -> int:
        """Where the last line ended that was given out."""
        return self._lines.offset

    @property
    def waiting(self) -> int:
        """Bytes of the last line, where that has no end yet."""
        return self._lines.waiting

    def mark(self, offset: int) -> dict[str, object]:
        """The place `offset`, where a line ended that was given out."""
        tail = self._read_tail(offset)
        return {
            "device": self._identity[0],
            "inode": self._identity[1],
            "offset": offset,
            "heads": list(self._heads),
            "written": self._last_write(),
            "tail": hashlib.sha256(tail).hexdigest(),
            "generation": self.generation,
        }

    def resume(self, mark: dict[str, object]) -> bool:
        """
        Go on at `mark`, in the file of this name or, where that was renamed, of another beside it.

        False, and nothing is open then, where the file of the mark is no more, or is not what it was.
        """
        generation = mark.get("generation")
        self.generation = generation if isinstance(generation, int) else 0
        heads = mark.get("heads")
        self._heads = [str(head) for head in heads] if isinstance(heads, list) else []
        written = mark.get("written")
        self._written = written if isinstance(written, int) else 0
        offset = mark.get("offset")
        place = (mark.get("device"), mark.get("inode"))
        if place == (0, 0):
            return False  # There was no file yet.
        for copies in (False, True):
            # A copy, of which the original was cut, has what was added before that.
            for path in (self._path, *self._renamed()):
                if isinstance(offset, int) and offset >= copies and self._open(path):
                    if (copies or self._identity == place) and self._fits(offset, mark.get("tail")):
                        self._seek(offset)
                        return True
                    self.close()
        self._counts.lost += 1
        self.generation += 1
        return False

    @property
    def is_gone(self) -> bool:
        """Whether nothing has the file's name any more."""
        return not self._path.exists()

    @property
    def has_more(self) -> bool:
        """Whether the open file has bytes that were not read."""
        return self._has_more_than(self.offset + self.waiting)

    def start(self, *, at_end: bool) -> bool:
        """Open the file, to be read from its beginning, or from what is added behind its last whole line."""
        if not self._open(self._path):
            return False
        if at_end:
            self._seek(self._last_line_end())
        return True

    def read(self) -> list[Line]:
        """The next lines, empty where there are none now."""
        if self._file < 0:
            following = self._following()
            if following is None or not self._open(following):
                return []
        size = os.fstat(self._file).st_size
        if self._is_cut(size):
            self._counts.truncations += 1
            if not self._open_copy():
                # What came after the last read, and before the cut, cannot be known without a look between them.
                self._counts.lost += self._known > self.offset + self.waiting
                self.generation += 1
                self._seek(0)
            size = os.fstat(self._file).st_size
        self._size = self._known = size
        data = os.pread(self._file, CHUNK_BYTES, self.offset + self.waiting)
        if data:
            self._quiet = 0
            lines = self._lines.feed(data)
            if lines:
                self._tail = self._read_tail(self.offset)
            return lines
        following = self._following()
        if following is not None:
            self._quiet += 1
            if self._quiet >= QUIET_POLLS:
                self._leave(following)
        return []

    def look(self) -> None:
        """See how much there is without reading it, so that it is missed if it is cut off before it is read."""
        if self._file >= 0:
            self._known = max(self._known, os.fstat(self._file).st_size)

    def close(self) -> None:
        """Let go of the file."""
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)

    def _open(self, path: Path) -> bool:
        self.close()
        try:
            self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            if error.errno in EXHAUSTED:
                raise
            return False
        status = os.fstat(self._file)
        self._identity = (status.st_dev, status.st_ino)
        self._seek(0)
        return True

    def _seek(self, offset: int) -> None:
        self._lines = Lines(offset)
        self._tail = self._read_tail(offset)
        self._size = self._known = offset
        self._quiet = 0

    def _open_copy(self) -> bool:
        """Go on in a copy of this file, which was cut, where one has more than was read; then this file comes next."""
        offset, tail = self.offset, hashlib.sha256(self._tail).hexdigest()
        file, identity, lines, known = self._file, self._identity, self._lines, self._known
        self._file = -1
        for path in self._renamed() if offset else ():
            other = self._open(path) and self._identity != identity
            if other and self._fits(offset, tail):
                if self._has_more_than(offset):
                    self._seek(offset)
                    os.close(file)
                    return True
                self._remember()
        self.close()
        self._file, self._identity, self._lines, self._known = file, identity, lines, known
        return False

    def _renamed(self) -> list[Path]:
        """What the file may be called now: logrotate and its like append to the name."""
        return [path for path in self._beside() if path.suffix not in COMPRESSED]

    def _beside(self) -> list[Path]:
        try:
            return sorted(self._path.parent.glob(f"{glob.escape(self._path.name)}?*"))
        except OSError:
            return []

    def _has_more_than(self, offset: int) -> bool:
        return self._file >= 0 and os.fstat(self._file).st_size > offset

    def _fits(self, offset: int, tail: object) -> bool:
        """Whether what stands before `offset` is what was read."""
        if os.fstat(self._file).st_size < offset:
            return False
        return hashlib.sha256(self._read_tail(offset)).hexdigest() == tail

    def _is_cut(self, size: int) -> bool:
        """Whether what was read is not what stands there any more."""
        if size < self.offset + self.waiting:
            return True
        return size != self._size and self._tail != self._read_tail(self.offset)

    def _following(self) -> Path | None:
        """
        The file to read after this one, None while this is the one to follow.

        When files are rotated faster than they are read, those between have other names already: they are the ones
        that were written to later than this one and are no copies of what was read.
        """
        written = self._last_write()
        between = []
        for path in self._renamed():
            with contextlib.suppress(OSError):
                status = path.stat()
                same = self._file >= 0 and (status.st_dev, status.st_ino) == self._identity
                if status.st_mtime_ns < written or same:
                    continue
                with path.open("rb") as file:
                    if status.st_size and not self._was_read(file.fileno()):
                        between.append((status.st_mtime_ns, path))
        if between:
            return min(between)[1]
        try:
            status = self._path.stat()
        except OSError:
            return None  # Deleted or renamed, and nothing in its place: its writer may still write.
        other = self._file < 0 or (status.st_dev, status.st_ino) != self._identity
        return self._path if other else None

    def _leave(self, following: Path) -> None:
        self._counts.rotations += 1
        if self._open_continued(following):
            return
        if self.waiting:
            self._counts.bad += 1  # A last line that never got its end.
        self._count_compressed(following)
        self._remember()
        self.generation += 1
        self._open(following)

    def _remember(self) -> None:
        """Know the open file again, and copies of it: others may begin with the very same bytes."""
        self._heads = [*self._heads, *self._marks_of(self._file)][-MAX_HEADS:]

    def _was_read(self, other: int) -> bool:
        """Whether it is a file that was left, or a copy of one or of the open one."""
        if not set(self._heads).isdisjoint(self._marks_of(other)):
            return True
        size = os.fstat(other).st_size
        if self._file < 0 or size > os.fstat(self._file).st_size:
            return False
        return all(
            os.pread(self._file, count, start) == os.pread(other, count, start)
            for count, start in ((min(HEAD_BYTES, size), 0), (min(END_BYTES, size), max(0, size - END_BYTES)))
        )

    def _count_compressed(self, following: Path) -> None:
        """What was rotated in between, and compressed before it was read, is lost to a relay."""
        after = self._last_write()
        found = []
        with contextlib.suppress(OSError):
            until = None if following == self._path else following.stat().st_mtime_ns
            for path in self._beside():
                status = path.stat()
                if path.suffix in COMPRESSED and status.st_ino not in self._missed:
                    found.append((status.st_mtime_ns, status.st_ino))
            # Compressing keeps a file's time, or its whole seconds.
            of_this = any(written in (after, after // SECOND * SECOND) for written, _ in found)
            between = sorted(one for one in found if after < one[0] and (until is None or one[0] <= until))
            if between and not of_this and not os.fstat(self._file).st_nlink:
                del between[0]  # Compressed by something that does not: this file, which was read to its end.
            self._counts.lost += len(between)
            self._missed.update(inode for _, inode in between)

    def _open_continued(self, following: Path) -> bool:
        """
        Go on at the same place in a file that took the place of this one and has all that is in it.

        So write rsync and whoever renames a whole new file over the old one, which has no name any more then, while
        one that was rotated has another.
        """
        offset, size = self.offset, os.fstat(self._file).st_size
        if not offset or os.fstat(self._file).st_nlink:
            return False
        try:
            with following.open("rb") as file:
                new = file.fileno()
                if os.fstat(new).st_size < size or not self._begins_alike(new, size):
                    return False
        except OSError:
            return False
        if self._open(following):
            self._seek(offset)
        return True

    def _begins_alike(self, other: int, size: int) -> bool:
        """Whether the first `size` bytes of two files are the same; from the end, where they differ the soonest."""
        return all(
            os.pread(self._file, CHUNK_BYTES, start) == os.pread(other, CHUNK_BYTES, start)[: max(0, size - start)]
            for start in reversed(range(0, size, CHUNK_BYTES))
        )

    def _last_write(self) -> int:
        """Nanoseconds since 1970; what was written before is read."""
        if self._file >= 0:
            self._written = os.fstat(self._file).st_mtime_ns
        return self._written

    @staticmethod
    def _marks_of(file: int) -> tuple[str, str]:
        """By the one a file is known when it grew, by the other a copy of it."""
        status = os.fstat(file)
        head = hashlib.sha256(os.pread(file, HEAD_BYTES, 0)).hexdigest()[:16]
        tail = os.pread(file, END_BYTES, max(0, status.st_size - END_BYTES))
        return f"{head}:{status.st_ino}", f"{head}:{status.st_size}:{hashlib.sha256(tail).hexdigest()[:16]}"

    def _read_tail(self, offset: int) -> bytes:
        start = max(0, offset - TAIL_BYTES)
        return os.pread(self._file, offset - start, start) if self._file >= 0 else b""

    def _last_line_end(self) -> int:
        end = os.fstat(self._file).st_size
        while end > 0:
            start = max(0, end - CHUNK_BYTES)
            place = os.pread(self._file, end - start, start).rfind(b"\n")
            if place >= 0:
                return start + place + 1
            end = start
        return 0
