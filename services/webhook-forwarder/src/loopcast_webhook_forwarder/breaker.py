"""
An endpoint's circuit breaker: pure steps from one :class:`~loopcast_webhook_forwarder.state.Progress` to the next.

Closed, events flow. After so many failures in a row it is open: nothing is sent until a time. Then it is half-open and
one event is tried, so that an endpoint that is still ill is not given a whole batch each time; success closes it.
"""

from __future__ import annotations

from msgspec.structs import replace

from loopcast_webhook_forwarder.state import Progress

__all__ = ["failed", "probing", "succeeded"]


def failed(
    progress: Progress, *, head: str, now: float, wait: float, threshold: int, reason: str, misconfigured: bool = False
) -> Progress:
    """A try of the events that begin with `head` failed; the next is in `wait` seconds."""
    failures = progress.failures + 1
    opened = failures >= threshold
    return replace(
        progress,
        at=now,
        phase="misconfigured" if misconfigured else "open" if opened else "closed",
        failures=failures,
        failing_since=now if progress.failing_since is None else progress.failing_since,
        head=head,
        attempts=progress.attempts + 1 if progress.head == head else 1,
        wait_until=now + wait,
        last=reason,
    )


def probing(progress: Progress) -> Progress:
    """The wait is over: half-open, where the breaker is not closed."""
    return progress if progress.phase == "closed" else replace(progress, phase="half-open")


def succeeded(progress: Progress, now: float) -> Progress:
    """A call was answered with 2xx, or with a complaint about the events, which is no illness of the endpoint."""
    if progress.failures == 0 and progress.phase == "closed" and not progress.head:
        return progress
    return replace(
        progress, at=now, phase="closed", failures=0, failing_since=None, head="", attempts=0, wait_until=0.0, last=""
    )
