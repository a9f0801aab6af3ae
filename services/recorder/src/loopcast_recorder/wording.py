"""What of an event people search for: its own words, without the names of its members. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

__all__ = ["searchable"]

MAX_CHARACTERS = 8192
"""Of one event. A prompt can have any size; its beginning is what people remember of it."""

_SILENT = frozenset(("event", "type", "ts", "run_id", "loop_run_id", "session_jsonl", "experiment_id"))


def searchable(data: Mapping[str, object]) -> str | None:
    """The texts of `data`, nested ones included; None where it has none."""
    words: list[str] = []
    left = MAX_CHARACTERS
    for word in _texts(data, 0):
        words.append(word[:left])
        left -= len(word) + 1
        if left <= 0:
            break
    return "\n".join(words) or None


def _texts(value: object, level: int) -> Iterator[str]:
    if isinstance(value, str):
        if value:
            yield value.replace("\0", " ")
    elif isinstance(value, Mapping):
        for name, member in value.items():
            if level or name not in _SILENT:
                yield from _texts(member, level + 1)
    elif isinstance(value, list):
        for member in value:
            yield from _texts(member, level + 1)
