"""
Events into rows: runs with their attempts, loops, states, actions, evaluations and token usage. Pure.

A row is written when its thing begins and again when it ends, both under the number `n` of the event that began it. So
what is there shows a run while it goes on, and the same events give the same rows, however they were cut into batches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from loopcast.outcome import RUNNING, WAITING, final_status
from loopcast_recorder.entry import Entry
from loopcast_recorder.run_state import Action, Loop, RunState, State
from loopcast_recorder.tables import TOKENS
from loopcast_recorder.values import depth, flag, milliseconds, number, text, whole

__all__ = ["Fold", "Rows"]

Rows = dict[str, dict[int, tuple[object, ...]]]
Load = Callable[[str, str], RunState | None]

_COUNTED_ONLY = frozenset(("action_output",))
_OWN = frozenset(("event", "type", "ts", "verdict", "depth", "run_id", "loop", "state", "iteration"))
"""Members of an `evaluate` that have a column, or are the same on every event."""

_json = msgspec.json.Encoder()


class Fold:
    """
    The runs that changed since :meth:`taken`, and the rows that are to be written for them.

    Args:
        load: what was kept of a run, where something was.
    """

    def __init__(self, load: Load) -> None:
        self._load = load
        self._runs: dict[tuple[str, str], RunState] = {}
        self._rows: Rows = {}
        self._steps: dict[str, Callable[[_Step], None]] = {
            "loop_start": _loop_start,
            "loop_resume": _loop_resume,
            "loop_complete": _loop_complete,
            "handoff_detected": _handoff,
            "state_enter": _state_enter,
            "route": _route,
            "retry_exhausted": _retry_exhausted,
            "evaluate": _evaluate,
            "action_start": _action_start,
            "action_complete": _action_complete,
            "action_error": _action_error,
        }

    def add(self, n: int, entry: Entry, data: Mapping[str, object], missing: int = 0) -> None:
        """Take the next event; `data` is its own object, and `missing` events of its run never came before it."""
        run = self._run(n, entry)
        step = _Step(self._rows, run, n, entry, data)
        run.events += 1
        run.missing += missing
        run.last_n, run.last_time = n, entry.time
        if entry.type in _COUNTED_ONLY:
            _action_output(step)
            return
        if run.own_run is None:
            run.own_run = text(data, "run_id")
        if (work := self._steps.get(entry.type)) is not None:
            work(step)
        _usage(step)

    def taken(self) -> tuple[Rows, list[RunState]]:
        """What changed, once."""
        rows, runs = self._rows, list(self._runs.values())
        self._rows, self._runs = {}, {}
        return rows, runs

    def _run(self, n: int, entry: Entry) -> RunState:
        key = (entry.experiment, entry.run)
        run = self._runs.get(key)
        if run is None:
            run = self._load(*key) or RunState(*key, n, loop=entry.subject, parent_run=entry.parent_run)
            self._runs[key] = run
        return run


class _Step:
    """One event and what it changes."""

    __slots__ = ("before", "data", "depth", "entry", "n", "rows", "run")

    def __init__(self, rows: Rows, run: RunState, n: int, entry: Entry, data: Mapping[str, object]) -> None:
        self.rows = rows
        self.before = run.last_time or entry.time
        """The time of the run's event before this one: its last sign of life, where nobody said that it ended."""
        self.run = run
        self.n = n
        self.entry = entry
        self.data = data
        self.depth = depth(data)

    @property
    def loop(self) -> Loop:
        """The loop that the event is of; one whose beginning was not seen begins here."""
        run = self.run
        if (open_ := run.loops.get(self.depth)) is not None:
            return open_
        if run.status not in (None, RUNNING):
            # What comes behind an end does not begin the run again.
            return Loop(self.n, run.loop, run.attempts, self.entry.time)
        return self.begin_loop(self.entry.subject)

    def begin_loop(self, name: str | None) -> Loop:
        """A loop begins: its row, and the attempt's where it is the run's own."""
        run, above = self.run, self.run.loops.get(self.depth - 1)
        loop = Loop(
            self.n, name, self.entry.attempt or run.attempts + 1, self.entry.time,
            parent_state=above.state.state if above is not None and above.state is not None else None,
        )  # fmt: skip
        run.loops[self.depth] = loop
        if self.depth == 0:
            run.loop = name or run.loop
            # Where nobody counted, each beginning is an attempt.
            run.attempts = max(run.attempts, loop.attempt) if self.entry.attempt else run.attempts + 1
            run.status, run.started = RUNNING, run.started or self.entry.time
            run.ended = run.final_state = run.terminated_by = run.error = run.continuation = None
        self.put_loop(loop)
        return loop

    def end_loops(self, status: str, *, ended: str, above: int = -1) -> None:
        """Loops end that are deeper than `above`, with what is open in them."""
        for level in sorted((d for d in self.run.loops if d > above), reverse=True):
            loop = self.run.loops.pop(level)
            self.end_state(loop, ended, level=level)
            loop.ended, loop.status = ended, status
            self.put_loop(loop, level=level)
            if level == 0:
                self.run.before_ms += milliseconds(loop.started, ended) or 0.0
                self.run.duration_ms = self.run.before_ms

    def end_state(
        self, loop: Loop, ended: str, *, level: int, next_state: str | None = None, note: str | None = None
    ) -> None:
        """The state that is open in `loop` ends, and an action in it that never did."""
        if loop.action is not None:
            self.end_action(loop, ended, level=level)
        if loop.state is not None:
            self.put_state(loop, loop.state, level=level, ended=ended, next_state=next_state, note=note)
            loop.state = None

    def end_action(
        self, loop: Loop, ended: str, *, level: int, data: Mapping[str, object] | None = None, error: str | None = None
    ) -> None:
        """The action that is open in `loop` ends; without `data` nobody said how."""
        action, loop.action = loop.action, None
        if action is None:
            return
        told = {} if data is None else data
        took = number(told, "duration_ms")
        self.put(
            "actions", action.n, loop, level,
            _state_of(told, loop), action.action, int(action.is_prompt), action.started, ended,
            milliseconds(action.started, ended) if took is None else took,
            whole(told, "exit_code"), text(told, "model"), action.lines, error,
        )  # fmt: skip

    def put(self, table: str, n: int, loop: Loop, level: int, *values: object) -> None:
        """A row of one of the tables that say whose it is."""
        run = self.run
        row = (n, run.experiment, run.run, loop.attempt, level, loop.loop, *values)
        self.rows.setdefault(table, {})[n] = row

    def put_loop(self, loop: Loop, *, level: int | None = None, told: Mapping[str, object] | None = None) -> None:
        """The row of a loop."""
        data = {} if told is None else told
        self.put(
            "loops", loop.n, loop, self.depth if level is None else level,
            loop.parent_state, loop.started, loop.ended, milliseconds(loop.started, loop.ended),
            loop.status or RUNNING, text(data, "terminated_by"), text(data, "final_state"),
            whole(data, "iterations"), text(data, "error"),
        )  # fmt: skip

    def put_state(
        self,
        loop: Loop,
        state: State,
        *,
        level: int,
        ended: str | None = None,
        next_state: str | None = None,
        note: str | None = None,
    ) -> None:
        """The row of a state."""
        self.put(
            "states", state.n, loop, level,
            state.state, state.iteration, state.started, ended, milliseconds(state.started, ended),
            next_state, state.verdict, note,
        )  # fmt: skip


def _loop_start(step: _Step) -> None:
    above = step.depth - 1 if step.depth else -1
    resumed = step.run.loops.get(0)
    if step.depth == 0 and resumed is not None and resumed.state is None and resumed.status == "resumed":
        # The engine says `loop_resume` and then `loop_start`: one attempt, not two.
        resumed.status = None
        return
    step.end_loops("interrupted", ended=step.before, above=above)
    step.begin_loop(text(step.data, "loop") or step.entry.subject)


def _loop_resume(step: _Step) -> None:
    run = step.run
    if run.attempts == 0:
        run.resumed = True
    step.end_loops("interrupted", ended=step.before)
    loop = step.begin_loop(text(step.data, "loop") or step.entry.subject)
    loop.status = "resumed"
    step.put_loop(Loop(loop.n, loop.loop, loop.attempt, loop.started, loop.parent_state))


def _loop_complete(step: _Step) -> None:
    data, run, level = step.data, step.run, step.depth
    status, ended = final_status(data), step.entry.time
    loop = step.loop
    step.end_loops("interrupted", ended=ended, above=level)
    step.end_loops(status, ended=ended, above=level - 1)
    step.put_loop(loop, told=data)
    if level:
        return
    run.status, run.ended, run.current_state = status, ended, None
    run.final_state, run.terminated_by = text(data, "final_state"), text(data, "terminated_by")
    run.error, run.iterations = text(data, "error"), whole(data, "iterations")


def _handoff(step: _Step) -> None:
    if step.depth:
        return
    step.run.continuation = text(step.data, "continuation")
    if step.run.status == RUNNING:
        step.end_loops(WAITING, ended=step.entry.time)
        step.run.status, step.run.terminated_by = WAITING, "handoff"


def _state_enter(step: _Step) -> None:
    loop, time = step.loop, step.entry.time
    step.end_loops("interrupted", ended=time, above=step.depth)
    step.end_state(loop, time, level=step.depth)
    loop.state = State(step.n, text(step.data, "state"), whole(step.data, "iteration"), time)
    step.put_state(loop, loop.state, level=step.depth)
    if step.depth == 0:
        step.run.current_state, step.run.iteration = loop.state.state, loop.state.iteration


def _route(step: _Step) -> None:
    step.end_state(
        step.loop,
        step.entry.time,
        level=step.depth,
        next_state=text(step.data, "to"),
        note=text(step.data, "reason"),
    )


def _retry_exhausted(step: _Step) -> None:
    # No `route` follows: this is how the engine leaves the state.
    step.end_state(
        step.loop, step.entry.time, level=step.depth, next_state=text(step.data, "next"), note="retry_exhausted"
    )


def _evaluate(step: _Step) -> None:
    loop, data = step.loop, step.data
    verdict = text(data, "verdict")
    if loop.state is not None:
        loop.state.verdict = verdict
    detail = {name: value for name, value in data.items() if name not in _OWN}
    step.put(
        "evaluations", step.n, loop, step.depth,
        _state_of(data, loop), step.entry.time, text(data, "type"), verdict, _json.encode(detail).decode(),
    )  # fmt: skip


def _action_start(step: _Step) -> None:
    loop, time = step.loop, step.entry.time
    step.end_action(loop, time, level=step.depth)
    loop.action = action = Action(step.n, text(step.data, "action"), flag(step.data, "is_prompt"), time)
    step.run.actions += 1
    step.put(
        "actions", step.n, loop, step.depth,
        _state_of(step.data, loop), action.action, int(action.is_prompt), time, None, None, None, None, 0, None,
    )  # fmt: skip


def _action_output(step: _Step) -> None:
    loop = step.run.loops.get(step.depth)
    if loop is not None and loop.action is not None:
        loop.action.lines += 1


def _action_complete(step: _Step) -> None:
    loop, time = step.loop, step.entry.time
    if loop.action is None:
        step.run.actions += 1
        loop.action = Action(step.n, None, flag(step.data, "is_prompt"), time)
    step.end_action(loop, time, level=step.depth, data=step.data)


def _action_error(step: _Step) -> None:
    step.end_action(step.loop, step.entry.time, level=step.depth, error=text(step.data, "error"))


def _usage(step: _Step) -> None:
    """Whoever says how many tokens went in or out: an action of a loop, or any program's own event."""
    data, run = step.data, step.run
    if "input_tokens" not in data and "output_tokens" not in data:
        return
    tokens = [whole(data, name) for name in TOKENS]
    if tokens[0] is None and tokens[1] is None:
        return
    cost = number(data, "cost_usd")
    run.tokens = [sum_ + max(0, count or 0) for sum_, count in zip(run.tokens, tokens, strict=True)]
    if cost is not None:
        run.cost_usd = (run.cost_usd or 0.0) + cost
    loop = run.loops.get(step.depth) or Loop(step.n, step.entry.subject, max(1, step.entry.attempt), step.entry.time)
    step.put(
        "usage", step.n, loop, step.depth, _state_of(data, loop), step.entry.time, text(data, "model"), *tokens, cost
    )


def _state_of(data: Mapping[str, object], loop: Loop) -> str | None:
    return text(data, "state") or (None if loop.state is None else loop.state.state)
