"""An event as a line for a person, or as the CloudEvent it is."""

from __future__ import annotations

import json as jsonlib
from typing import Any

from rich.console import Console
from rich.text import Text

__all__ = ["EventLines"]

WIDTH = 100
"""Characters of one value that a person is shown."""

_DULL = {"event", "type", "ts", "loop", "run_id", "depth"}
_COLOURS = {
    "loop_start": "green bold",
    "loop_resume": "green bold",
    "loop_complete": "cyan bold",
    "state_enter": "bold",
    "action_output": "bright_black",
    "retry_exhausted": "yellow bold",
    "cycle_detected": "red bold",
    "action_error": "red bold",
}


class EventLines:
    """Prints events: a coloured line each, or with `json` the CloudEvents as they are."""

    def __init__(self, *, json: bool) -> None:
        self._json = json
        self._out = Console(soft_wrap=True, highlight=False)

    def show(self, event: dict[str, Any]) -> None:
        """Print one."""
        if self._json:
            print(jsonlib.dumps(event, ensure_ascii=False, separators=(",", ":")), flush=True)
            return
        data = event.get("data")
        data = data if isinstance(data, dict) else {"data": data}
        values = "  ".join(f"{k}={_short(v)}" for k, v in data.items() if k not in _DULL and v is not None)
        indent = "  " * int(data.get("depth") or 0)
        self._out.print(
            Text.assemble(
                (f"{(event.get('time') or '')[11:23]:<12} ", "bright_black"),
                (f"{event.get('experimentid') or '-'} ", "blue"),
                (f"{indent}{event['type']:<16} ", _COLOURS.get(event["type"], "")),
                (values, "bright_black" if event["type"] == "action_output" else ""),
            )
        )


def _short(value: object) -> str:
    text = value if isinstance(value, str) else jsonlib.dumps(value, ensure_ascii=False)
    text = text.strip().replace("\n", "⏎ ")
    return text if len(text) <= WIDTH else text[: WIDTH - 1] + "…"
