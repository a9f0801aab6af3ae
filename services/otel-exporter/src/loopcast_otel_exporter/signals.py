"""
What the fold makes of events: spans, log records and links, as plain values that know nothing of OTLP.

Ids are bytes and times nanoseconds since 1970, as OTLP has them; :mod:`loopcast_otel_exporter.encoding` writes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

__all__ = ["Attributes", "Link", "LogRecord", "Output", "Scalar", "Severity", "Span", "SpanEvent"]

Scalar = str | bool | int | float
Attributes = Mapping[str, Scalar]

Severity = Literal["INFO", "WARN", "ERROR"]


class SpanEvent(msgspec.Struct, array_like=True, gc=False):
    """Something at one moment of a span."""

    name: str
    time: int
    attributes: dict[str, Scalar]


class Link(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Another span that this one has to do with, and how."""

    trace_id: bytes
    span_id: bytes
    relation: str
    trace_state: str = ""


class Span(msgspec.Struct, kw_only=True, gc=False):
    """A span with its final content: it is made once, when nothing in it can change any more."""

    trace_id: bytes
    span_id: bytes
    parent_id: bytes
    name: str
    start: int
    end: int
    attributes: dict[str, Scalar]
    events: list[SpanEvent] = []
    dropped_events: int = 0
    links: list[Link] = []
    error: str | None = None
    """The status message where the status is ERROR, else None: the status is UNSET (OTel, "Recording errors")."""


class LogRecord(msgspec.Struct, kw_only=True, gc=False):
    """A log record, at a span where there is one."""

    trace_id: bytes
    span_id: bytes
    time: int
    observed: int
    uid: str
    event_name: str
    severity: Severity = "INFO"
    body: str | None = None
    attributes: dict[str, Scalar] = {}


class Output:
    """What some events became, in their order."""

    __slots__ = ("logs", "spans")

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.logs: list[LogRecord] = []

    def __len__(self) -> int:
        return len(self.spans) + len(self.logs)
