"""
The database's tables as SQL, version by version, for SQLite and for PostgreSQL. Pure.

Each version is a list of statements that lead from the one before. A version that was released is never edited; what
changes is added as the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

__all__ = ["VERSIONS", "Dialect", "ledger_statements", "socket_statements", "statements"]

Dialect = Literal["sqlite", "postgresql"]

_WHOSE = """
  n {integer} PRIMARY KEY, experiment TEXT NOT NULL, run TEXT NOT NULL, attempt INTEGER NOT NULL,
  depth INTEGER NOT NULL, loop TEXT,"""
_TOKENS = """
  input_tokens {integer}, output_tokens {integer}, cache_read_tokens {integer}, cache_creation_tokens {integer},
  cost_usd {real}"""

_FIRST = [
    """CREATE TABLE positions (
  partition INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, pos TEXT, changed TEXT NOT NULL)""",
    """CREATE TABLE gaps (
  partition INTEGER NOT NULL, epoch INTEGER NOT NULL, reason TEXT NOT NULL, after_pos TEXT, noticed TEXT NOT NULL)""",
    """CREATE TABLE emitters (
  run TEXT NOT NULL, emitter TEXT NOT NULL, sequence {integer} NOT NULL, n {integer} NOT NULL,
  PRIMARY KEY (run, emitter)){without_rowid}""",
    "CREATE TABLE unnumbered (id TEXT PRIMARY KEY, n {integer} NOT NULL){without_rowid}",
    "CREATE INDEX unnumbered_n ON unnumbered (n)",
    """CREATE TABLE events (
  n {integer} PRIMARY KEY, experiment TEXT NOT NULL, run TEXT NOT NULL, attempt INTEGER NOT NULL,
  type TEXT NOT NULL, time TEXT NOT NULL, recorded {integer} NOT NULL, id TEXT NOT NULL,
  message_id TEXT, event TEXT NOT NULL)""",
    # The gateway's heartbeats: a position that a quiet experiment's viewer has is one of theirs.
    "CREATE TABLE beats (n {integer} PRIMARY KEY, message_id TEXT NOT NULL)",
    "CREATE INDEX events_experiment ON events (experiment, n)",
    """CREATE TABLE experiments (
  experiment TEXT PRIMARY KEY, partition INTEGER NOT NULL, events {integer} NOT NULL,
  first_n {integer} NOT NULL, first_id TEXT NOT NULL, first_type TEXT NOT NULL, first_recorded {integer} NOT NULL,
  last_n {integer} NOT NULL, last_id TEXT NOT NULL, last_type TEXT NOT NULL, last_recorded {integer} NOT NULL)""",
    """CREATE TABLE runs (
  experiment TEXT NOT NULL, run TEXT NOT NULL, loop TEXT, own_run TEXT, parent_run TEXT, status TEXT,
  attempts INTEGER NOT NULL, resumed INTEGER NOT NULL, started TEXT, ended TEXT, duration_ms {real},
  final_state TEXT, terminated_by TEXT, error TEXT, iterations {integer}, current_state TEXT, iteration {integer},
  events {integer} NOT NULL, actions {integer} NOT NULL,"""
    + _TOKENS
    + """,
  first_n {integer} NOT NULL, last_n {integer} NOT NULL, last_time TEXT NOT NULL, fold {bytes} NOT NULL,
  PRIMARY KEY (experiment, run))""",
    "CREATE INDEX runs_last ON runs (last_n)",
    "CREATE TABLE loops ("
    + _WHOSE
    + """
  parent_state TEXT, started TEXT NOT NULL, ended TEXT, duration_ms {real}, status TEXT NOT NULL,
  terminated_by TEXT, final_state TEXT, iterations {integer}, error TEXT)""",
    "CREATE TABLE states ("
    + _WHOSE
    + """
  state TEXT, iteration {integer}, started TEXT NOT NULL, ended TEXT, duration_ms {real},
  next_state TEXT, verdict TEXT, note TEXT)""",
    "CREATE INDEX states_duration ON states (duration_ms)",
    "CREATE TABLE actions ("
    + _WHOSE
    + """
  state TEXT, action TEXT, is_prompt INTEGER NOT NULL, started TEXT NOT NULL, ended TEXT, duration_ms {real},
  exit_code {integer}, model TEXT, output_lines {integer} NOT NULL, error TEXT)""",
    "CREATE INDEX actions_failed ON actions (n) WHERE exit_code <> 0 OR error IS NOT NULL",
    "CREATE TABLE evaluations ("
    + _WHOSE
    + """
  state TEXT, time TEXT NOT NULL, type TEXT, verdict TEXT, detail TEXT NOT NULL)""",
    "CREATE TABLE usage (" + _WHOSE + "\n  state TEXT, time TEXT NOT NULL, model TEXT," + _TOKENS + ")",
]

_SEARCH = {
    "sqlite": [
        # Its own copy of the text, so that retention deletes by number without knowing what the text was.
        "CREATE VIRTUAL TABLE search USING fts5(text, tokenize = 'unicode61 remove_diacritics 2')",
    ],
    "postgresql": [
        """CREATE TABLE search (
  n BIGINT PRIMARY KEY, text TEXT NOT NULL,
  words tsvector GENERATED ALWAYS AS (to_tsvector('simple', text)) STORED)""",
        "CREATE INDEX search_words ON search USING GIN (words)",
    ],
}

_TYPES = {
    "sqlite": {
        "integer": "INTEGER", "real": "REAL", "bytes": "BLOB", "without_rowid": " WITHOUT ROWID",
    },
    "postgresql": {
        "integer": "BIGINT", "real": "DOUBLE PRECISION", "bytes": "BYTEA", "without_rowid": "",
    },
}  # fmt: skip


def _version_1(dialect: Dialect) -> list[str]:
    return [statement.format(**_TYPES[dialect]) for statement in _FIRST] + _SEARCH[dialect]


def _version_2(dialect: Dialect) -> list[str]:
    return ["ALTER TABLE runs ADD COLUMN missing {integer} NOT NULL DEFAULT 0".format(**_TYPES[dialect])]


VERSIONS = (_version_1, _version_2)
"""What leads to version 1, 2 and so on."""

_FILES = """CREATE TABLE files (
  path TEXT PRIMARY KEY, experiment TEXT NOT NULL, day TEXT NOT NULL, part INTEGER NOT NULL,
  bytes INTEGER NOT NULL, state TEXT NOT NULL, UNIQUE (experiment, day, part))"""
_LEDGER = ("CREATE TABLE positions", "CREATE TABLE gaps", "CREATE TABLE emitters", "CREATE TABLE unnumbered",
           "CREATE INDEX unnumbered_n")  # fmt: skip


def ledger_statements(dialect: Dialect, version: int) -> Sequence[tuple[int, list[str]]]:
    """The same for the ledger of files: positions and repeats as in the database, and how long each file is."""
    if version >= 1:
        return []
    made = [statement for statement in _version_1(dialect) if statement.startswith(_LEDGER)]
    return [(1, [*made, _FILES])]


def statements(dialect: Dialect, version: int) -> Sequence[tuple[int, list[str]]]:
    """What leads from `version` to the newest: pairs of the version that is reached and its statements."""
    return [(number, make(dialect)) for number, make in enumerate(VERSIONS, 1) if number > version]


def socket_statements(dialect: Dialect, version: int) -> Sequence[tuple[int, list[str]]]:
    """The same for the state of the socket: positions and repeats, and the runs that are open."""
    runs = """CREATE TABLE open_runs (
  experiment TEXT NOT NULL, run TEXT NOT NULL, fold BLOB NOT NULL, PRIMARY KEY (experiment, run))"""
    return [(number, [*made[:-1], runs]) for number, made in ledger_statements(dialect, version)]
