"""
Which run an event belongs to. little-loops says when a loop starts, resumes and ends; the run in between has no name.

:class:`Runs` reads the events of one source in order and names the run of each:

* `loop_start` without `depth` opens a run; with `depth` it is a sub-loop of the run that is open.
* `loop_resume` continues the run that it knows for that loop, with the next attempt; the `loop_start` behind it opens
  nothing. A resume of a run that it does not know opens one, marked `resumed`.
* The run ends with its `loop_complete` without `depth`, and waits after `handoff_detected` without `depth`.
* Anything else belongs to the last run, also when that has ended (`ab_summary`, `handoff_spawned`). Before there is
  one, it opens one.

Pure: the time and the randomness in a run's id are handed in. What it remembers (:meth:`Runs.dump`) is a small dict,
so that a resume in another process continues the run.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import msgspec

from loopcast.events import event_type, format_time, normalize_time
from loopcast.routing import check_experiment

__all__ = ["Change", "Frame", "Identity", "Runs", "State", "run_id", "source_run"]

VERSION = 1
MAX_LOOPS = 1000
"""How many loops are remembered, the latest of them."""
MAX_DEPTH = 64
"""How deep sub-loops are told apart; deeper ones still belong to the run."""

MAX_NAME = 200

State = Literal["open", "waiting", "ended"]
Change = Literal["opened", "resumed", "waiting", "ended"]

_SPECIAL = frozenset(("loop_start", "loop_resume", "loop_complete", "handoff_detected", "state_enter"))
_OUTSIDE = re.compile(r"[^A-Za-z0-9_]+")


class Identity(NamedTuple):
    """What :meth:`Runs.identify` says of one event."""

    run: str
    attempt: int
    parent_run: str | None
    loop: str | None
    """The loop that the event is of, a sub-loop where it is one's: the `subject`."""
    depth: int
    """0, and one more for each sub-loop."""
    state: State
    """The run's, after this event."""
    change: Change | None
    """What this event did to the run."""
    resumed: bool
    """Whether the run was opened by a resume, so that its beginning is not known here."""


class Frame(msgspec.Struct, omit_defaults=True):
    """One loop that is running: the run's own, or a sub-loop."""

    loop: str | None = None
    state: str | None = None
    iteration: int | None = None
    started: str | None = None


class _Run(msgspec.Struct, omit_defaults=True):
    run: str
    attempt: int = 1
    state: State = "open"
    resumed: bool = False
    own: str | None = None
    """The run's id by little-loops' own count, which newer versions put into their events."""


class _Memory(msgspec.Struct, omit_defaults=True):
    version: int
    loops: dict[str, _Run] = {}
    current: _Run | None = None
    resuming: bool = False
    frames: dict[int, Frame] = {}


class Runs:
    """
    The runs of one source, event after event. Not thread-safe: the order of its calls is the order of the events.

    Args:
        now: microseconds since 1970, for a run whose first event has no time.
        suffix: a few random characters for each new id.
        run: the run that every event belongs to, where the caller knows it; nothing is derived then but the attempt.
        parent_run: the run that spawned this source, where known.
        recall: what another process remembered of a loop (one of the values of `dump()["loops"]`), None where nothing
            is known; asked when a loop resumes.

    Raises:
        InvalidExperiment: `run` or `parent_run` breaks the grammar of run ids.
    """

    def __init__(
        self,
        *,
        now: Callable[[], int],
        suffix: Callable[[], str],
        run: str | None = None,
        parent_run: str | None = None,
        recall: Callable[[str], object] | None = None,
    ) -> None:
        self._recall = recall
        self._now = now
        self._suffix = suffix
        self._given = None if run is None else check_experiment(run, what="run id")
        self._parent = None if parent_run is None else check_experiment(parent_run, what="parent run id")
        self._memory = _Memory(VERSION, {})
        self._last: Identity | None = None

    def identify(self, event: Mapping[str, object], type_: str | None = None) -> Identity:
        """The run of `event`, the next one of this source; `type_` is its type, where the caller knows that."""
        type_ = type_ or event_type(event)
        depth = 0 if event.get("depth") is None else _depth(event)
        if depth == 0 and self._last is not None:
            if type_ not in _SPECIAL:
                return self._last
            if type_ == "state_enter":
                self._enter(event, 0)
                return self._last
        change = self._change(event, type_, depth)
        loop = (_text(event, "loop") or self._loop(depth)) if depth else None
        self._follow(event, type_, depth)  # a sub-loop's end takes its name away, so that was read before
        identity = self._identity(depth, change, loop)
        self._last = identity._replace(depth=0, change=None) if depth == 0 else self._last
        return identity

    @property
    def state(self) -> State | None:
        """The last run's state; None before there is one. While it is `open`, the producer is told so."""
        return None if self._memory.current is None else self._memory.current.state

    @property
    def current(self) -> str | None:
        """The last run's id; None before there is one."""
        return None if self._memory.current is None else self._memory.current.run

    def known(self, loop: str) -> object:
        """What is remembered of `loop`, as plain JSON types: what `recall` has to give in another process."""
        return msgspec.to_builtins(self._memory.loops.get(loop))

    @property
    def frames(self) -> tuple[Frame, ...]:
        """The loops that run or wait now, the run's own first, each with its state, iteration and start."""
        if self.state == "ended":
            return ()
        return tuple(self._memory.frames[depth] for depth in sorted(self._memory.frames))

    def dump(self) -> dict[str, object]:
        """What is remembered, as plain JSON types."""
        return dict(msgspec.to_builtins(self._memory, str_keys=True))

    def load(self, memory: object, *, same_source: bool) -> None:
        """
        Remember what :meth:`dump` gave.

        With `same_source`, go on where it was: a relay that was started again on its file. Without, know its loops'
        runs for a resume and no more: a new process of the loop, whose first events need not be of the last run.

        Raises:
            ValueError: it is not what this version's `dump` gives. Nothing has changed then.
        """
        try:
            loaded = msgspec.convert(memory, _Memory, str_keys=True)
        except msgspec.ValidationError as error:
            raise ValueError(f"this is no memory of runs: {error}") from None
        if loaded.version != VERSION:
            raise ValueError(f"this memory of runs has version {loaded.version}; this program knows {VERSION}")
        self._memory = loaded if same_source else _Memory(VERSION, loaded.loops)
        loop = self._loop(0)
        if self._memory.current is not None and loop in self._memory.loops:
            # One run, not two copies of it that would count their attempts apart.
            self._memory.loops[loop] = self._memory.current
        self._last = None if self._memory.current is None else self._identity(0, None)

    def _change(self, event: Mapping[str, object], type_: str, depth: int) -> Change | None:
        current = self._memory.current
        if depth == 0 and type_ == "loop_resume":
            return self._resume(event)
        if depth == 0 and type_ == "loop_start" and not self._starts_again(event):
            return self._open(event)
        if current is None:
            return self._open(event)
        return self._stop(current, type_) if depth == 0 else None

    def _stop(self, current: _Run, type_: str) -> Change | None:
        if type_ == "loop_complete" and current.state != "ended":
            current.state, self._memory.resuming = "ended", False
            return "ended"
        if type_ == "handoff_detected" and current.state == "open":
            current.state, self._memory.resuming = "waiting", False
            return "waiting"
        return None

    def _starts_again(self, event: Mapping[str, object]) -> bool:
        """Whether a `loop_start` is one inside the current run: behind its `loop_resume`, or the caller says so."""
        memory, loop, before = self._memory, _text(event, "loop"), self._loop(0)
        resuming, memory.resuming = memory.resuming, False
        same = self._given is not None or (resuming and (loop is None or before in (None, loop)))
        if memory.current is None or not same:
            return False
        self._take(memory.current, loop or before)
        return True

    def _resume(self, event: Mapping[str, object]) -> Change:
        loop = _text(event, "loop")
        known = self._known(loop, _text(event, "run_id"))
        self._memory.resuming = True
        if known is None:
            return self._open(event, resumed=True)
        known.attempt += 1
        self._take(known, loop or self._loop(0))
        return "resumed"

    def _known(self, loop: str | None, own: str | None) -> _Run | None:
        """The run that a resume continues."""
        memory = self._memory
        known = memory.current if loop in (None, self._loop(0)) else memory.loops.get(loop or "")
        known = self._recalled(loop, known)
        if self._given is not None:
            return next((r for r in (known, memory.current) if r is not None and r.run == self._given), None)
        if known is not None and own and known.own and own != known.own:
            return None
        return known

    def _recalled(self, loop: str | None, known: _Run | None) -> _Run | None:
        """What another process knows of the run, where that is more: a later attempt, or a later run of the loop."""
        if loop is None or self._recall is None:
            return known
        try:
            recalled = msgspec.convert(self._recall(loop), _Run | None)
        except msgspec.ValidationError:
            return known
        if recalled is None or (known is not None and known.run == recalled.run and known.attempt >= recalled.attempt):
            return known
        return recalled

    def _open(self, event: Mapping[str, object], *, resumed: bool = False) -> Change:
        loop = _text(event, "loop") if _depth(event) == 0 else None
        run = self._given
        if run is None:
            started = normalize_time(event.get("ts")) or format_time(self._now())
            run = run_id(loop, started, self._suffix())
        self._take(_Run(run, resumed=resumed, own=_text(event, "run_id") if loop else None), loop)
        return "opened"

    def _take(self, run: _Run, loop: str | None) -> None:
        memory = self._memory
        memory.current, run.state = run, "open"
        memory.frames = {0: Frame(loop=loop)}
        if loop is None:
            return
        memory.loops.pop(loop, None)
        memory.loops[loop] = run
        if len(memory.loops) > MAX_LOOPS:
            del memory.loops[next(iter(memory.loops))]

    def _follow(self, event: Mapping[str, object], type_: str, depth: int) -> None:
        """Keep the stack of loops and their states."""
        frames = self._memory.frames
        if depth > MAX_DEPTH or type_ not in _SPECIAL:
            return
        if type_ in ("loop_start", "loop_resume", "loop_complete"):
            for deeper in [d for d in frames if d > depth or (d == depth > 0)]:
                del frames[deeper]
        if type_ == "loop_start":
            frames[depth] = Frame(_text(event, "loop") or self._loop(depth), started=normalize_time(event.get("ts")))
        if type_ == "state_enter":
            self._enter(event, depth)

    def _enter(self, event: Mapping[str, object], depth: int) -> None:
        frames = self._memory.frames
        frame = frames.get(depth) or frames.setdefault(depth, Frame())
        frame.state, iteration = _text(event, "state"), event.get("iteration")
        frame.iteration = iteration if type(iteration) is int and 0 <= iteration < 2**53 else None

    def _loop(self, depth: int) -> str | None:
        frame = self._memory.frames.get(depth)
        return None if frame is None else frame.loop

    def _identity(self, depth: int, change: Change | None, loop: str | None = None) -> Identity:
        current = self._memory.current
        assert current is not None
        return Identity(
            run=current.run,
            attempt=current.attempt,
            parent_run=self._parent,
            loop=loop or self._loop(depth),
            depth=depth,
            state=current.state,
            change=change,
            resumed=current.resumed,
        )


def run_id(loop: str | None, started: str, suffix: str) -> str:
    """The id of a run, from its start in RFC 3339, to be read and sorted: `20261120T173828Z-demo-parent-4f09c2`."""
    seconds = started[:19].replace("-", "").replace(":", "")
    slug = _OUTSIDE.sub("-", loop or "").strip("-")[:60] or "events"
    return f"{seconds}Z-{slug}-{suffix}"


def source_run(experiment: str, source: str) -> str:
    """
    The run of events that came by plain HTTP without one: the same for all of a source, never split.

    Two producers behind a load balancer see one source interleaved, so neither can tell where its runs begin.
    """
    raw = f"{experiment}\0{source}".encode("utf-8", "surrogatepass")
    return "src-" + base64.b32encode(hashlib.sha256(raw).digest()).decode("ascii").lower()[:26]


def _depth(event: Mapping[str, object]) -> int:
    depth = event.get("depth")
    return depth if type(depth) is int and depth > 0 else 0


def _text(event: Mapping[str, object], name: str) -> str | None:
    value = event.get(name)
    if type(value) is str and value.isascii():
        return value[:MAX_NAME] or None
    if not isinstance(value, str) or not value:
        return None
    return value[:MAX_NAME].encode("utf-8", "replace").decode()
