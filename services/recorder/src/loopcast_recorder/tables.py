"""The tables that events are folded into, column by column: the one list that writers and schema share. Pure."""

from __future__ import annotations

__all__ = ["KEYS", "TABLES", "insert", "upsert"]

_WHOSE = ("experiment", "run", "attempt", "depth", "loop")
TOKENS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_creation_tokens")

TABLES: dict[str, tuple[str, ...]] = {
    "events": ("n", "experiment", "run", "attempt", "type", "time", "recorded", "id", "message_id", "event"),
    "search": ("n", "text"),
    "loops": (
        "n", *_WHOSE, "parent_state", "started", "ended", "duration_ms", "status", "terminated_by", "final_state",
        "iterations", "error",
    ),
    "states": ("n", *_WHOSE, "state", "iteration", "started", "ended", "duration_ms", "next_state", "verdict", "note"),
    "actions": (
        "n", *_WHOSE, "state", "action", "is_prompt", "started", "ended", "duration_ms", "exit_code", "model",
        "output_lines", "error",
    ),
    "evaluations": ("n", *_WHOSE, "state", "time", "type", "verdict", "detail"),
    "usage": ("n", *_WHOSE, "state", "time", "model", *TOKENS, "cost_usd"),
    "runs": (
        "experiment", "run", "loop", "own_run", "parent_run", "status", "attempts", "resumed", "started", "ended",
        "duration_ms", "final_state", "terminated_by", "error", "iterations", "current_state", "iteration", "events",
        "missing", "actions", *TOKENS, "cost_usd", "first_n", "last_n", "last_time", "fold",
    ),
    "experiments": (
        "experiment", "partition", "events", "first_n", "first_id", "first_type", "first_recorded", "last_n", "last_id",
        "last_type", "last_recorded",
    ),
    "emitters": ("run", "emitter", "sequence", "n"),
    "unnumbered": ("id", "n"),
    "beats": ("n", "message_id"),
}  # fmt: skip

KEYS: dict[str, tuple[str, ...]] = {
    "runs": ("experiment", "run"),
    "experiments": ("experiment",),
    "emitters": ("run", "emitter"),
    "unnumbered": ("id",),
}
"""The primary key, where it is not `n`."""


def insert(table: str) -> str:
    """The statement that adds a row."""
    columns = TABLES[table]
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' for _ in columns)})"  # noqa: S608


def upsert(table: str) -> str:
    """The statement that adds a row, or takes the place of the one with its key."""
    key = KEYS.get(table, ("n",))
    changes = ", ".join(f"{c} = excluded.{c}" for c in TABLES[table] if c not in key)
    return f"{insert(table)} ON CONFLICT ({', '.join(key)}) DO UPDATE SET {changes}"
