"""Which experiments somebody may use: patterns such as `exp-*`. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

__all__ = ["MAX_PATTERNS", "MAX_PATTERN_LENGTH", "BadPattern", "Patterns"]

MAX_PATTERNS = 256
MAX_PATTERN_LENGTH = 512
_REMEMBERED = 4096

EVERYTHING = "*"


class BadPattern(ValueError):
    """A list of patterns is none; the sentence says why."""


class Patterns:
    """
    A list of patterns, of which an experiment id must match one.

    `*` in a pattern stands for any text, also none; every other character for itself. Ids are compared as they are:
    case counts. The pattern `*` also matches the reserved word of events that name no experiment.

    Patterns with the same text are equal, so that whoever may see the same can be sent the same bytes.
    """

    __slots__ = ("_known", "_parts", "everything", "texts")

    def __init__(self, texts: Iterable[str]) -> None:
        self.texts = tuple(sorted(set(texts)))
        """The patterns, sorted."""
        self.everything = EVERYTHING in self.texts
        """Whether every experiment matches, so that nobody needs to ask."""
        self._parts = [text.split("*") for text in self.texts]
        self._known: dict[str, bool] = {}

    @classmethod
    def of(cls, value: object, *, what: str) -> Patterns:
        """
        Check a list that came from outside.

        Raises:
            BadPattern: it is no list of strings, is too long, or has what no experiment could match.
        """
        if not isinstance(value, Sequence) or isinstance(value, str | bytes):
            raise BadPattern(f"{what} is no list of experiment patterns.")
        if len(value) > MAX_PATTERNS:
            raise BadPattern(f"{what} has {len(value)} patterns; {MAX_PATTERNS} are possible.")
        texts: list[object] = list(value)
        for text in texts:
            if not isinstance(text, str) or not 0 < len(text) <= MAX_PATTERN_LENGTH:
                raise BadPattern(
                    f"{what} has {ascii(text)[:40]}, which is no pattern: a text of 1 to "
                    f"{MAX_PATTERN_LENGTH} characters, with * for any text."
                )
        return cls(value)

    def permit(self, experiment: str) -> bool:
        """Whether a pattern matches `experiment`."""
        if self.everything:
            return True
        known = self._known.get(experiment)
        if known is None:
            known = any(_matches(parts, experiment) for parts in self._parts)
            if len(self._known) < _REMEMBERED:
                self._known[experiment] = known
        return known

    def __bool__(self) -> bool:
        return bool(self.texts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Patterns) and self.texts == other.texts

    def __hash__(self) -> int:
        return hash(self.texts)

    def __repr__(self) -> str:
        return f"Patterns({list(self.texts)!r})"


def _matches(parts: Sequence[str], text: str) -> bool:
    """
    Match the text between the stars from the left, each as early as it goes, which suffices.

    A regular expression would take polynomial time for a pattern with many stars, and patterns come from tokens.
    """
    if len(parts) == 1:
        return parts[0] == text
    first, last = parts[0], parts[-1]
    if len(text) < len(first) + len(last) or not text.startswith(first) or not text.endswith(last):
        return False
    place, end = len(first), len(text) - len(last)
    for part in parts[1:-1]:
        place = text.find(part, place, end)
        if place < 0:
            return False
        place += len(part)
    return True
