"""
Events as a message that a person wants to read in Slack: pure.

One line an event: what loop, what happened, how it ended and how long it took, with a link to the run where the
dashboard's address is known. Text from events is escaped as Slack asks
(https://docs.slack.dev/messaging/formatting-message-text#escaping), so that nobody's output mentions everybody.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from urllib.parse import quote

import msgspec

from loopcast.events import Event
from loopcast.trace_ids import trace_url

__all__ = ["slack_message"]

MAX_LINES = 30
MAX_TEXT = 2900
"""A section's text has at most 3,000 characters."""
MAX_PART = 300

_ENDED_WELL = frozenset({"terminal"})
_STOPPED = frozenset({"user_stopped", "interrupted", "signal", "system_signal", "max_steps", "max_iterations_reached"})


def slack_message(events: Sequence[Event], dashboard: str | None, traces: str = "") -> dict[str, object]:
    """
    The JSON of an incoming webhook's message: `text` for notifications, the same as a block.

    `dashboard` is where people look at runs, `traces` the template of a trace's address; without, there is no link.
    """
    lines = [_line(event, dashboard, traces) for event in events[:MAX_LINES]]
    kept: list[str] = []
    size = 0
    for line in lines:
        if size + len(line) + 1 > MAX_TEXT - 40:
            break
        kept.append(line)
        size += len(line) + 1
    if len(kept) < len(events):
        kept.append(f"_…and {len(events) - len(kept)} more events_")
    text = "\n".join(kept)
    return {"text": text, "blocks": [{"type": "section", "text": {"type": "mrkdwn", "text": text}}]}


def _line(event: Event, dashboard: str | None, traces: str) -> str:
    data = _object(event)
    what = _SENTENCES.get(event.type, _other)(event, data)
    return f"{what} · {_place(event, dashboard)}{_trace(event, traces)}"


def _trace(event: Event, traces: str) -> str:
    """The link to the trace of a loop's event; others may have none."""
    if not traces or event.type not in _SENTENCES or event.attempt is None:
        return ""
    return f" · <{trace_url(traces, event.experiment, event.run, event.attempt)}|trace>"


def _complete(event: Event, data: Mapping[str, object]) -> str:
    ended = str(data.get("terminated_by") or "")
    failed = bool(data.get("failure_terminal")) or (ended not in _ENDED_WELL and ended not in _STOPPED and bool(ended))
    icon, word = (":x:", "failed") if failed else (":white_check_mark:", "completed")
    if ended in _STOPPED:
        icon, word = ":warning:", "stopped"
    parts = [f"{icon} *{_name(event, data)}* {word}"]
    if data.get("final_state"):
        parts.append(f"in `{_clean(data['final_state'])}`")
    if ended and ended != "terminal":
        parts.append(f"({_clean(ended)})")
    if isinstance(data.get("iterations"), int):
        parts.append(f"after {data['iterations']} steps")
    if (seconds := _seconds(event, data)) is not None:
        parts.append(f"in {_duration(seconds)}")
    if data.get("error"):
        parts.append(f"— {_clean(data['error'])}")
    return " ".join(parts)


def _start(event: Event, data: Mapping[str, object]) -> str:
    return f":arrow_forward: *{_name(event, data)}* started"


def _resume(event: Event, data: Mapping[str, object]) -> str:
    return f":arrow_forward: *{_name(event, data)}* resumed in `{_clean(data.get('from_state', '?'))}`"


def _state(event: Event, data: Mapping[str, object]) -> str:
    return f":small_blue_diamond: *{_name(event, data)}* is in `{_clean(data.get('state', '?'))}`"


def _other(event: Event, data: Mapping[str, object]) -> str:
    said = next((data[key] for key in ("error", "message", "line", "reason", "state") if data.get(key)), None)
    return f":small_blue_diamond: *{_name(event, data)}* {_clean(event.type)}" + (f": {_clean(said)}" if said else "")


_SENTENCES = {"loop_complete": _complete, "loop_start": _start, "loop_resume": _resume, "state_enter": _state}


def _place(event: Event, dashboard: str | None) -> str:
    name = _clean(event.experiment)
    if dashboard is None:
        return f"{name} / {_clean(event.run)}"
    experiment, run = quote(event.experiment, safe=""), quote(event.run, safe="")
    return f"<{dashboard.rstrip('/')}/#/experiments/{experiment}/runs/{run}|{name}>"


def _name(event: Event, data: Mapping[str, object]) -> str:
    return _clean(event.subject or data.get("loop") or data.get("loop_name") or event.experiment)


def _seconds(event: Event, data: Mapping[str, object]) -> float | None:
    """How long the run took: said, or from the time in its id where that is a UUIDv7 (RFC 9562, 5.7)."""
    said = data.get("duration_ms", data.get("accumulated_ms"))
    if isinstance(said, int | float) and not isinstance(said, bool):
        return said / 1000
    digits = event.run.replace("-", "")
    if event.time is None or len(digits) != 32 or digits[12] != "7":
        return None
    try:
        seconds = dt.datetime.fromisoformat(event.time).timestamp() - int(digits[:12], 16) / 1000
    except ValueError:
        return None
    return seconds if 0 <= seconds < 366 * 86400 else None


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def _object(event: Event) -> Mapping[str, object]:
    try:
        data = msgspec.json.decode(event.data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}


def _clean(value: object) -> str:
    text = " ".join(str(value).split())
    if len(text) > MAX_PART:
        text = text[: MAX_PART - 1] + "…"
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # Slack has no escape for these.
    return text.replace("`", "'").replace("*", "\N{ASTERISK OPERATOR}")
