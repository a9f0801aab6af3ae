"""
Which trace an event belongs to: attempts, chapters, and what comes too late for either.

An attempt is a trace. A resume opens the next one, linked to the last; where nobody counts attempts, or a loop starts
twice within one, the id of the opening event tells them apart, so that no two traces share an id.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from loopcast.events import format_time
from loopcast.trace_context import trace_context
from loopcast.trace_ids import LOOP, instance_of, record_uid, span_id, trace_id, trace_id_of
from loopcast_otel_exporter import measure
from loopcast_otel_exporter import semconv as names
from loopcast_otel_exporter.content import Content, text
from loopcast_otel_exporter.measure import Measurements
from loopcast_otel_exporter.moment import Moment
from loopcast_otel_exporter.outcome import Outcome
from loopcast_otel_exporter.signals import Link, LogRecord, Scalar, Severity
from loopcast_otel_exporter.state import Kind, Open, Run, Trace
from loopcast_otel_exporter.tracer import MAX_LINKS, Tracer

if TYPE_CHECKING:
    from loopcast.events import Event
    from loopcast_otel_exporter.fold import Options

__all__ = ["Traces", "span_name"]

_OF_SPANS = frozenset(("loop_complete", "state_enter", "action_start", "action_complete", "action_error"))
"""Late, these leave a marker; other events are log records anyway."""

_WARNINGS = ("_exhausted", "_detected", "_warn", "_storm", "_hard", "_stop", "_abort", "_error", "_blocked", "_failed")


class Traces:
    """Opens a run's traces and ends them."""

    def __init__(self, tracer: Tracer, measurements: Measurements, content: Content, options: Options) -> None:
        self._tracer = tracer
        self._measurements = measurements
        self._content = content
        self._options = options

    def open(self, moment: Moment, *, implied: bool = False) -> Trace:
        """Begin the trace of an attempt; what the run has open ends with the last that was heard of it."""
        run, event = moment.run, moment.event
        self.supersede(run)
        counted = event.attempt > run.attempts
        instance = instance_of(event.attempt, None if counted else event.id)
        run.attempts = max(run.attempts, event.attempt)
        resumed = event.attempt > 1
        links = _links_of(moment)
        own = moment.depth == 0
        run.trace = trace = Trace(
            instance=instance,
            attempt=event.attempt,
            trace_id=trace_id_of(event.experiment, event.run, instance, 1),
            started=moment.time,
            began=moment.time,
            loop=(text(moment.data, "loop") if own else None) or (event.subject if own else None) or names.UNNAMED_LOOP,
        )
        root = self._open_root(run, trace, moment.time, links)
        if event.parent_run is not None:
            root.attributes[names.PARENT_RUN] = event.parent_run
        if implied or not counted:
            root.attributes[names.IDENTITY] = "derived"
        self._measurements.add(measure.ACTIVE, 1, trace.loop)
        # Only at what is the first event of an attempt for sure, so that a lost beginning gives no second marker.
        if self._options.pending and not implied and (event.type == "loop_resume" or not resumed):
            self._pend(run, trace, moment.time)
        return trace

    def end(self, trace: Trace, time: int, outcome: Outcome, message: str) -> None:
        """End a loop that is the innermost open span, and with the last one the trace."""
        root = trace.stack[-1]
        root.attributes[names.FINAL_STATUS] = outcome.status
        if len(trace.stack) == 1:
            if trace.chapter > 1:
                root.attributes[names.CHAPTERS] = trace.chapter
                root.attributes[names.LOOP_STARTED] = format_time(trace.started // 1000)
                root.links.extend(trace.chapters)
            if not trace.abandoned:
                self._measurements.add(measure.ACTIVE, -1, trace.loop)
            trace.chapters = []
        self._tracer.end(trace, time, span_name(root), error_type=outcome.error_type, message=message)

    def supersede(self, run: Run) -> None:
        """End what is open of an attempt that another one follows: nobody will tell how it ended."""
        trace = run.trace
        if trace is None or not trace.stack:
            return
        while len(trace.stack) > 1:
            self._tracer.end(trace, run.latest, span_name(trace.stack[-1]), cut=True)
        self.end(trace, run.latest, Outcome("superseded"), "")

    def is_long(self, trace: Trace, time: int) -> bool:
        """Whether the next state belongs into a new chapter: backends cut traces that are too large or too old."""
        options = self._options
        return trace.spans >= options.chapter_spans or time - trace.began >= options.chapter_nanoseconds

    def next_chapter(self, run: Run, trace: Trace, time: int) -> None:
        """Go on in a new trace, linked to this one. Only the loop itself is open."""
        root, link = trace.stack[0], trace.root
        root.attributes[names.FINAL_STATUS] = "continued"
        self._tracer.end(trace, time, span_name(root), counted=False)
        trace.chapters = [*trace.chapters[-(MAX_LINKS - 2) :], _for(link, names.CHAPTER_LINK)]
        trace.chapter += 1
        trace.trace_id = trace_id_of(run.experiment, run.run, trace.instance, trace.chapter)
        trace.began, trace.spans, trace.abandoned = time, 0, False
        self._open_root(run, trace, time, [_for(link, names.PREVIOUS_CHAPTER)]).iteration = root.iteration

    def is_late(self, moment: Moment) -> bool:
        """Whether the event's loop has ended already; then all that is left is to say so."""
        run, type_, attempt = moment.run, moment.event.type, moment.event.attempt
        trace = run.trace
        if trace is None or attempt > trace.attempt:
            return False
        if attempt and attempt < trace.attempt:
            trace = _past(run, attempt)
        elif trace.stack or (moment.depth == 0 and type_ in ("loop_start", "loop_resume")):
            return False
        if type_ == "action_output":
            return True
        self.record(moment, trace, None)
        if type_ in _OF_SPANS:
            attributes: dict[str, Scalar] = {names.SPAN_TYPE: "late", names.LATE_TYPE: type_}
            self._tracer.marker(trace, f"late:{moment.event.id}", f"late {type_}", moment.time, attributes)
        return True

    def record(self, moment: Moment, trace: Trace | None, span: Open | None, *, noted: bool = False) -> None:
        """Make a log record of an event, and with `noted` an event of `span` too."""
        event = moment.event
        attributes = self._content.attributes(moment.data)
        name = f"loop.{event.type}"
        severity: Severity = "WARN" if event.type.endswith(_WARNINGS) else "INFO"
        self.log(moment, trace, span, name, attributes, severity=severity)
        if noted and span is not None:
            self._tracer.note(span, name, moment.time, attributes)

    def log(
        self,
        moment: Moment,
        trace: Trace | None,
        span: Open | None,
        name: str,
        attributes: dict[str, Scalar],
        *,
        severity: Severity = "INFO",
        body: str | None = None,
    ) -> None:
        """Write a log record at `span`, else at the trace's loop, else at the trace that the run would have."""
        event = moment.event
        if trace is not None:
            place = trace.trace_id, trace.root.span_id if span is None else span.span_id
        else:
            place = trace_id(event.experiment, event.run, event.attempt) if event.attempt else b"", b""
        self._tracer.output.logs.append(
            LogRecord(
                trace_id=place[0],
                span_id=place[1],
                time=moment.time,
                observed=(event.recorded or 0) * 1000 or moment.time,
                uid=record_uid(event.id),
                event_name=name,
                severity=severity,
                body=body,
                attributes=attributes,
            )
        )

    def abandon(self, run: Run) -> None:
        """Say once that a loop fell silent. Its span goes out if its end comes yet."""
        trace = run.trace
        if trace is None or not trace.stack or trace.abandoned:
            return
        trace.abandoned = True
        self._measurements.add(measure.ACTIVE, -1, trace.loop)
        self._measurements.add(measure.ABANDONED, 1, trace.loop)
        attributes = _identity(run, trace) | {names.SPAN_TYPE: "abandoned", names.STATUS: "abandoned"}
        self._tracer.marker(trace, "abandoned", f"abandoned {trace.loop}", run.latest, attributes)

    def _open_root(self, run: Run, trace: Trace, time: int, links: list[Link]) -> Open:
        root = self._tracer.open(
            trace, Kind.LOOP, LOOP, depth=0, title=trace.loop, time=time, attributes=_identity(run, trace)
        )
        root.links.extend(links)
        return root

    def _pend(self, run: Run, trace: Trace, time: int) -> None:
        attributes = _identity(run, trace) | {names.SPAN_TYPE: "pending", names.STATUS: "running"}
        self._tracer.marker(trace, "pending", f"loop_start {trace.loop}", time, attributes)


def span_name(open_: Open) -> str:
    """The name of a span: few enough to group by, and never of people's text."""
    if open_.kind == Kind.STATE:
        return f"state {open_.title}"
    return f"{open_.attributes[names.OPERATION]} {open_.title}"


def _identity(run: Run, trace: Trace) -> dict[str, Scalar]:
    """What the span of a run's own loop says of it."""
    found: dict[str, Scalar] = {
        names.OPERATION: names.WORKFLOW,
        names.WORKFLOW_NAME: trace.loop,
        names.CONVERSATION: run.run,
        names.SESSION: run.run,
        names.OPENINFERENCE_KIND: "CHAIN",
        names.LOOP_NAME: trace.loop,
        names.EXPERIMENT: run.experiment,
        names.RUN: run.run,
        names.CHAPTER: trace.chapter,
    }
    if trace.attempt:
        found[names.ATTEMPT] = trace.attempt
    return found


def _links_of(moment: Moment) -> list[Link]:
    run, event = moment.run, moment.event
    links = []
    resumes = event.type == "loop_resume" or event.attempt > 1
    if run.trace is not None and resumes:
        links.append(_for(run.trace.root, names.PREVIOUS_ATTEMPT))
    elif event.attempt > 1:
        links.append(_for(_past(run, event.attempt - 1).root, names.PREVIOUS_ATTEMPT))
    if event.parent_run is not None:
        trace = trace_id(event.experiment, event.parent_run)
        links.append(Link(trace, span_id(trace, LOOP), names.PARENT_RUN_LINK))
    if (caller := _caller(event)) is not None:
        links.append(caller)
    return links


def _past(run: Run, attempt: int) -> Trace:
    """An attempt that is not remembered: its ids are known all the same."""
    instance = instance_of(attempt)
    return Trace(instance, attempt, trace_id_of(run.experiment, run.run, instance, 1), started=0, began=0)


def _for(link: Link, relation: str) -> Link:
    return Link(link.trace_id, link.span_id, relation)


def _caller(event: Event) -> Link | None:
    """
    The span that a caller was in.

    A link and not the parent: a loop of hours inside the trace of a request would never be shown whole.
    """
    parent, state = trace_context(event.traceparent, event.tracestate)
    if parent is None:
        return None
    _, trace, span, _ = parent.split("-")
    return Link(bytes.fromhex(trace), bytes.fromhex(span), names.CALLER, state or "")
