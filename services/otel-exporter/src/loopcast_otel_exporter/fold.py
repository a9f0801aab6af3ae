"""
From events to spans, log records and counts: a pure function of the events, in their order.

No clock, no I/O, no randomness: the same events give the same bytes, whichever replica folds them, however often, from
whatever checkpoint. A span is written once, when it ends; what is provisional has an id of its own. Times are the
events' own (docs/architecture/traces.md has the mapping, event by event).
"""

from __future__ import annotations

import msgspec

from loopcast.events import Event
from loopcast_otel_exporter import measure
from loopcast_otel_exporter import semconv as names
from loopcast_otel_exporter.actions import Actions
from loopcast_otel_exporter.content import Content
from loopcast_otel_exporter.loops import Loops
from loopcast_otel_exporter.moment import Moment, time_of
from loopcast_otel_exporter.ordering import Ordering
from loopcast_otel_exporter.signals import Output
from loopcast_otel_exporter.state import Run, State
from loopcast_otel_exporter.tracer import Tracer
from loopcast_otel_exporter.traces import Traces

__all__ = ["Fold", "Options"]

IDLE_MICROSECONDS = 24 * 3600 * 1_000_000
"""A loop that is silent for so long is taken for abandoned, and an ended run's late events for new ones."""

FORGET_MICROSECONDS = 7 * IDLE_MICROSECONDS
SWEEP_MICROSECONDS = 60 * 1_000_000
MAX_RUNS = 20_000
"""Runs that are remembered; beyond them the one whose last event is the oldest is forgotten."""

_data = msgspec.json.Decoder()


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What a person may choose of the mapping."""

    capture_content: bool = False
    pending: bool = True
    output_logs: bool = True
    chapter_spans: int = 2000
    chapter_nanoseconds: int = 6 * 3600 * 1_000_000_000


class Fold:
    """One reader's fold over one partition of the log."""

    def __init__(self, options: Options, state: State | None = None, ordering: Ordering | None = None) -> None:
        self.state = state or State()
        self.ordering = ordering or Ordering()
        self._tracer = Tracer(self.state.measurements)
        measurements, content = self.state.measurements, Content(capture=options.capture_content)
        self._traces = Traces(self._tracer, measurements, content, options)
        loops = Loops(self._tracer, self._traces, measurements)
        actions = Actions(
            self._tracer, self._traces, loops, measurements=measurements, content=content, options=options
        )
        self._other = actions.other
        self._handlers = {
            "loop_start": loops.start,
            "loop_resume": loops.resume,
            "loop_complete": loops.complete,
            "handoff_detected": loops.handoff,
            "state_enter": loops.enter,
            "action_start": actions.start,
            "action_output": actions.line,
            "action_complete": actions.complete,
            "action_error": actions.error,
            "evaluate": actions.evaluate,
            "route": actions.route,
        }

    def apply(self, event: Event) -> None:
        """Take the next event of the log, in the log's order."""
        for ready in self.ordering.admit(event):
            self._miss()
            self._fold(ready)
        self._sweep()

    def tick(self, now: int) -> None:
        """Learn the log's time, in microseconds, from a record that is no event."""
        for ready in self.ordering.tick(now):
            self._miss()
            self._fold(ready)
        self._sweep()

    def take(self) -> Output:
        """What has come out since the last call."""
        taken, self._tracer.output = self._tracer.output, Output()
        return taken

    def _fold(self, event: Event) -> None:
        run = self._run(event)
        moment = Moment(event, _members(event), run, time_of(event, run))
        measurements = self.state.measurements
        measurements.at(moment.time)
        measurements.add(measure.EVENTS, 1, event.type)
        if not self._traces.is_late(moment):
            self._handlers.get(event.type, self._other)(moment)
        run.latest = max(run.latest, moment.time)

    def _miss(self) -> None:
        """What never came before the next event is missing of the loop that runs then."""
        for hole in self.ordering.missed():
            run = self.state.runs.get((hole.experiment, hole.run))
            if run is not None and run.trace is not None and run.trace.stack:
                attributes = run.trace.stack[0].attributes
                before = attributes.get(names.MISSING, 0)
                attributes[names.MISSING] = hole.events + (before if isinstance(before, int) else 0)

    def _run(self, event: Event) -> Run:
        runs, key = self.state.runs, (event.experiment, event.run)
        run = runs.get(key)
        if run is None:
            run = runs[key] = Run(event.experiment, event.run, 0)
            if len(runs) > MAX_RUNS:
                self._traces.abandon(runs.popitem(last=False)[1])
        else:
            runs.move_to_end(key)
        run.touched = self.ordering.now
        return run

    def _sweep(self) -> None:
        """Look for the silent, once in a minute of the log's time."""
        now, state = self.ordering.now, self.state
        if now - state.swept < SWEEP_MICROSECONDS:
            return
        state.swept = now
        silent = [(key, run) for key, run in state.runs.items() if now - run.touched > IDLE_MICROSECONDS]
        for key, run in silent:
            if run.is_open:
                self._traces.abandon(run)
            if not run.is_open or now - run.touched > FORGET_MICROSECONDS:
                del state.runs[key]


def _members(event: Event) -> dict[str, object]:
    """The loop's own object; nothing where `data` is no object."""
    try:
        data = _data.decode(event.data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}
    return data if isinstance(data, dict) else {"message": data}
