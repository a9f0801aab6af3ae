"""
Spans of one trace: opened with the innermost open one as parent, ended once, with their final content.

A parent's id is computed, so a child goes out as soon as it ends and a ten-hour loop is seen from its first action on.
Where clocks disagree a span does not end before what is inside it, nor begin before what is around it, and says so.
"""

from __future__ import annotations

from loopcast.trace_ids import LOOP, span_id
from loopcast_otel_exporter import measure
from loopcast_otel_exporter import semconv as names
from loopcast_otel_exporter.measure import Exemplar, Measurements
from loopcast_otel_exporter.signals import Output, Scalar, Span, SpanEvent
from loopcast_otel_exporter.state import Kind, Open, Trace

__all__ = ["MAX_EVENTS", "Tracer", "at_depth", "loop_at"]

MAX_EVENTS = 128
"""Events of one span, the limit of the SDK specification ("Span Limits")."""

KEPT_FOR_VERDICTS = 32
"""Of these, how many are for evaluations and routes alone, so that noise does not push them out."""

MAX_LINKS = 128
_SECONDS = {Kind.STATE: measure.STATE_SECONDS, Kind.ACTION: measure.ACTION_SECONDS, Kind.LOOP: measure.RUN_SECONDS}


class Tracer:
    """Writes into `output` what ends, and counts it."""

    def __init__(self, measurements: Measurements) -> None:
        self.output = Output()
        self._measurements = measurements

    def open(
        self,
        trace: Trace,
        kind: int,
        path: str,
        *,
        depth: int,
        title: str,
        time: int,
        attributes: dict[str, Scalar],
    ) -> Open:
        """Begin a span inside the innermost open one."""
        parent = trace.stack[-1] if trace.stack else None
        start = time if parent is None else max(time, parent.start)
        if start != time:
            attributes[names.CLOCK_SKEW] = True
        span = Open(
            kind=kind,
            depth=depth,
            path=path,
            span_id=span_id(trace.trace_id, path),
            parent_id=b"" if parent is None else parent.span_id,
            title=title,
            start=start,
            latest=start,
            attributes=attributes,
        )
        trace.stack.append(span)
        trace.spans += 1
        return span

    def end(
        self,
        trace: Trace,
        time: int,
        name: str,
        *,
        error_type: str | None = None,
        message: str = "",
        cut: bool = False,
        counted: bool = True,
    ) -> Span:
        """End the innermost span. With `cut`, because of what is around it."""
        open_ = trace.stack.pop()
        end = max(time, open_.latest)
        if end != time:
            open_.attributes[names.CLOCK_SKEW] = True
        if cut:
            open_.attributes[names.CUT_SHORT] = True
        if error_type is not None:
            open_.attributes[names.ERROR_TYPE] = error_type
        if open_.lines:
            open_.attributes[names.OUTPUT_LINES] = open_.lines
            open_.attributes[names.OUTPUT_BYTES] = open_.size
        if trace.stack:
            parent = trace.stack[-1]
            parent.latest = max(parent.latest, end)
        span = Span(
            trace_id=trace.trace_id,
            span_id=open_.span_id,
            parent_id=open_.parent_id,
            name=name,
            start=open_.start,
            end=end,
            attributes=open_.attributes,
            events=open_.events,
            dropped_events=open_.dropped,
            links=open_.links,
            error=None if error_type is None else message,
        )
        self.output.spans.append(span)
        if counted:
            self._count(trace, open_, span, error_type or "")
        return span

    def note(self, span: Open, name: str, time: int, attributes: dict[str, Scalar], *, verdict: bool = False) -> None:
        """Add an event to a span, as far as there is room."""
        room = MAX_EVENTS if verdict else MAX_EVENTS - KEPT_FOR_VERDICTS
        if len(span.events) < room:
            span.events.append(SpanEvent(name, time, attributes))
        else:
            span.dropped += 1

    def marker(self, trace: Trace, what: str, name: str, time: int, attributes: dict[str, Scalar]) -> None:
        """Write a span without length under an id of its own, inside the loop's, which has not ended or has already."""
        root = trace.root
        self.output.spans.append(
            Span(
                trace_id=trace.trace_id,
                span_id=span_id(trace.trace_id, f"{LOOP}#{what}"),
                parent_id=root.span_id,
                name=name,
                start=time,
                end=time,
                attributes=attributes,
            )
        )

    def _count(self, trace: Trace, open_: Open, span: Span, error: str) -> None:
        start = trace.started if open_.kind == Kind.LOOP and open_.depth == 0 else span.start
        duration = max(0, span.end - start)
        exemplar = Exemplar(span.trace_id, span.span_id, duration / 1e9, span.end)
        titles = [s.title for s in trace.stack if s.kind != Kind.ACTION]
        labels = {
            Kind.LOOP: [open_.title],
            Kind.STATE: [*titles[-1:], open_.title],
            Kind.ACTION: titles[-2:],
        }[open_.kind]
        self._measurements.record(_SECONDS[open_.kind], duration, exemplar, *labels, error)


def loop_at(trace: Trace, depth: int) -> int:
    """Where in the stack the loop of `depth` is, -1 where none is open."""
    for index in range(len(trace.stack) - 1, -1, -1):
        span = trace.stack[index]
        if span.kind == Kind.LOOP and span.depth == depth:
            return index
    return -1


def at_depth(trace: Trace, depth: int, *kinds: int) -> Open | None:
    """The innermost open span of `depth` that is of one of `kinds`."""
    for span in reversed(trace.stack):
        if span.depth == depth and span.kind in kinds:
            return span
    return None
