"""
One segment of the spool: bytes that are only appended to, in a file or, where no file can be had, in memory.

A file outlives its process, however that ends. It is not forced to the disk for every event (that costs a hundred
times the write), so a machine that loses its power can lose the last half second.
"""

from __future__ import annotations

import contextlib
import os
from bisect import bisect_left, bisect_right
from pathlib import Path
from typing import Protocol

from loopcast.sdk.framing import HEAD_BYTES, frame

__all__ = ["FileSegment", "MemorySegment", "Segment"]


class Segment(Protocol):
    """Appended to by one thread, read by another."""

    size: int
    """Bytes that are whole; what lies behind them is not there."""
    durable: bool
    """Whether it outlives the process."""
    number: int
    waiting: int
    """Records in it that were not taken yet; kept by the spool."""
    begins: int
    """Where the first of them was when it was found."""

    def append(self, record: bytes) -> bool:
        """Add `record` in a frame, wholly or, where that cannot be, not at all: False."""
        ...

    def read(self, offset: int, size: int) -> bytes:
        """Bytes from `offset`, fewer at the end. OSError where the disk does not give them."""
        ...

    def sync(self) -> None:
        """Force it to the disk."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...

    def delete(self) -> None:
        """Let go of it for good."""
        ...


class FileSegment:
    """
    A segment in a file of its own.

    Args:
        path: made where it is not there.
        number: its place among the segments of the spool.

    Raises:
        OSError: the file cannot be made or read.
    """

    durable = True

    def __init__(self, path: Path, number: int) -> None:
        self._path = path
        self.number = number
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
        self.size = os.fstat(self._file).st_size
        self._synced = self.size
        self.waiting = 0
        self.begins = 0
        self.error = ""

    def append(self, record: bytes) -> bool:
        """Add `record`; after False `error` says why, and what was written of it counts as torn."""
        return self.write(frame(record))

    def write(self, frames: bytes) -> bool:
        """Add what is framed already, as :meth:`append` does."""
        try:
            # At a place and not at the end: what a signal's exception (Ctrl-C) leaves uncounted is written over.
            written = os.pwrite(self._file, frames, self.size)
        except OSError as error:
            self.error = error.strerror or str(error)
            return False
        if written != len(frames):
            self.error = "No space left on device"
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self.size)
            return False
        self.size += written
        return True

    def read(self, offset: int, size: int) -> bytes:
        """Bytes from `offset`, fewer at the end."""
        return os.pread(self._file, min(size, max(0, self.size - offset)), offset)

    def sync(self) -> None:
        """Force it to the disk, where that was not done since the last append."""
        if self._synced != self.size:
            size = self.size
            os.fsync(self._file)
            self._synced = size

    def close(self) -> None:
        """Close the file; it stays."""
        file, self._file = self._file, -1
        if file >= 0:
            with contextlib.suppress(OSError):
                os.close(file)

    def delete(self) -> None:
        """Close and delete the file."""
        self.close()
        with contextlib.suppress(OSError):
            self._path.unlink()


class MemorySegment:
    """A segment that ends with its process."""

    durable = False

    def __init__(self, number: int) -> None:
        self.number = number
        self._records: list[bytes] = []
        self._starts: list[int] = []
        self.size = 0
        self.waiting = 0
        self.begins = 0

    def append(self, record: bytes) -> bool:
        """Add `record`. It gets its frame when somebody reads, so that the caller does not wait for the checksum."""
        self._starts.append(self.size)
        self._records.append(record)
        self.size += len(record) + HEAD_BYTES
        return True

    def read(self, offset: int, size: int) -> bytes:
        """Bytes from `offset`, fewer at the end."""
        first = bisect_right(self._starts, offset) - 1
        if first < 0:
            return b""
        past = bisect_left(self._starts, offset + size)
        skipped = offset - self._starts[first]
        return b"".join(map(frame, self._records[first:past]))[skipped : skipped + size]

    def sync(self) -> None:
        """Nothing to force anywhere."""

    def close(self) -> None:
        """Nothing to close."""

    def delete(self) -> None:
        """Let go of the bytes."""
        self._records.clear()
        self._starts.clear()
        self.size = 0
