"""`loopcast replay`: an experiment's past once more, at once or in the time that it took."""

from __future__ import annotations

import datetime as dt
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from loopcast.cli.event_lines import EventLines
from loopcast.cli.gateway import Gateway
from loopcast.errors import ConfigurationError

__all__ = ["Choice", "Pace", "run_replay"]

PAGE = 1000
"""Events that one request asks for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which events are wanted: those of `run`, whose type matches one of `types` and none of `exclude`."""

    run: str = ""
    types: Sequence[str] = ()
    exclude: Sequence[str] = ()

    def wants(self, event: dict[str, Any]) -> bool:
        """Whether a CloudEvent is one of them."""
        if self.run and event.get("runid") != self.run:
            return False
        kind = event["type"]
        admitted = not self.types or any(fnmatchcase(kind, pattern) for pattern in self.types)
        return admitted and not any(fnmatchcase(kind, pattern) for pattern in self.exclude)


class Pace:
    """
    When each event is due, counted from the first: `speed` times as fast as its loop was; 0 is at once.

    No wait is longer than `longest` seconds: a loop that waited for a person all night need not do so again.
    """

    def __init__(self, speed: float, longest: float) -> None:
        self._speed, self._longest = speed, longest
        self._last: float | None = None

    def wait(self, event: dict[str, Any]) -> float:
        """Seconds to wait before `event` is shown."""
        moment = _seconds(event)
        if not self._speed or moment is None:
            return 0.0
        before, self._last = self._last, moment
        # Events of several machines are not always in the order of their clocks.
        return 0.0 if before is None else min(max(0.0, moment - before) / self._speed, self._longest)


def run_replay(
    experiment: str,
    choice: Choice,
    pace: Pace,
    *,
    since: float | None,
    until: float | None,
    limit: int,
    json: bool,
    url: str,
    data: Path,
) -> int:
    """
    Print what the log has of `experiment`, oldest first, and end; the exit code.

    Raises:
        ConfigurationError: no gateway answers, or it refuses what was asked for.
    """
    lines, shown = EventLines(json=json), 0
    with Gateway(url, data) as gateway:
        for event in history(gateway, experiment, since=since, until=until):
            if not choice.wants(event):
                continue
            time.sleep(pace.wait(event))
            lines.show(event)
            shown += 1
            if shown == limit:
                break
    if not shown:
        which = f"run {choice.run} of {experiment}" if choice.run else experiment
        print(f"the log has nothing such of {which}; `loopcast runs --all` shows what it has", file=sys.stderr)
    return 0


def history(
    gateway: Gateway, experiment: str, *, since: float | None = None, until: float | None = None
) -> Iterator[dict[str, Any]]:
    """
    The CloudEvents of an experiment, or of `*`, page by page.

    Raises:
        ConfigurationError: as :meth:`Gateway.get`, or a page cannot be gone on from.
    """
    bounds = {} if until is None else {"until_ts": until}
    place: dict[str, str | int | float] = {} if since is None else {"since_ts": since}
    while True:
        page = gateway.get(experiment, "events", {"limit": PAGE, "order": "oldest", **bounds, **place})
        if page.get("reason"):
            print(
                f"{experiment}: events are missing here ({page['reason']}); a recorder may have them", file=sys.stderr
            )
        for one in page["events"]:
            yield one["event"]
        if page["complete"]:
            return
        if page["next"] is None:
            raise ConfigurationError("The gateway cannot go on from here: name an experiment, or a later --since.")
        place = {"after": page["next"]}
        if not page["events"]:
            print(f"{experiment}: nothing found up to {page['next']} yet …", file=sys.stderr)


def _seconds(event: dict[str, Any]) -> float | None:
    """When it happened, else when it was recorded, as Unix seconds."""
    for name in ("time", "recordedtime"):
        try:
            return dt.datetime.fromisoformat(event[name]).timestamp()
        except (KeyError, TypeError, ValueError):
            continue
    return None
