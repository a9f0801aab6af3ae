"""Which types of events a subscription wants, by shell patterns. Pure."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from loopcast.auth import Patterns
from loopcast.errors import LoopcastError
from loopcast.routing import MAX_TYPE_BYTES

if TYPE_CHECKING:
    from loopcast_gateway.entry import Entry

__all__ = ["MAX_PATTERNS", "BadFilter", "Filter", "filter_of"]

MAX_PATTERNS = 32
"""Patterns of one subscription, `types` and `exclude` each."""

_REMEMBERED = 4096


class BadFilter(LoopcastError):
    """A pattern is none; the sentence says which."""


class Filter:
    """
    Admits the types that match one of `types` (none is all) and none of `exclude`.

    Filters with the same patterns are equal, so that whoever wants the same can be sent the same bytes.
    """

    __slots__ = ("_exclude", "_known", "_types", "key", "scope")

    def __init__(self, types: Sequence[str], exclude: Sequence[str], scope: Patterns | None = None) -> None:
        self.key = (tuple(sorted(set(types))), tuple(sorted(set(exclude))), scope)
        self._types, self._exclude = _any_of(self.key[0]), _any_of(self.key[1])
        self.scope = scope
        """The experiments that it may see of `*`; None is all."""
        self._known: dict[str, bool] = {}

    def admits(self, type_: str) -> bool:
        """Whether an event of this type is wanted."""
        known = self._known.get(type_)
        if known is None:
            wanted = self._types is None or self._types(type_) is not None
            known = wanted and (self._exclude is None or self._exclude(type_) is None)
            if len(self._known) < _REMEMBERED:
                self._known[type_] = known
        return known

    def wants(self, entry: Entry) -> bool:
        """Whether an event is wanted, and may be seen."""
        return (self.scope is None or self.scope.permit(entry.experiment)) and self.admits(entry.type)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Filter) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


def filter_of(
    types: Sequence[str] | None, exclude: Sequence[str] | None, scope: Patterns | None = None
) -> Filter | None:
    """
    The filter that a client asked for, of the experiments in `scope`; None where it wants everything and may see it.

    Raises:
        BadFilter: a list is empty or too long, or has what no type could match.
    """
    for name, patterns in (("types", types), ("exclude", exclude)):
        if patterns is not None:
            _check(name, patterns)
    return Filter(types or (), exclude or (), scope) if types or exclude or scope is not None else None


def _check(name: str, patterns: Sequence[str]) -> None:
    if not patterns and name == "types":
        raise BadFilter('"types" has no pattern, so nothing would ever come: leave it out for all types.')
    if len(patterns) > MAX_PATTERNS:
        raise BadFilter(f'"{name}" may have {MAX_PATTERNS} patterns; it has {len(patterns)}.')
    for pattern in patterns:
        if not _PATTERN.match(pattern):
            raise BadFilter(
                f'"{name}": {pattern[:40]!r} is no pattern of types: letters, digits, "_", "-" and ".", with *, ? and '
                f"[...], {MAX_TYPE_BYTES} characters at most."
            )


_PATTERN = re.compile(rf"[A-Za-z0-9_.%*?\[\]!-]{{1,{MAX_TYPE_BYTES}}}\Z")


def _any_of(patterns: Sequence[str]) -> Callable[[str], object] | None:
    return re.compile("|".join(map(fnmatch.translate, patterns))).match if patterns else None
