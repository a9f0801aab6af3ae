"""What people ask of the recorder's database, as SQL. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from loopcast.errors import ConfigurationError

__all__ = ["QUESTIONS", "Query", "Scope", "ask", "match"]

_BAD = "('failed', 'timed_out', 'interrupted')"


class Query(NamedTuple):
    """A statement and its values."""

    sql: str
    values: tuple[object, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What a question is narrowed to."""

    experiment: str | None = None
    text: str = ""
    """What is searched for; of `runs`, a status."""
    limit: int = 20


def ask(question: str, scope: Scope) -> Query:
    """
    The statement for a question.

    Raises:
        ConfigurationError: there is no such question, or it lacks its words.
    """
    make = QUESTIONS.get(question)
    if make is None:
        raise ConfigurationError(f"There is no question {question!r}: ask {', '.join(QUESTIONS)}, or use --sql.")
    return make(scope)


def match(text: str) -> str:
    """
    What people type as FTS5 understands it: every word, in any order; a `*` behind one is any ending.

    Signs that FTS5 reads as operators are words like any other (https://sqlite.org/fts5.html#full_text_query_syntax).
    """
    words = []
    for word in text.split():
        beginning = word.rstrip("*") or word
        quoted = '"' + beginning.replace('"', '""') + '"'
        words.append(f"{quoted}*" if beginning != word else quoted)
    return " ".join(words)


def _where(scope: Scope, *conditions: str) -> tuple[str, tuple[object, ...]]:
    found = list(conditions)
    values: tuple[object, ...] = ()
    if scope.experiment is not None:
        found.append("experiment = ?")
        values = (scope.experiment,)
    return (f" WHERE {' AND '.join(found)}" if found else ""), values


_MISSING = "(SELECT missing FROM runs AS one WHERE one.rowid = runs.rowid) AS missing"
"""
A run's own `missing`. A recorder that did not count those yet made `runs` without such a column: then SQLite takes the
name from the statement around, which says NULL.
"""


def _runs(scope: Scope) -> Query:
    where, values = _where(scope, *(["status = ?"] if scope.text else []))
    if scope.text:
        values = (scope.text, *values)
    return Query(
        "SELECT started, experiment, run, loop, status, attempts, duration_ms, final_state, terminated_by, iterations, "  # noqa: S608
        f"events, {_MISSING}, input_tokens + output_tokens AS tokens, cost_usd, error "
        f"FROM runs CROSS JOIN (SELECT NULL AS missing){where} ORDER BY first_n DESC LIMIT ?",
        (*values, scope.limit),
    )


def _states(scope: Scope) -> Query:
    where, values = _where(scope, "duration_ms IS NOT NULL")
    return Query(
        "SELECT loop, state, count(*) AS visits, round(avg(duration_ms), 1) AS mean_ms, "  # noqa: S608
        "round(max(duration_ms), 1) AS max_ms, round(sum(duration_ms), 1) AS total_ms, run AS slowest_run "
        f"FROM states{where} GROUP BY loop, state ORDER BY total_ms DESC LIMIT ?",
        (*values, scope.limit),
    )


def _failures(scope: Scope) -> Query:
    runs, values = _where(scope, f"status IN {_BAD}")
    actions, _ = _where(scope, "(exit_code <> 0 OR error IS NOT NULL)")
    return Query(
        "SELECT time, what, experiment, run, loop, state, why FROM ("  # noqa: S608
        "SELECT * FROM (SELECT last_n AS n, coalesce(ended, last_time) AS time, 'run' AS what, experiment, run, loop, "
        "coalesce(final_state, current_state) AS state, "
        "coalesce(terminated_by, status) || coalesce(': ' || error, '') AS why "
        f"FROM runs{runs} ORDER BY last_n DESC LIMIT ?) UNION ALL "
        "SELECT * FROM (SELECT n, coalesce(ended, started), 'action', experiment, run, loop, state, "
        f"coalesce(error, 'exit code ' || exit_code) FROM actions{actions} ORDER BY n DESC LIMIT ?)"
        ") ORDER BY n DESC LIMIT ?",
        (*values, scope.limit, *values, scope.limit, scope.limit),
    )


def _tokens(scope: Scope) -> Query:
    where, values = _where(scope)
    return Query(
        "SELECT coalesce(model, '(unknown)') AS model, count(*) AS calls, sum(input_tokens) AS input_tokens, "  # noqa: S608
        "sum(output_tokens) AS output_tokens, sum(cache_read_tokens) AS cache_read_tokens, "
        "sum(cache_creation_tokens) AS cache_creation_tokens, sum(cost_usd) AS cost_usd "
        f"FROM usage{where} GROUP BY model ORDER BY sum(input_tokens) + sum(output_tokens) DESC LIMIT ?",
        (*values, scope.limit),
    )


def _search(scope: Scope) -> Query:
    if not scope.text.strip():
        raise ConfigurationError("Say what to search for: loopcast query search 'words'.")
    where, values = _where(scope, "search MATCH ?")
    return Query(
        "SELECT time, experiment, run, type, snippet(search, 0, '[', ']', '…', 16) AS found "  # noqa: S608
        f"FROM search JOIN events ON events.n = search.rowid{where} ORDER BY search.rowid DESC LIMIT ?",
        (match(scope.text), *values, scope.limit),
    )


QUESTIONS = {"runs": _runs, "states": _states, "failures": _failures, "tokens": _tokens, "search": _search}
