"""
Loops and states: what opens them and what ends them.

The depth of an event says whose it is. Sub-loops run inside a state of the loop above, one at a time, so what a run has
open is a stack. An event that needs something that never opened opens it, under a path that has the event's own id: no
other span can have it, however much of the beginning is lost.
"""

from __future__ import annotations

from loopcast.trace_ids import loop_path, state_path
from loopcast_otel_exporter import measure
from loopcast_otel_exporter import semconv as names
from loopcast_otel_exporter.content import integer, text
from loopcast_otel_exporter.measure import Measurements
from loopcast_otel_exporter.moment import Moment
from loopcast_otel_exporter.outcome import Outcome, of_loop
from loopcast_otel_exporter.signals import Scalar
from loopcast_otel_exporter.state import Kind, Open, Trace
from loopcast_otel_exporter.tracer import Tracer, at_depth, loop_at
from loopcast_otel_exporter.traces import Traces, span_name

__all__ = ["Loops"]

MAX_MESSAGE = 1024


class Loops:
    """Handles what begins and ends loops and states."""

    def __init__(self, tracer: Tracer, traces: Traces, measurements: Measurements) -> None:
        self._tracer = tracer
        self._traces = traces
        self._measurements = measurements

    def start(self, moment: Moment) -> None:
        """`loop_start`."""
        if moment.depth:
            self._start_inside(moment)
            return
        trace = moment.run.trace
        if trace is not None and trace.stack and trace.resuming:
            trace.resuming = False
            return
        self._traces.open(moment)

    def resume(self, moment: Moment) -> None:
        """`loop_resume`: the next attempt, in a trace of its own that is linked to the last one."""
        trace = self._traces.open(moment)
        trace.resuming = True
        attributes = trace.stack[0].attributes
        if (state := text(moment.data, "from_state")) is not None:
            attributes[names.RESUMED_STATE] = state
        if moment.data.get("from_handoff") is True:
            attributes[names.RESUMED_HANDOFF] = True

    def complete(self, moment: Moment) -> None:
        """`loop_complete`."""
        data = moment.data
        error = text(data, "error", MAX_MESSAGE)
        terminated_by = text(data, "terminated_by")
        outcome = of_loop(terminated_by, failure_terminal=data.get("failure_terminal") is True, error=error is not None)
        trace, index = self.loop_of(moment)
        attributes = trace.stack[index].attributes
        if terminated_by is not None:
            attributes[names.TERMINATED_BY] = terminated_by
        if (state := text(data, "final_state")) is not None:
            attributes[names.FINAL_STATE] = state
        if (iterations := integer(data, "iterations")) is not None:
            attributes[names.ITERATIONS] = iterations
        self._end(trace, index, moment.time, outcome, error or "")

    def handoff(self, moment: Moment) -> None:
        """`handoff_detected`: the last of an attempt, which no `loop_complete` follows."""
        trace, index = self.loop_of(moment)
        self._traces.record(moment, trace, trace.stack[-1], noted=True)
        trace.stack[index].attributes[names.HANDOFF] = True
        self._end(trace, index, moment.time, Outcome("awaiting_continuation"), "")

    def enter(self, moment: Moment) -> None:
        """`state_enter`."""
        trace, index = self.loop_of(moment)
        self._end_inside(trace, index, moment.time)
        if moment.depth == 0 and self._traces.is_long(trace, moment.time):
            self._traces.next_chapter(moment.run, trace, moment.time)
        loop = trace.stack[index]
        iteration = integer(moment.data, "iteration")
        key: int | str = f"~{moment.event.id}"
        if iteration is not None and iteration > loop.iteration:
            key = loop.iteration = iteration
        attributes: dict[str, Scalar] = {}
        if iteration is not None:
            attributes[names.ITERATION] = iteration
        if (count := integer(moment.data, "iteration_count")) is not None:
            attributes[names.ITERATION_COUNT] = count
        self._open_state(moment, trace, loop, key, attributes)
        self._measurements.add(measure.ITERATIONS, 1, loop.title)

    def loop_of(self, moment: Moment) -> tuple[Trace, int]:
        """The trace of an event, and where in its stack the event's loop stands; opened if it is not."""
        trace = moment.run.trace
        if trace is None or not trace.stack or moment.event.attempt > trace.attempt:
            trace = self._traces.open(moment, implied=True)
        trace.resuming = False
        index = loop_at(trace, moment.depth)
        if index < 0:
            self._start_inside(moment, implied=True)
            index = len(trace.stack) - 1
        return trace, index

    def state_of(self, moment: Moment) -> tuple[Trace, Open]:
        """The trace and the state that an event is of, opened if it is not; sub-loops below it end."""
        trace, index = self.loop_of(moment)
        self.end_deeper(trace, moment.depth, moment.time)
        state = at_depth(trace, moment.depth, Kind.STATE)
        if state is None:
            attributes: dict[str, Scalar] = {names.IDENTITY: "derived"}
            state = self._open_state(moment, trace, trace.stack[index], f"~{moment.event.id}", attributes)
        return trace, state

    def end_deeper(self, trace: Trace, depth: int, time: int) -> None:
        """End the sub-loops below `depth`, whose own ends never came."""
        while trace.stack[-1].depth > depth:
            self._cut(trace, time)

    def _open_state(
        self, moment: Moment, trace: Trace, loop: Open, key: int | str, attributes: dict[str, Scalar]
    ) -> Open:
        title = text(moment.data, "state") or names.UNNAMED_STATE
        path = state_path(loop.path, key)
        named = {names.OPENINFERENCE_KIND: "CHAIN", names.STATE_NAME: title, **attributes}
        return self._tracer.open(
            trace, Kind.STATE, path, depth=moment.depth, title=title, time=moment.time, attributes=named
        )

    def _start_inside(self, moment: Moment, *, implied: bool = False) -> None:
        """Open a sub-loop inside the innermost span of the loop above."""
        trace = moment.run.trace
        if trace is None or not trace.stack or moment.event.attempt > trace.attempt:
            trace = self._traces.open(moment, implied=True)
        self.end_deeper(trace, moment.depth - 1, moment.time)
        parent = trace.stack[-1]
        title = text(moment.data, "loop") or moment.event.subject or names.UNNAMED_LOOP
        attributes: dict[str, Scalar] = {
            names.OPERATION: names.WORKFLOW,
            names.WORKFLOW_NAME: title,
            names.OPENINFERENCE_KIND: "CHAIN",
            names.LOOP_NAME: title,
            names.DEPTH: moment.depth,
        }
        if implied:
            path = loop_path(parent.path, f"~{moment.event.id}")
            attributes[names.IDENTITY] = "derived"
        else:
            parent.loops += 1
            path = loop_path(parent.path, parent.loops)
        self._tracer.open(
            trace, Kind.LOOP, path, depth=moment.depth, title=title, time=moment.time, attributes=attributes
        )

    def _end(self, trace: Trace, index: int, time: int, outcome: Outcome, message: str) -> None:
        self._end_inside(trace, index, time, outcome.error_type, message)
        self._traces.end(trace, time, outcome, message)

    def _end_inside(self, trace: Trace, index: int, time: int, error: str | None = None, message: str = "") -> None:
        """End all that is open inside the loop at `index`; with `error`, its last state is what failed."""
        while len(trace.stack) > index + 2:
            self._cut(trace, time)
        if len(trace.stack) > index + 1:
            self._tracer.end(trace, time, span_name(trace.stack[-1]), error_type=error, message=message)

    def _cut(self, trace: Trace, time: int) -> None:
        self._tracer.end(trace, time, span_name(trace.stack[-1]), cut=True)
