"""How a run ended, in little-loops' own words. Pure."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["RUNNING", "WAITING", "final_status"]

RUNNING = "running"
WAITING = "awaiting_continuation"

_INTERRUPTED = frozenset(("max_steps", "max_iterations_reached", "interrupted", "interrupted_force"))


def final_status(data: Mapping[str, object]) -> str:
    """
    The status that a `loop_complete` tells: completed, failed, interrupted, timed_out or awaiting_continuation.

    The same rule as little-loops' `map_final_status`. Where nobody said what ended it, an error or a failure is failed.
    """
    terminated_by = data.get("terminated_by")
    failed = bool(data.get("failure_terminal")) or (terminated_by is None and bool(data.get("error")))
    if terminated_by in (None, "terminal"):
        return "failed" if failed else "completed"
    if terminated_by in _INTERRUPTED:
        return "interrupted"
    if terminated_by == "handoff":
        return WAITING
    return "timed_out" if terminated_by == "timeout" else "failed"
