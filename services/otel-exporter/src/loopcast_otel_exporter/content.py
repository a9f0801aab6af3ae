"""
What of an event may leave, under which name, and how much of it.

Prompts, outputs and continuations are content: people's text, which may hold anything. It leaves only with capture on.
Span names never hold any of it, and stay few: backends group by them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

import msgspec

from loopcast_otel_exporter.semconv import UNNAMED_TOOL
from loopcast_otel_exporter.signals import Scalar

__all__ = ["MAX_VALUE", "Content", "cut", "integer", "sha256", "text", "tool_name"]

MAX_VALUE = 4096
"""Characters of one attribute's value."""

MAX_UNASKED = 256
"""Characters of a text that nobody classified and that leaves with capture off."""

MAX_NAME = 120
_MAX_INT = 2**63

_CONTENT = frozenset((
    "action", "args", "captured", "content", "continuation", "continuation_prompt", "line", "message", "messages",
    "output", "output_preview", "prompt", "raw", "stderr_preview", "stdout", "stderr", "text",
))  # fmt: skip
_ENVELOPE = frozenset(("event", "ts", "run_id", "loop", "depth"))
_WORD = re.compile(r"\s*([A-Za-z0-9._+/-]{1,200})(?=\s|$)")


class Content:
    """Turns an event's members into attributes; `capture` lets content through."""

    def __init__(self, *, capture: bool) -> None:
        self.capture = capture

    def attributes(self, data: Mapping[str, object], *, prefix: str = "loop.event.") -> dict[str, Scalar]:
        """Every member of `data` but the envelope's, typed; what is no scalar as JSON, with capture on."""
        found: dict[str, Scalar] = {}
        for name, value in data.items():
            if name in _ENVELOPE or value is None:
                continue
            scalar = self._scalar(name, value)
            if scalar is not None:
                found[prefix + cut(name, MAX_NAME)] = scalar
        return found

    def _scalar(self, name: str, value: object) -> Scalar | None:
        if isinstance(value, bool | float):
            return value
        if isinstance(value, int):
            return value if -_MAX_INT <= value < _MAX_INT else str(value)[:MAX_VALUE]
        if isinstance(value, str):
            may = self.capture or (name not in _CONTENT and len(value) <= MAX_UNASKED)
            return cut(value) if may else None
        return cut(msgspec.json.encode(value).decode()) if self.capture else None


def tool_name(action: str) -> str:
    """The program that a shell action runs, where its first word is one; never more of its text than that."""
    match = _WORD.match(action)
    name = match[1].rpartition("/")[2] if match else ""
    return name if name and len(name) <= 32 and not name[0].isdigit() and name not in _KEYWORDS else UNNAMED_TOOL


_KEYWORDS = frozenset(("if", "for", "while", "until", "case", "do", "then", "else", "set", "function", "select"))


def cut(value: str, limit: int = MAX_VALUE) -> str:
    """Not more than `limit` characters of `value`."""
    return value if len(value) <= limit else value[: limit - 1] + "…"


def text(data: Mapping[str, object], name: str, limit: int = MAX_NAME) -> str | None:
    """The member `name` where it is text, cut to `limit`."""
    value = data.get(name)
    return cut(value, limit) if isinstance(value, str) and value else None


def integer(data: Mapping[str, object], name: str) -> int | None:
    """The member `name` where it is a whole number that OTLP can hold."""
    value = data.get(name)
    return value if type(value) is int and -_MAX_INT <= value < _MAX_INT else None


def sha256(action: str) -> str:
    """The hash by which two actions are known for the same without their text."""
    return hashlib.sha256(action.encode("utf-8", "surrogatepass")).hexdigest()
