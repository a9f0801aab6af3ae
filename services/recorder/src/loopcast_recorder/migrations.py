"""Making a database's tables, and bringing those of an older version up to date, each version in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog

from loopcast.errors import ConfigurationError
from loopcast_recorder.database import Database
from loopcast_recorder.schema import Dialect, statements

__all__ = ["migrate"]

log = structlog.get_logger(__name__)

LOCK = 0x6C6F6F7063617374
"""A number that no other program takes: "loopcast"."""

Steps = Callable[[Dialect, int], Sequence[tuple[int, list[str]]]]


def migrate(database: Database, steps: Steps = statements) -> int:
    """
    Bring `database` to the newest version; which one that is.

    Raises:
        StorageError: it did not take it.
        ConfigurationError: a newer program made it.
    """
    newest = steps(database.dialect, 0)[-1][0]
    with database.transaction():
        if database.dialect == "postgresql":
            # Replicas that start together take turns; the lock goes with the transaction.
            database.rows("SELECT pg_advisory_xact_lock(?)", (LOCK,))
        database.run("CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL)")
        found = database.rows("SELECT max(version) FROM schema_version")
        version = found[0][0] or 0
        if version > newest:
            raise ConfigurationError(
                f"The recorder's database has version {version} and this program knows {newest}: "
                "start the newer one, or name another file."
            )
        for number, changes in steps(database.dialect, version):
            for statement in changes:
                database.run(statement)
            database.run("INSERT INTO schema_version (version) VALUES (?)", (number,))
            log.info("database_migrated", version=number)
    return newest
