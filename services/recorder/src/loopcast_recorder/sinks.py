"""What a sink promises: a place where the log is kept, with a position of its own in each partition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from loopcast.broker.interface import Delivery
from loopcast.holes import Hole
from loopcast.position import Position

__all__ = ["Sink", "Written"]


class Written(NamedTuple):
    """What became of deliveries."""

    events: int
    """Events that are kept now."""
    repeats: int
    """Events that the log had before."""
    holes: tuple[Hole, ...] = ()
    """What never came before those that are kept."""


class Sink(Protocol):
    """
    Keeps each event of the log once.

    Its methods run in one thread of its own, one at a time. Any of them raises
    :exc:`~loopcast.errors.StorageError` where the place does not take it: then nothing of that call is kept,
    :meth:`resume` is called before the next, and what was not kept comes again.
    """

    name: str
    """One of :data:`loopcast.settings.PLACES`."""

    def resume(self, partition: int) -> Position | None:
        """Forget what is not kept, and say up to where the partition is; None is from its beginning."""
        ...

    def write(self, partition: int, deliveries: Sequence[Delivery]) -> Written:
        """Keep `deliveries`, in the log's order and behind the position, and move the position."""
        ...

    def gap(self, partition: int, reason: str, *, anew: bool) -> None:
        """Note that events are missing behind the position; `anew` where the log is another one, from 0 on."""
        ...

    def tick(self) -> None:
        """Do what is due by the clock; called about every second."""
        ...

    def close(self) -> None:
        """Keep what is not kept yet, and let go. Safe to call again."""
        ...
