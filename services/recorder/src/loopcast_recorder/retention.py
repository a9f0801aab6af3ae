"""What the database forgets, and when: the oldest events, and runs that nobody has added to since."""

from __future__ import annotations

import math

from loopcast_recorder.database import Database
from loopcast_recorder.entry import OFFSET_BITS

__all__ = ["Retention", "used_bytes"]

SLICE = 5_000
"""Events that one transaction deletes, so that new ones never wait long."""
LOOK_MICROSECONDS = 10_000_000
OF_A_RUN = ("loops", "states", "actions", "evaluations", "usage")
FREE_PAGES = 2_000
"""Pages (8 MB) that one step gives back to the file system."""


class Retention:
    """
    Deletes events recorded more than `max_age_seconds` ago, and the oldest while the file has more than `max_bytes`.

    0 is no limit. What a run folded into goes with the run's last event.
    """

    def __init__(self, *, max_age_seconds: float = 0, max_bytes: int = 0) -> None:
        self._age = int(max_age_seconds * 1e6)
        self._bytes = max_bytes
        self._next = 0
        self.deleted = 0
        """Events that were deleted."""

    def due(self, now: int) -> bool:
        """Whether it is time to look; `now` in microseconds since 1970."""
        return bool(self._age or self._bytes) and now >= self._next

    def delete_slice(self, database: Database, now: int) -> int:
        """Delete a slice of what is to go, in the caller's transaction; how many events that were."""
        self._next = now + LOOK_MICROSECONDS
        limit = now - self._age if self._age else 0
        excess = 0.0
        if self._bytes and (used := used_bytes(database)) > self._bytes:
            limit, excess = now, 1 - self._bytes / used
        deleted = sum(self._of_log(database, key, limit, excess) for key in _logs(database)) if limit else 0
        self.deleted += deleted
        if deleted:
            # There may be more of it.
            self._next = now
        return deleted

    def shrink(self, database: Database) -> None:
        """Give back what was freed; outside a transaction."""
        if database.dialect == "sqlite":
            database.rows(f"PRAGMA incremental_vacuum({FREE_PAGES})")

    def _of_log(self, database: Database, key: int, limit: int, excess: float) -> int:
        """A slice of one epoch of one partition: what is older than `limit`, of an `excess` no more than that share."""
        low, high = key << OFFSET_BITS, (key + 1) << OFFSET_BITS
        first, last = database.rows("SELECT min(n), max(n) FROM events WHERE n >= ? AND n < ?", (low, high))[0]
        if first is None:
            return 0
        size = min(SLICE, math.ceil((last - first) * excess)) if excess else SLICE
        rows = database.rows(
            "SELECT n, recorded FROM events WHERE n >= ? AND n < ? ORDER BY n LIMIT ?", (low, high, size)
        )
        old = [n for n, recorded in rows if recorded < limit]
        if not old:
            return 0
        # Up to the first that stays: a clock that went back must not tear a hole into what is kept.
        kept = next((n for n, recorded in rows if recorded >= limit), rows[-1][0] + 1)
        gone: int = sum(n < kept for n in old)
        database.run(f"DELETE FROM search WHERE {_key(database)} >= ? AND {_key(database)} < ?", (low, kept))  # noqa: S608
        database.run("DELETE FROM beats WHERE n >= ? AND n < ?", (low, kept))
        database.run("DELETE FROM events WHERE n >= ? AND n < ?", (low, kept))
        self._of_runs(database, low, kept)
        return gone

    def _of_runs(self, database: Database, low: int, kept: int) -> None:
        runs = database.rows(
            "SELECT experiment, run, first_n FROM runs WHERE last_n >= ? AND last_n < ? LIMIT ?", (low, kept, SLICE)
        )
        for experiment, run, first in runs:
            for table in OF_A_RUN:
                database.run(
                    f"DELETE FROM {table} WHERE n >= ? AND n < ? AND experiment = ? AND run = ?",  # noqa: S608
                    (first, kept, experiment, run),
                )
            database.run("DELETE FROM runs WHERE experiment = ? AND run = ?", (experiment, run))
            database.run("DELETE FROM emitters WHERE run = ? AND n < ?", (run, kept))
        database.run("DELETE FROM experiments WHERE last_n >= ? AND last_n < ?", (low, kept))


def _logs(database: Database) -> list[int]:
    """Epoch and partition, as a number's upper bits have them, of every log that left something here."""
    rows = database.rows("SELECT partition, epoch FROM positions")
    return [(epoch << 8) | partition for partition, last in rows for epoch in range(last + 1)]


def used_bytes(database: Database) -> int:
    """How large the database is, without what is free in it."""
    if database.dialect == "postgresql":
        return int(database.rows("SELECT pg_database_size(current_database())")[0][0])
    sizes = [int(database.rows(f"PRAGMA {name}")[0][0]) for name in ("page_count", "freelist_count", "page_size")]
    return (sizes[0] - sizes[1]) * sizes[2]


def _key(database: Database) -> str:
    return "rowid" if database.dialect == "sqlite" else "n"
