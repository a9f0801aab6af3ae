"""
Several runs in one source: those whose events name their run themselves are told apart by it.

Newer little-loops puts a `run_id` of its own on every event. Two loops that write to one file, or one transport that
several threads use, are then an interleaving of sources, and each strand of it is read by a
:class:`~loopcast.runs.Runs`. A sub-loop's events name the sub-loop's own run; they belong to the strand in which it
began. Events that name no run belong to the strand of the event before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from loopcast.events import event_type
from loopcast.runs import Identity, Runs

__all__ = ["Strands"]

MAX_STRANDS = 200
"""How many runs at once are told apart; the one that was quiet for longest is forgotten."""
MAX_CHILDREN = 2000


class Strands:
    """
    The runs of one source that may be several. Not thread-safe.

    Args:
        make: makes the `Runs` of a strand.
        split: whether strands are told apart; not where the caller names the run.
    """

    def __init__(self, make: Callable[[], Runs], *, split: bool = True) -> None:
        self._make = make
        self._split = split
        self._strands: dict[str, Runs] = {}
        self._children: dict[str, str] = {}
        self._name: object = None
        self._runs = make()

    def identify(self, event: Mapping[str, object], type_: str | None = None) -> Identity:
        """The run of `event`, the next one of this source; `type_` is its type, where the caller knows that."""
        name = event.get("run_id")
        if name != self._name and self._split and isinstance(name, str) and name:
            self._turn(event, name)
        return self._runs.identify(event, type_)

    @property
    def runs(self) -> Runs:
        """The strand of the last event."""
        return self._runs

    @property
    def open_runs(self) -> tuple[str, ...]:
        """The runs that have begun and neither ended nor wait."""
        found = {id(runs): runs for runs in (self._runs, *self._strands.values())}
        return tuple(runs.current for runs in found.values() if runs.state == "open" and runs.current is not None)

    def dump(self) -> dict[str, object]:
        """What is remembered, as plain JSON types."""
        return {
            "last": self._runs.dump(),
            "name": self._name,
            "strands": {name: runs.dump() for name, runs in self._strands.items()},
            "children": dict(self._children),
        }

    def load(self, memory: object) -> None:
        """
        Go on where :meth:`dump` was taken: the same source, read on.

        Raises:
            ValueError: it is not what this version's `dump` gives. Nothing has changed then.
        """
        if not isinstance(memory, dict) or not isinstance(memory.get("strands"), dict):
            raise ValueError("this is no memory of runs")  # noqa: TRY004 - as for every other fault of its content
        strands = {str(name): self._loaded(dump) for name, dump in memory["strands"].items()}
        name = memory.get("name")
        self._runs = strands[name] if name in strands else self._loaded(memory.get("last"))
        self._strands, self._name = strands, name
        self._children = {str(child): str(parent) for child, parent in dict(memory.get("children") or {}).items()}

    def _loaded(self, dump: object) -> Runs:
        runs = self._make()
        runs.load(dump, same_source=True)
        return runs

    def _turn(self, event: Mapping[str, object], name: str) -> None:
        """Go to the strand that `name` names."""
        depth = event.get("depth")
        if type(depth) is int and depth > 0:
            self._turn_to_parent(event, name)
            return
        unnamed, self._name = self._name is None, name
        runs = self._strands.pop(name, None)
        if runs is None:
            # What came without a name, and has no end yet, is the beginning of the first that has one.
            state = self._runs.state
            goes_on = state is None or (state != "ended" and event_type(event) != "loop_start")
            runs = self._runs if unnamed and goes_on else self._make()
        self._strands[name] = self._runs = runs
        if len(self._strands) > MAX_STRANDS:
            del self._strands[next(iter(self._strands))]

    def _turn_to_parent(self, event: Mapping[str, object], name: str) -> None:
        known = self._children.get(name)
        if known is None or event_type(event) == "loop_start":
            # It begins in the thread of its parent, right behind the parent's own event.
            if isinstance(self._name, str):
                self._children.pop(name, None)
                self._children[name] = self._name
            if len(self._children) > MAX_CHILDREN:
                del self._children[next(iter(self._children))]
        elif known in self._strands:
            self._name, self._runs = known, self._strands[known]
