"""
Answers that are asked for again and again, remembered: a bounded number of them, and none of a long question.

What a request says of itself comes from anybody, before it is known who that is. A cache that is bounded by its entries
alone lets a stranger fill it with header fields of 60 KiB.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TypeVar

__all__ = ["remembered"]

MAX_ENTRIES = 4096
"""When there are as many, remembering starts anew."""

MAX_LENGTH = 1024
"""
How long a question may be to be remembered, all its parts together, in characters: room for percent-encoded ids.
"""

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class _Answers(dict[K, V]):
    # A dictionary finds what it knows without a step of Python: this is asked several times for each request.
    __slots__ = ("_answer", "_entries")

    def __init__(self, answer: Callable[[K], V], entries: int) -> None:
        super().__init__()
        self._answer = answer
        self._entries = entries

    def __missing__(self, key: K) -> V:
        answer = self._answer(key)
        if _length(key) <= MAX_LENGTH:
            if len(self) >= self._entries:
                self.clear()
            self[key] = answer
        return answer


def remembered(answer: Callable[[K], V], entries: int = MAX_ENTRIES) -> Callable[[K], V]:
    """`answer` of a text, or of a tuple of texts, which it is not asked twice for; errors are not remembered."""
    return _Answers(answer, entries).__getitem__


def _length(key: object) -> int:
    if isinstance(key, tuple):
        return sum(map(_length, key))
    return len(key) if isinstance(key, str | bytes) else 0
