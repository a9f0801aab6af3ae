"""
How a loop or an action ended, and what status its span gets.

OpenTelemetry leaves UNSET what went well and keeps OK for people; an error that was handled marks the operation that
failed and not what is around it (semantic conventions, "Recording errors"). So a failed action is ERROR while the
state that routed on is not, and a verdict of `no` is data.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["Outcome", "of_action", "of_loop"]

TIMEOUT_EXIT_CODE = 124
"""What `timeout(1)` and little-loops say of an action that took too long."""

_INTERRUPTED = frozenset(("max_steps", "max_iterations_reached", "interrupted", "interrupted_force"))
_CANCELLED = frozenset(("user_stopped", "system_signal", "signal"))


class Outcome(NamedTuple):
    """What goes onto a span at its end."""

    status: str
    """`loop.final_status`: little-loops' words, and `cancelled` as the CI/CD conventions have it."""
    error_type: str | None = None
    """`error.type`: set where the span's status is ERROR."""


def of_loop(terminated_by: str | None, *, failure_terminal: bool, error: bool) -> Outcome:
    """The outcome that a `loop_complete` tells; `error` is whether it carries one."""
    if terminated_by is None:
        return Outcome("failed", "error") if error or failure_terminal else Outcome("completed")
    if terminated_by == "terminal":
        return Outcome("failed", "failure_terminal") if failure_terminal else Outcome("completed")
    if terminated_by in _INTERRUPTED:
        return Outcome("interrupted")
    if terminated_by in _CANCELLED:
        return Outcome("cancelled")
    if terminated_by == "handoff":
        return Outcome("awaiting_continuation")
    return Outcome("timed_out" if terminated_by == "timeout" else "failed", terminated_by[:120])


def of_action(data: Mapping[str, object]) -> str | None:
    """The `error.type` of an `action_complete`, None where it succeeded or says nothing."""
    code = data.get("exit_code")
    if not isinstance(code, int) or isinstance(code, bool) or code == 0:
        return None
    return "timeout" if code == TIMEOUT_EXIT_CODE else str(code)
