"""
The sink that writes JSONL files: lines first, then their lengths and the position in one transaction of the ledger.

Lines are in the files at once, for whoever follows them. They count when the ledger says so: with each batch, or in
intervals, as the fsync policy has it. A kill or a power cut takes at most what does not count, and the log has it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, TypeVar

import structlog

from loopcast.broker.interface import Delivery
from loopcast.events import format_time
from loopcast.holes import Hole
from loopcast.position import Position
from loopcast_recorder.database import Database, SqliteDatabase
from loopcast_recorder.entry import place, to_entry
from loopcast_recorder.ledger import Ledger
from loopcast_recorder.line_files import LineFiles
from loopcast_recorder.line_retention import LineRetention
from loopcast_recorder.lines import Format, line_of
from loopcast_recorder.migrations import migrate
from loopcast_recorder.packing import Compression
from loopcast_recorder.schema import ledger_statements
from loopcast_recorder.sinks import Written

__all__ = ["LEDGER", "Fsync", "JsonlSink"]

LEDGER = ".recorder.db"
Fsync = Literal["always", "interval", "never"]
T = TypeVar("T")

log = structlog.get_logger(__name__)

GRACE_MICROSECONDS = 300_000_000
"""After midnight, a day's file stays open for this long: the last events of a day come a little later."""


class JsonlSink:
    """
    Lines in files.

    Args:
        seconds: the interval of the policies that have one.
        max_bytes: a larger file is closed and the day's next part begun.
        retention: which closed files are deleted when.
        now: microseconds since 1970.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        *,
        format_: Format = "original",
        fsync: Fsync = "interval",
        seconds: float = 1.0,
        compression: Compression = "zstd",
        max_bytes: int = 256 * 1024 * 1024,
        retention: LineRetention | None = None,
        now: Callable[[], int],
    ) -> None:
        self.name = name
        self._folder = folder
        self._line = line_of(format_)
        self._fsync = fsync
        self._interval = 0 if fsync == "always" else int(seconds * 1e6)
        self._compression: Compression = compression
        self._max_bytes = max_bytes
        self._retention = retention or LineRetention()
        self._now = now
        self._database: Database | None = None
        self._files: LineFiles | None = None
        self._ledger: Ledger | None = None
        self._moved: dict[int, Position] = {}
        self._saved = 0

    def resume(self, partition: int) -> Position | None:
        """Open the folder where it is not open, and say up to where `partition` counts in it."""
        return self._whole(lambda _, ledger: self._moved.get(partition) or ledger.place(partition)[1])

    def write(self, partition: int, deliveries: Sequence[Delivery]) -> Written:
        """Add the lines of `deliveries`."""
        return self._whole(lambda files, ledger: self._write(files, ledger, partition, deliveries))

    def gap(self, partition: int, reason: str, *, anew: bool) -> None:
        """Write down that events are missing."""

        def work(files: LineFiles, ledger: Ledger) -> None:
            self._save(files, ledger)
            assert self._database is not None
            with self._database.transaction():
                ledger.gap(partition, reason, anew=anew)

        self._whole(work)

    def tick(self) -> None:
        """Make lines count whose time has come, close files of days gone by, and compress one."""
        if self._files is not None:
            self._whole(self._tick)

    def close(self) -> None:
        """Make all lines count, and let go."""
        try:
            if self._files is not None and self._ledger is not None:
                self._save(self._files, self._ledger)
        finally:
            self._drop()

    def _tick(self, files: LineFiles, ledger: Ledger) -> None:
        if self._now() >= self._saved + self._interval:
            self._save(files, ledger)
        if not self._moved:
            files.finish(format_time(self._now() - GRACE_MICROSECONDS)[:10])
            files.pack_one(self._compression)
            self._expire(files)

    def _expire(self, files: LineFiles) -> None:
        if not self._retention.due(self._now()):
            return
        chosen = self._retention.choose(files.kept(), self._now())
        if chosen:
            files.delete(chosen)
            self._retention.deleted += len(chosen)
            log.info("files_deleted", count=len(chosen), first=chosen[0], last=chosen[-1])

    def _write(self, files: LineFiles, ledger: Ledger, partition: int, deliveries: Sequence[Delivery]) -> Written:
        epoch, _ = ledger.place(partition)
        lines: dict[tuple[str, str], list[bytes]] = {}
        holes: list[Hole] = []
        events = repeats = 0
        for delivery in deliveries:
            entry = to_entry(delivery)
            if entry is None:
                continue
            missing = ledger.take(entry, place(epoch, partition, entry.offset))
            if missing is None:
                repeats += 1
                continue
            if missing:
                holes.append(Hole(entry.experiment, entry.run, missing))
            day = format_time(entry.recorded)[:10] if entry.recorded else entry.time[:10]
            lines.setdefault((entry.experiment, day), []).append(self._line(entry))
            events += 1
        for (experiment, day), added in lines.items():
            for part in _pieces(added, self._max_bytes):
                files.append(experiment, day, part)
        last = deliveries[-1]
        self._moved[partition] = Position.of(partition, last.offset, last.message_id)
        if self._now() >= self._saved + self._interval:
            self._save(files, ledger)
        return Written(events, repeats, tuple(holes))

    def _save(self, files: LineFiles, ledger: Ledger) -> None:
        assert self._database is not None
        self._saved = self._now()
        if not self._moved:
            return
        with self._database.transaction():
            files.save()
            for partition, position in self._moved.items():
                ledger.save(partition, position)
        self._moved.clear()

    def _whole(self, work: Callable[[LineFiles, Ledger], T]) -> T:
        """Run `work` on the open folder; where it fails, nothing in memory is believed any more."""
        try:
            if self._files is None or self._ledger is None:
                self._database = database = SqliteDatabase(self._folder / LEDGER, durable=self._fsync != "never")
                migrate(database, ledger_statements)
                sync = self._fsync != "never"
                self._files = LineFiles(self._folder, database, max_bytes=self._max_bytes, sync=sync)
                self._ledger = Ledger(database, lambda: format_time(self._now()))
            return work(self._files, self._ledger)
        except BaseException:
            self._drop()
            raise

    def _drop(self) -> None:
        if self._files is not None:
            self._files.close()
        if self._database is not None:
            self._database.close()
        self._files = self._database = self._ledger = None
        self._moved.clear()


def _pieces(lines: Sequence[bytes], max_bytes: int) -> list[bytes]:
    """Lines joined, in pieces that a file takes; a longer line is a piece by itself."""
    pieces: list[list[bytes]] = [[]]
    size = 0
    for line in lines:
        if size and size + len(line) > max_bytes:
            pieces.append([])
            size = 0
        pieces[-1].append(line)
        size += len(line)
    return [b"".join(piece) for piece in pieces]
