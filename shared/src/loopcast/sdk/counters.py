"""What became of the events, to the last one, and when to speak of it. Pure."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["FULL", "Complaints", "Report", "Stats"]

EVERY_SECONDS = 60.0
MOST_LOSSES = 10
"""So many ways to lose something are named in a line."""
OTHER_LOSSES = "more were lost in other ways"

FULL = "the spool was full (LOOPCAST_SPOOL_MAX_BYTES says how much it holds, LOOPCAST_SPOOL_FULL what goes then)"


class Stats(NamedTuple):
    """The state of a transport at one moment: `emitted == accepted + spooled + dropped`, always."""

    emitted: int
    """Events that were handed to `send`."""
    accepted: int
    """Those that the producer has, and through it the broker."""
    spooled: int
    """Those that wait here, or are on their way."""
    dropped: int
    """Those that are lost: the sum of the five below."""
    full: int
    """Dropped because the spool was full."""
    refused: int
    """Dropped because the producer refused them for good: too large, say."""
    redacted: int
    """Dropped because `redact` returned None or raised."""
    failed: int
    """Dropped because they came after `close`, or could not be stamped."""
    unsaved: int
    """Lost because no disk took them, or gave them back: they waited in memory when it ended, or are damaged."""
    in_memory: int
    """Of those spooled, how many would not outlive this process: no spool, or the disk takes no more."""
    inherited: int
    """Events of processes that died, which this one sent in their place; not among those emitted."""
    inherited_dropped: int
    """Events of processes that died, which those had dropped because their spool was full; not among those emitted."""
    inherited_refused: int
    """Events of processes that died, which the producer refused for good; not among those emitted."""
    inherited_unsaved: int
    """Events of processes that died, which the disk did not give back: so many at least; not among those emitted."""
    coerced: int
    """Values and keys that JSON has no place for and that were changed."""
    retries: int
    """Tries that failed and were made again."""
    error: str
    """What went wrong last with this experiment's events, until something goes right again."""


class Report(NamedTuple):
    """What `flush` and `close` found."""

    complete: bool
    """Whether everything that was emitted before is dealt with."""
    stats: Stats


class Complaints:
    """Says when a line may be logged: the first trouble at once, then one a minute at most; keeps what must be said."""

    def __init__(self) -> None:
        self._next = float("-inf")
        self._losses: dict[str, int] = {}

    def may_speak(self, now: float) -> bool:
        """Whether to log now; `now` is in seconds and only goes forward."""
        if now < self._next:
            return False
        self._next = now + EVERY_SECONDS
        return True

    @property
    def has_losses(self) -> bool:
        """Whether something waits to be said."""
        return bool(self._losses)

    def note(self, count: int, what: str) -> None:
        """Keep, until it is said, that so many were lost and in what way."""
        if what not in self._losses and len(self._losses) >= MOST_LOSSES:
            what = OTHER_LOSSES
        self._losses[what] = self._losses.get(what, 0) + count

    def losses(self) -> tuple[str, ...]:
        """Sentences about what was noted since this was asked last."""
        losses, self._losses = self._losses, {}
        return tuple(f"{count} {what}." for what, count in losses.items())
