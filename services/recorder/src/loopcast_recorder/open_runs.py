"""The runs that go on now, as little-loops' own socket tells them to a client that comes late. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from loopcast.events import source_of
from loopcast.outcome import RUNNING, WAITING
from loopcast_recorder.lines import Format
from loopcast_recorder.run_state import RunState

__all__ = ["is_open", "seeds", "state_change"]

SILENT_MICROSECONDS = 24 * 3600 * 1_000_000
"""A run that said nothing for a day was killed, as far as anybody knows; little-loops' socket told 64 dead loops."""

_encode = msgspec.json.Encoder().encode


def is_open(run: RunState) -> bool:
    """Whether the run goes on, or waits to."""
    return run.status in (RUNNING, WAITING)


def seeds(runs: Iterable[RunState], format_: Format, *, since: str) -> list[bytes]:
    """A line for each open run that spoke after `since`, in the order in which they began."""
    found = sorted((run for run in runs if run.last_time >= since), key=lambda run: (run.started or "", run.first_n))
    return [_line(run, format_) for run in found]


def state_change(run: RunState) -> dict[str, object]:
    """A run as `LoopState.to_dict()` has it, with the names of its experiment and run."""
    told: dict[str, object] = {
        "event": "state_change",
        "loop_name": run.loop,
        "current_state": run.current_state,
        "iteration": run.iteration or 0,
        "captured": {},
        "prev_result": None,
        "last_result": None,
        "started_at": run.started,
        "updated_at": run.last_time,
        "status": run.status,
        "accumulated_ms": int(run.before_ms),
        "experiment_id": run.experiment,
        "run_id": run.own_run or run.run,
    }
    if run.continuation is not None:
        told["continuation_prompt"] = run.continuation
    if (inner := max(run.loops, default=0)) > 0:
        told["active_sub_loop"] = run.loops[inner].loop
    return told


def _line(run: RunState, format_: Format) -> bytes:
    told = state_change(run)
    if format_ == "original":
        return _encode(told) + b"\n"
    envelope = {
        "specversion": "1.0",
        "id": f"{run.run}.{run.last_n}"[-255:],
        "source": source_of(run.experiment, run.run),
        "type": "state_change",
        "time": run.last_time,
        "experimentid": run.experiment,
        "runid": run.run,
        "data": told,
    }
    return _encode(envelope) + b"\n"
