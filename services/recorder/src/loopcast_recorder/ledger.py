"""Up to where each partition is kept, and what was seen of it: the part of a database that makes "once" of the log."""

from __future__ import annotations

from collections.abc import Callable

from loopcast.errors import StorageError
from loopcast.position import Position
from loopcast.repeats import Repeats
from loopcast_recorder.database import Database
from loopcast_recorder.entry import OFFSET_BITS, Entry, place
from loopcast_recorder.tables import upsert

__all__ = ["UNNUMBERED_KEPT", "Ledger"]

UNNUMBERED_KEPT = 100_000
"""How many ids of events are remembered that nobody numbered."""

ANOTHER = "Another recorder wrote to the same database meanwhile; where none should, end one of the two."
_FIRST = "INSERT INTO positions (partition, epoch, pos, changed) VALUES (?, 0, NULL, ?) ON CONFLICT DO NOTHING"
_MOVE = "UPDATE positions SET pos = ?, changed = ? WHERE partition = ? AND epoch = ? AND coalesce(pos, '') = ?"
_CLAIM = "UPDATE positions SET changed = changed WHERE partition = ? AND epoch = ? AND coalesce(pos, '') = ?"
_GAPS = "SELECT epoch, after_pos FROM gaps WHERE partition = ?"
_GAP = "INSERT INTO gaps (partition, epoch, reason, after_pos, noticed) VALUES (?, ?, ?, ?, ?)"


class Ledger:
    """
    The positions and the repeats in `database`; what it writes is part of the caller's transaction.

    The table of repeats in memory is bounded; behind it stands the database's, which is not, so that no repeat is
    taken for new however long ago its emitter spoke.
    """

    def __init__(self, database: Database, now: Callable[[], str]) -> None:
        self._database = database
        self._now = now
        self._places: dict[int, tuple[int, Position | None]] = {}
        self.forget()

    def forget(self) -> None:
        """What is in memory is not what is kept: a transaction failed."""
        self._places.clear()
        self._since: dict[int, int] = {}
        self._unsure: set[tuple[str, str]] = set()
        """Emitters whose next number may jump."""
        self._repeats = Repeats()
        self._numbered: dict[tuple[str, str], tuple[int, int]] = {}
        self._unnumbered: dict[str, int] = {}

    def place(self, partition: int) -> tuple[int, Position | None]:
        """The epoch of a partition's log and the position in it."""
        found = self._places.get(partition)
        if found is None:
            self._database.run(_FIRST, (partition, self._now()))
            rows = self._database.rows("SELECT epoch, pos FROM positions WHERE partition = ?", (partition,))
            epoch, pos = rows[0]
            found = self._places[partition] = (epoch, None if pos is None else Position.parse(pos))
        return found

    def claim(self, partition: int) -> int:
        """
        The epoch of a partition that is about to be written; until the transaction ends, nobody else moves it.

        Raises:
            StorageError: another recorder moved the position.
        """
        epoch, position = self.place(partition)
        if self._database.run(_CLAIM, (partition, epoch, "" if position is None else str(position))) != 1:
            raise StorageError(ANOTHER)
        return epoch

    def take(self, entry: Entry, n: int) -> int | None:
        """How many events of its emitter are missing before `entry`; None where it came before. It has come then."""
        if entry.emitter is None or entry.sequence is None:
            return 0 if self._fresh_id(entry.id, n) else None
        key = (entry.run, entry.emitter)
        if self._repeats.last(*key) is None:
            stored = self._database.rows("SELECT sequence, n FROM emitters WHERE run = ? AND emitter = ?", key)
            if stored:
                sequence, before = stored[0]
                self._repeats.seen(*key, sequence, entry.id)
                if not self._contiguous(before, n):
                    self._unsure.add(key)
        if self._repeats.seen(*key, entry.sequence, entry.id):
            return None
        self._numbered[key] = (entry.sequence, n)
        if self._unsure and key in self._unsure:
            self._unsure.remove(key)
            return 0
        return self._repeats.hole(entry.attempt)

    def _contiguous(self, before: int, n: int) -> bool:
        """Whether everything was read between the events `before` and `n`, so that a hole is not one of the log's."""
        partition = _partition(n)
        since = self._since.get(partition)
        if since is None:
            places = (
                place(epoch, partition, 0 if pos is None else Position.parse(pos).offset + 1)
                for epoch, pos in self._database.rows(_GAPS, (partition,))
            )
            since = self._since[partition] = max(places, default=0)
        return _partition(before) == partition and before >= since

    def save(self, partition: int, position: Position | None, *, epoch: int | None = None) -> None:
        """
        Write what was seen, and that `partition` is kept up to `position`.

        Raises:
            StorageError: another recorder moved the position.
        """
        database = self._database
        database.run_many(upsert("emitters"), [(*key, *value) for key, value in self._numbered.items()])
        database.run_many(upsert("unnumbered"), self._unnumbered.items())
        self._numbered, self._unnumbered = {}, {}
        before, old = self.place(partition)
        pos = None if position is None else str(position)
        values = (pos, self._now(), partition, before, "" if old is None else str(old))
        if database.run(_MOVE, values) != 1:
            raise StorageError(ANOTHER)
        if epoch is not None:
            database.run("UPDATE positions SET epoch = ? WHERE partition = ?", (epoch, partition))
        self._places[partition] = (before if epoch is None else epoch, position)

    def gap(self, partition: int, reason: str, *, anew: bool) -> None:
        """Write down that the log lost events; `anew` begins another epoch, from its first event."""
        epoch, position = self.place(partition)
        after = None if position is None else str(position)
        self._database.run(_GAP, (partition, epoch, reason, after, self._now()))
        # Behind it, no emitter's last number is known to be the one before its next: that is asked of the database.
        self._since.clear()
        self._repeats = Repeats()
        if anew:
            self.save(partition, None, epoch=epoch + 1)

    def prune(self) -> None:
        """Forget ids of events without a number that came long ago."""
        self._database.run(
            "DELETE FROM unnumbered WHERE n <= (SELECT n FROM unnumbered ORDER BY n DESC LIMIT 1 OFFSET ?)",
            (UNNUMBERED_KEPT,),
        )

    def _fresh_id(self, id_: str, n: int) -> bool:
        if self._repeats.seen("", None, None, id_):
            return False
        if self._database.rows("SELECT 1 FROM unnumbered WHERE id = ?", (id_,)):
            return False
        self._unnumbered[id_] = n
        return True


def _partition(n: int) -> int:
    return (n >> OFFSET_BITS) & 0xFF
