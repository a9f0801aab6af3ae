"""
Files of lines, one for each experiment and day, that are exactly as long as their ledger says.

A file has a row before it exists, and lines become its own when the ledger has its new length. What is behind that,
whole lines or a torn one, was written by a process that died: it is cut, and comes again from the log.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path

import structlog

from loopcast.errors import StorageError
from loopcast.routing import experiment_word
from loopcast_recorder.database import Database
from loopcast_recorder.line_retention import KeptFile
from loopcast_recorder.packing import SUFFIXES, Compression, pack

__all__ = ["LineFile", "LineFiles"]

log = structlog.get_logger(__name__)

OPEN_AT_ONCE = 256
LOCK = ".lock"


class LineFile:
    """A file that lines are added to."""

    __slots__ = ("day", "experiment", "part", "path", "size")

    def __init__(self, path: str, experiment: str, day: str, part: int, size: int) -> None:
        self.path = path
        """Below the folder."""
        self.experiment = experiment
        self.day = day
        self.part = part
        self.size = size
        """With what the ledger does not know yet."""


class LineFiles:
    """
    The files below `folder`. Only one process has them at a time.

    Raises:
        StorageError: another process has them, or the folder cannot be used.
    """

    def __init__(self, folder: Path, database: Database, *, max_bytes: int, sync: bool) -> None:
        self._folder = folder
        self._database = database
        self._max_bytes = max_bytes
        self._sync = sync
        self._open: OrderedDict[str, int] = OrderedDict()
        self._current: dict[tuple[str, str], LineFile] = {}
        self._grown: dict[str, LineFile] = {}
        self._unsynced: set[str] = set()
        self._lock = self._take_lock()
        try:
            self._recover()
        except BaseException:
            self.close()
            raise

    def append(self, experiment: str, day: str, lines: bytes) -> None:
        """
        Add `lines` to the file of an experiment's day, or to its next part where it is large enough.

        Raises:
            StorageError: the disk does not take them.
        """
        file = self._current.get((experiment, day))
        if file is None or (file.size and file.size + len(lines) > self._max_bytes):
            file = self._begin(experiment, day)
        with self._told(file.path):
            descriptor = self._descriptor(file.path)
            left = memoryview(lines)
            while left:
                left = left[os.write(descriptor, left) :]
        file.size += len(lines)
        self._grown[file.path] = file
        self._unsynced.add(file.path)

    def save(self) -> None:
        """
        Force what was added onto the disk, and write the lengths, in the caller's transaction.

        Raises:
            StorageError: the disk does not take it.
        """
        if self._sync:
            for path in self._unsynced:
                with self._told(path):
                    os.fsync(self._descriptor(path))
        self._unsynced.clear()
        rows = [(file.size, file.path) for file in self._grown.values()]
        self._database.run_many("UPDATE files SET bytes = ? WHERE path = ?", rows)
        self._grown.clear()

    def finish(self, today: str) -> None:
        """Say of files of days before `today`, and of parts that have a next one, that nothing comes any more."""
        self._database.run(
            "UPDATE files SET state = 'closed' WHERE state = 'open' AND (day < ? OR EXISTS ("
            "SELECT 1 FROM files later WHERE later.experiment = files.experiment AND later.day = files.day "
            "AND later.part > files.part))",
            (today,),
        )
        for key in [key for key in self._current if key[1] < today]:
            self._forget(self._current.pop(key).path)

    def pack_one(self, compression: Compression) -> bool:
        """
        Compress one closed file; whether there was one.

        Raises:
            StorageError: the disk does not take it.
        """
        rows = self._database.rows("SELECT path FROM files WHERE state = 'closed' LIMIT 1")
        if not rows or compression == "none":
            return False
        path: str = rows[0][0]
        self._forget(path)
        if (self._folder / path).exists():
            pack(self._folder / path, compression, sync=self._sync)
        with self._told(path):
            size = sum(file.stat().st_size for file in self._names(path) if file.exists())
        self._database.run("UPDATE files SET state = 'packed', bytes = ? WHERE path = ?", (size, path))
        return True

    def kept(self) -> list[KeptFile]:
        """What there is, the oldest day first."""
        rows = self._database.rows("SELECT path, day, bytes, state = 'open' FROM files ORDER BY day, part, path")
        return [KeptFile(path, day, size, bool(is_open)) for path, day, size, is_open in rows]

    def delete(self, paths: Sequence[str]) -> None:
        """
        Delete files that nothing is added to, plain and compressed: first the files, then what the ledger says.

        A kill in between leaves rows without a file, which the next look deletes.

        Raises:
            StorageError: the disk does not let them go.
        """
        for path in paths:
            self._forget(path)
            with self._told(path):
                for file in self._names(path):
                    file.unlink(missing_ok=True)
            # Other days, or somebody's own files, may still be in it.
            with contextlib.suppress(OSError):
                (self._folder / path).parent.rmdir()
        self._database.run_many("DELETE FROM files WHERE path = ?", [(path,) for path in paths])

    def close(self) -> None:
        """Let go. Safe to call again."""
        for descriptor in self._open.values():
            with contextlib.suppress(OSError):
                os.close(descriptor)
        self._open.clear()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _begin(self, experiment: str, day: str) -> LineFile:
        """The file that an experiment's day goes on in: the open one, or a new part."""
        old = self._current.pop((experiment, day), None)
        if old is None:
            rows = self._database.rows(
                "SELECT path, part, bytes FROM files WHERE experiment = ? AND day = ? AND state = 'open' "
                "ORDER BY part DESC LIMIT 1",
                (experiment, day),
            )
            if rows and rows[0][2] < self._max_bytes:
                path, part, size = rows[0]
                return self._use(LineFile(path, experiment, day, part, size))
        rows = self._database.rows("SELECT max(part) FROM files WHERE experiment = ? AND day = ?", (experiment, day))
        part = 0 if rows[0][0] is None else rows[0][0] + 1
        while self._taken(path := _path(experiment, day, part)):
            part += 1
        self._database.run("INSERT INTO files VALUES (?, ?, ?, ?, 0, 'open')", (path, experiment, day, part))
        return self._use(LineFile(path, experiment, day, part, 0))

    def _use(self, file: LineFile) -> LineFile:
        self._current[file.experiment, file.day] = file
        return file

    def _taken(self, path: str) -> bool:
        """Whether a file of that name is there that no ledger knows: it is somebody's, and is left alone."""
        return any(name.exists() for name in self._names(path))

    def _names(self, path: str) -> list[Path]:
        """What the file at `path` is called, whatever it was packed with."""
        return [self._folder / f"{path}{suffix}" for suffix in sorted(set(SUFFIXES.values()))]

    def _descriptor(self, path: str) -> int:
        descriptor = self._open.get(path)
        if descriptor is None:
            whole = self._folder / path
            fresh = not whole.exists()
            whole.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(whole, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
            self._open[path] = descriptor
            if fresh and self._sync:
                _sync_folder(whole.parent)
                _sync_folder(self._folder)
            if len(self._open) > OPEN_AT_ONCE:
                self._forget(next(iter(self._open)))
        self._open.move_to_end(path)
        return descriptor

    def _forget(self, path: str) -> None:
        descriptor = self._open.pop(path, None)
        if descriptor is not None:
            os.close(descriptor)

    def _recover(self) -> None:
        for path, size in self._database.rows("SELECT path, bytes FROM files WHERE state = 'open'"):
            whole = self._folder / path
            with self._told(path):
                found = whole.stat().st_size if whole.exists() else 0
                if found > size:
                    os.truncate(whole, size)
                    log.info("lines_cut", path=path, bytes=found - size, hint="they come again from the log")
                elif found < size:
                    log.error("lines_missing", path=path, bytes=size - found, hint="the file was cut by others")
                    self._database.run("UPDATE files SET bytes = ? WHERE path = ?", (found, path))

    def _take_lock(self) -> int:
        with self._told(LOCK):
            self._folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise StorageError(f"{self._folder}: another recorder writes here; name another folder.") from None
        return descriptor

    @contextlib.contextmanager
    def _told(self, path: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StorageError(f"{self._folder / path}: {error.strerror or error}.") from error


def _path(experiment: str, day: str, part: int) -> str:
    """A name that is one on every system, whatever the experiment is called: the word of its routing key."""
    return f"{experiment_word(experiment)}/{day}{f'.{part}' if part else ''}.jsonl"


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
