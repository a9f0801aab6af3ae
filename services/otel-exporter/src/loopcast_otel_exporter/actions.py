"""What happens inside a state: actions, output, verdicts, routes, and every event without a handler of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from loopcast.trace_ids import action_path
from loopcast_otel_exporter import measure
from loopcast_otel_exporter import semconv as names
from loopcast_otel_exporter.content import MAX_VALUE, Content, cut, integer, sha256, text, tool_name
from loopcast_otel_exporter.loops import MAX_MESSAGE, Loops
from loopcast_otel_exporter.measure import Measurements
from loopcast_otel_exporter.moment import Moment
from loopcast_otel_exporter.outcome import of_action
from loopcast_otel_exporter.signals import Scalar
from loopcast_otel_exporter.state import Kind, Open, Trace
from loopcast_otel_exporter.tracer import Tracer, at_depth, loop_at
from loopcast_otel_exporter.traces import Traces, span_name

if TYPE_CHECKING:
    from loopcast_otel_exporter.fold import Options

__all__ = ["Actions"]

NANOSECONDS = 1_000_000


class Actions:
    """Handles what happens inside a state."""

    def __init__(
        self,
        tracer: Tracer,
        traces: Traces,
        loops: Loops,
        *,
        measurements: Measurements,
        content: Content,
        options: Options,
    ) -> None:
        self._tracer = tracer
        self._traces = traces
        self._loops = loops
        self._measurements = measurements
        self._content = content
        self._options = options

    def start(self, moment: Moment) -> None:
        """`action_start`."""
        trace, state = self._loops.state_of(moment)
        if trace.stack[-1] is not state:
            self._end(trace, moment.time, cut=True)
        state.actions += 1
        self._open(moment, trace, action_path(state.path, state.actions), moment.time)

    def line(self, moment: Moment) -> None:
        """`action_output`: a log record, because span events are few and are dropped when there are more."""
        trace, span = self._innermost(moment)
        body = moment.data.get("line")
        if not isinstance(body, str):
            body = text(moment.data, "text", MAX_VALUE) or ""
        if span is not None:
            span.lines += 1
            span.size += len(body.encode("utf-8", "replace"))
        if self._options.output_logs:
            stream = "stderr" if moment.data.get("stream") == "stderr" else "stdout"
            attributes: dict[str, Scalar] = {names.IO_STREAM: stream}
            self._traces.log(moment, trace, span, "loop.action_output", attributes, body=cut(body))

    def complete(self, moment: Moment) -> None:
        """`action_complete`."""
        data = moment.data
        trace, action = self._running(moment)
        attributes = action.attributes
        if (code := integer(data, "exit_code")) is not None:
            attributes[names.EXIT_CODE] = code
        if (milliseconds := integer(data, "duration_ms")) is not None:
            attributes[names.DURATION_MS] = milliseconds
        if attributes.get(names.IS_PROMPT):
            self._model(moment, trace, action)
        if self._content.capture and (preview := text(data, "output_preview", MAX_VALUE)) is not None:
            attributes[names.OUTPUT_MESSAGES] = preview
        self._end(trace, moment.time, error=of_action(data))

    def error(self, moment: Moment) -> None:
        """`action_error`: an exception; what runs is ended by it."""
        trace, state = self._loops.state_of(moment)
        message = text(moment.data, "error", MAX_MESSAGE) or ""
        self._traces.record(moment, trace, state, noted=True)
        if trace.stack[-1] is not state:
            kind = message.partition(":")[0].strip()
            self._end(trace, moment.time, error=kind if kind.isidentifier() else "error", message=message)

    def evaluate(self, moment: Moment) -> None:
        """`evaluate`: a verdict is data, never a status."""
        data = moment.data
        trace, _ = self._innermost(moment)
        state = None if trace is None else at_depth(trace, moment.depth, Kind.STATE)
        attributes = self._content.attributes(data)
        verdict = text(data, "verdict") or ""
        attributes[names.EVALUATION_NAME] = text(data, "type") or "evaluate"
        attributes[names.EVALUATION_LABEL] = verdict
        for name in ("score", "value"):
            if isinstance(value := data.get(name), int | float) and not isinstance(value, bool):
                attributes[names.EVALUATION_VALUE] = value
        if self._content.capture and (reason := text(data, "reason", MAX_VALUE)) is not None:
            attributes[names.EVALUATION_EXPLANATION] = reason
        self._traces.log(moment, trace, state, names.EVALUATION, attributes)
        if trace is not None and state is not None:
            self._tracer.note(state, names.EVALUATION, moment.time, attributes, verdict=True)
            loop = trace.stack[loop_at(trace, moment.depth)]
            self._measurements.add(measure.EVALUATIONS, 1, loop.title, state.title, verdict)

    def route(self, moment: Moment) -> None:
        """`route`: an event of the state that it leaves."""
        trace, _ = self._innermost(moment)
        state = None if trace is None else at_depth(trace, moment.depth, Kind.STATE)
        if trace is None or state is None:
            self._traces.record(moment, trace, None)
            return
        self._loops.end_deeper(trace, moment.depth, moment.time)
        if (to := text(moment.data, "to")) is not None:
            state.attributes[names.NEXT_STATE] = to
        attributes = self._content.attributes(moment.data, prefix="loop.route.")
        self._tracer.note(state, "loop.route", moment.time, attributes, verdict=True)

    def other(self, moment: Moment) -> None:
        """Everything else, of whatever type: a log record, and an event of the innermost span."""
        trace, span = self._innermost(moment)
        self._traces.record(moment, trace, span, noted=True)

    def _innermost(self, moment: Moment) -> tuple[Trace | None, Open | None]:
        """The innermost open span at the event's depth or above, without opening any."""
        trace = moment.run.trace
        if trace is None or not trace.stack or moment.event.attempt > trace.attempt:
            return None, None
        return trace, next((s for s in reversed(trace.stack) if s.depth <= moment.depth), None)

    def _running(self, moment: Moment) -> tuple[Trace, Open]:
        """The action that an event ends; one whose start was lost began as long ago as the event says."""
        trace, state = self._loops.state_of(moment)
        if trace.stack[-1] is not state:
            return trace, trace.stack[-1]
        milliseconds = max(0, integer(moment.data, "duration_ms") or 0)
        start = max(1, moment.time - milliseconds * NANOSECONDS)
        action = self._open(moment, trace, action_path(state.path, f"~{moment.event.id}"), start)
        action.attributes[names.IDENTITY] = "derived"
        return trace, action

    def _open(self, moment: Moment, trace: Trace, path: str, start: int) -> Open:
        data = moment.data
        action = data.get("action")
        action = action if isinstance(action, str) else ""
        prompt = data.get("is_prompt") is True or (not action and "skill" in data)
        attributes: dict[str, Scalar] = {
            names.OPERATION: names.AGENT if prompt else names.TOOL,
            names.OPENINFERENCE_KIND: "AGENT" if prompt else "TOOL",
            names.IS_PROMPT: prompt,
        }
        title = names.UNNAMED_AGENT
        if not prompt:
            title = tool_name(action)
            attributes |= {names.TOOL_NAME: title, names.TOOL_TYPE: "function"}
        if action:
            attributes[names.ACTION_HASH] = sha256(action)
            if self._content.capture:
                attributes[names.INPUT_MESSAGES if prompt else names.TOOL_ARGUMENTS] = cut(action)
        return self._tracer.open(
            trace, Kind.ACTION, path, depth=moment.depth, title=title, time=start, attributes=attributes
        )

    def _model(self, moment: Moment, trace: Trace, action: Open) -> None:
        data, attributes = moment.data, action.attributes
        model = text(data, "model")
        if model is not None:
            action.title = model
            attributes[names.RESPONSE_MODEL] = model
            if (provider := names.provider_of(model)) is not None:
                attributes[names.PROVIDER] = provider
        tokens = _tokens(data, str(attributes.get(names.PROVIDER, "")))
        attributes |= tokens
        loop = trace.stack[loop_at(trace, moment.depth)]
        for name, type_ in _TOKEN_TYPES.items():
            if amount := tokens.get(name):
                self._measurements.add(measure.TOKENS, amount, loop.title, type_)

    def _end(self, trace: Trace, time: int, *, error: str | None = None, message: str = "", cut: bool = False) -> None:
        self._tracer.end(trace, time, span_name(trace.stack[-1]), error_type=error, message=message, cut=cut)


_TOKEN_TYPES = {
    names.INPUT_TOKENS: "input",
    names.OUTPUT_TOKENS: "output",
    names.CACHE_READ_TOKENS: "cache_read",
    names.CACHE_CREATION_TOKENS: "cache_creation",
}
"""The input's include the cached ones, as the conventions count."""


def _tokens(data: Mapping[str, object], provider: str) -> dict[str, int]:
    """Token counts as the conventions have them: the input's include the cached ones, which Anthropic leaves out."""
    counts = {name: integer(data, f"{type_}_tokens") for name, type_ in _TOKEN_TYPES.items()}
    found = {name: count for name, count in counts.items() if count is not None}
    if names.INPUT_TOKENS in found and provider in ("anthropic", ""):
        cached = found.get(names.CACHE_READ_TOKENS, 0) + found.get(names.CACHE_CREATION_TOKENS, 0)
        found[names.INPUT_TOKENS] += cached
    return found
