"""
How far a client has seen what it follows: a position for each partition, and what to ask for after a lost connection.

Pure. A subscription that is caught up advances with each `ping` too, so that a quiet one's position never grows old.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from loopcast.errors import InvalidPosition
from loopcast.position import Position

__all__ = ["Progress"]

EVERYTHING = "*"


class Progress:
    """
    The positions of one client that follows `experiments`, from `start` at the beginning.

    A first subscription has `history` too (`since_ts`, `limit`), each one has `filters` (`types`, `exclude`).
    """

    def __init__(
        self,
        experiments: Sequence[str],
        start: str,
        *,
        history: Mapping[str, object] | None = None,
        filters: Mapping[str, object] | None = None,
    ) -> None:
        self._start = start
        self._history, self._filters = dict(history or {}), dict(filters or {})
        self._seen: dict[str, dict[int, str]] = {experiment: {} for experiment in experiments}
        self._caught_up: set[str] = set()

    def commands(self) -> list[dict[str, object]]:
        """The commands for a new connection: each subscription goes on where it was."""
        self._caught_up.clear()
        commands = []
        for number, (experiment, seen) in enumerate(self._seen.items(), 1):
            command: dict[str, object] = {"id": number, "action": "subscribe", "experiment_id": experiment}
            command |= self._filters
            # What was not seen of a partition yet begins there as it would have.
            if self._start != "now" or not seen:
                command["from"] = self._start
            if seen:
                tokens = [seen[partition] for partition in sorted(seen)]
                command["resume"] = tokens if len(tokens) > 1 else tokens[0]
            else:
                command |= self._history
            commands.append(command)
        return commands

    def take(self, frame: Mapping[str, object]) -> None:
        """Learn from a frame."""
        kind, experiment = frame.get("type"), str(frame.get("experiment_id"))
        if kind == "event" and "id" not in frame:
            event = frame.get("event")
            of = event.get("experimentid") if isinstance(event, Mapping) else None
            for watched in (of, EVERYTHING):
                self._set(str(watched), frame.get("pos"))
        elif kind in ("subscribed", "caught_up", "gap"):
            self._set(experiment, frame.get("pos"))
            if kind == "caught_up" or (kind == "subscribed" and self._live(frame)):
                self._caught_up.add(experiment)
        elif kind == "ping":
            self._advance(frame.get("pos"))

    def _live(self, frame: Mapping[str, object]) -> bool:
        return self._start == "now" and not self._history and frame.get("recovered") is None

    def _advance(self, tails: object) -> None:
        """Everything up to `tails` was sent to what is caught up."""
        for token in tails if isinstance(tails, list) else []:
            partition = _partition(token)
            for experiment in self._caught_up:
                seen = self._seen.get(experiment)
                if seen is not None and (partition in seen or experiment == EVERYTHING):
                    self._set(experiment, token)

    def _set(self, experiment: str, tokens: object) -> None:
        seen = self._seen.get(experiment)
        for token in (tokens if isinstance(tokens, list) else [tokens]) if seen is not None else ():
            partition = _partition(token)
            if seen is not None and partition is not None:
                seen[partition] = str(token)


def _partition(token: object) -> int | None:
    try:
        return Position.parse(token).partition if isinstance(token, str) else None
    except InvalidPosition:
        return None
