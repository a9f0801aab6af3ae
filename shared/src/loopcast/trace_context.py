"""
A caller's trace context, as W3C Trace Context writes it: which of it is carried on. Pure.

`traceparent` names the caller's span, `tracestate` has what tracing vendors add to it. One that breaks the grammar is
left out, never repaired: `tracestate` alone where only that does (3.3.1), both where `traceparent` does (3.2, 4.3).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["TraceContext", "context_of", "trace_context"]

MAX_MEMBERS = 32
"""List-members of a `tracestate` (3.3.1.1)."""
MAX_STATE = 512
"""Characters that have to be carried on (3.3.1.5); of more, whole members are left out."""
LARGE_MEMBER = 128
"""Members that are longer go first (3.3.1.5)."""

_PARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}\Z")
_MEMBER = re.compile(
    r"([a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13})"
    r"=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]\Z"
)


class TraceContext(NamedTuple):
    """What of a context is carried on."""

    parent: str | None = None
    """`traceparent`."""
    state: str | None = None
    """`tracestate`; only with a parent."""


def trace_context(parent: str | None, state: str | None = None) -> TraceContext:
    """The context that these two header fields say; several `tracestate` fields are one, joined by commas (3.3.1)."""
    if parent is None or _PARENT.match(parent) is None:
        return TraceContext()
    return TraceContext(parent, None if state is None else _state(state))


def context_of(fields: Mapping[str, object]) -> TraceContext:
    """The context that the headers of a message, or the attributes of an event, have among them."""
    parent, state = fields.get("traceparent"), fields.get("tracestate")
    return trace_context(parent if isinstance(parent, str) else None, state if isinstance(state, str) else None)


def _state(text: str) -> str | None:
    members = [member for part in text.split(",") if (member := part.strip(" \t"))]
    found = [match for member in members if (match := _MEMBER.match(member))]
    keys = {match[1] for match in found}
    if not members or len(keys) < len(members) or len(members) > MAX_MEMBERS:
        return None
    if len(",".join(members)) > MAX_STATE:
        members = [member for member in members if len(member) <= LARGE_MEMBER]
    while len(",".join(members)) > MAX_STATE:
        members.pop()
    return ",".join(members) or None
