"""A relay as a program: steps until it is told to end, says what is wrong once a minute, and in the end what it did."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Protocol

from loopcast.relays.files import LITTLE_ROOM
from loopcast.relays.following import QUIET_POLLS
from loopcast.relays.lines import Counts
from loopcast.sdk.counters import Complaints

if TYPE_CHECKING:
    from loopcast.sdk.transport import LoopcastTransport

__all__ = ["Source", "run_relay"]

log = logging.getLogger("loopcast")

POLL_SECONDS = 0.05
CLOSE_SECONDS = 10.0
LOOK_SECONDS = 0.5
"""How often a wait for the producer looks whether it is to end."""


class Source(Protocol):
    """What a relay reads."""

    @property
    def counts(self) -> Counts:
        """What became of the lines so far."""
        ...

    @property
    def is_waiting(self) -> bool:
        """Whether it holds lines back until something else is sent."""
        ...

    def step(self) -> int:
        """Relay what is there now, and say how much that was; OSError where it has to be tried again."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


def run_relay(
    source: Source, transport: LoopcastTransport, *, once: bool, clock: Callable[[], float], name: str
) -> int:
    """
    Relay until SIGINT or SIGTERM, or with `once` until there is nothing more; the exit code.

    0 when all that was relayed is delivered or waits on disk, 1 when something was lost.
    """
    ended = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        del number, frame
        ended.set()

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    # A relay that was killed may have left events, and there may be no new line to wake the sender.
    transport.take_over()
    try:
        _steps(source, transport, ended, once=once, clock=clock)
    finally:
        source.close()
        # However long it takes, but no longer than somebody waits for it.
        while once and not ended.is_set() and not transport.flush(LOOK_SECONDS).complete:
            pass
        report = transport.close(CLOSE_SECONDS)
        for number, handler in before.items():
            signal.signal(number, handler)
    stats = report.stats
    inherited = f", {stats.inherited} inherited" if stats.inherited else ""
    sys.stderr.write(
        f"{name}: {source.counts}; "
        f"{stats.accepted} accepted, {stats.spooled} spooled, {stats.dropped} dropped{inherited}\n"
    )
    return 1 if stats.dropped or source.counts.lost else 0


def _steps(
    source: Source, transport: LoopcastTransport, ended: threading.Event, *, once: bool, clock: Callable[[], float]
) -> None:
    complaints = Complaints()
    quiet = 0
    while not ended.is_set():
        try:
            done = source.step()
        except OSError as error:
            done = 0
            if complaints.may_speak(clock()):
                log.warning("loopcast: %s; it is tried again", error)
            ended.wait(1.0)
        quiet = 0 if done or source.is_waiting or transport.room < LITTLE_ROOM else quiet + 1
        if once and quiet > QUIET_POLLS + 1:
            return
        if not done:
            ended.wait(POLL_SECONDS)
