"""What a person sees of `loopcast up`: one log with a colour a service, and a line for each address."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable

from rich.console import Console
from rich.text import Text

from loopcast.up.plan import COLOURS

__all__ = ["Terminal"]

WIDTH = max(map(len, COLOURS))
_LEVELS = {"warning": "yellow", "error": "red bold", "critical": "red bold"}
_KNOWN = ("event", "level", "timestamp", "service", "logger")


class Terminal:
    """Writes to standard output: colour where it is a terminal, plain lines where not."""

    def __init__(self) -> None:
        self._console = Console(file=sys.stdout, soft_wrap=True, highlight=False)

    def say(self, sentence: str, style: str = "bold") -> None:
        """A line of `up`'s own."""
        self._console.print(Text.assemble((f"{'loopcast':>{WIDTH}} ", "bold"), (sentence, style)))

    def line(self, program: str, raw: str) -> None:
        """A line that `program` wrote: a JSON log line as time, event and values, anything else as it is."""
        text = Text(f"{program:>{WIDTH}} ", style=COLOURS.get(program, "bright_black"))
        text.append_text(_log_line(raw))
        self._console.print(text)

    def addresses(self, rows: Iterable[tuple[str, str]]) -> None:
        """Where everything is, when everything is ready."""
        rows = list(rows)
        width = max(len(what) for what, _ in rows)
        self._console.print()
        for what, where in rows:
            self._console.print(Text.assemble(("  ➜ ", "green bold"), (f"{what:<{width}}  ", ""), (where, "cyan bold")))
        self._console.print()


def _log_line(raw: str) -> Text:
    try:
        record = json.loads(raw)
        event = str(record["event"])
    except (ValueError, KeyError, TypeError):
        return Text(raw)
    values = "  ".join(f"{k}={v}" for k, v in record.items() if k not in _KNOWN)
    clock = str(record.get("timestamp", ""))[11:19]
    return Text.assemble(
        (f"{clock} ", "bright_black"),
        (event, _LEVELS.get(str(record.get("level")), "")),
        (f"  {values}" if values else "", "bright_black"),
    )
