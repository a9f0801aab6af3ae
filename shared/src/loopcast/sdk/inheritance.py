"""A process's own spool, and those of processes that died before their events were delivered."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator

from loopcast.sdk.configuration import Configuration
from loopcast.sdk.folder import SpoolFolder, left_over, make_folder
from loopcast.sdk.recovery import recover
from loopcast.sdk.spool import Spool

__all__ = ["Inheritance", "make_for"]

INHERIT_SECONDS = 60.0
"""How often a process that has nothing to send looks for spools that others left."""
LONGEST_SECONDS = 960.0
"""So long what was refused, or cannot be read, is left alone at most."""
MOST_PUT_OFF = 1000


def make_for(settings: Configuration) -> Callable[[], SpoolFolder] | None:
    """What makes the folder of this process's spool; None where events are to wait in memory."""
    root = settings.spool
    if root is None:
        return None

    def make() -> SpoolFolder:
        return make_folder(
            root,
            {
                "base": settings.base,
                "path": settings.path,
                "experiment": settings.experiment,
                "pid": os.getpid(),
                "host": socket.gethostname(),
                "began": time.time(),
            },
        )

    return make


class Inheritance:
    """
    What dead processes left for the same producer, or had dropped, oldest first. Used by one thread alone.

    Held and opened one at a time, because each is many files and many events. Only what is for the same address:
    another producer, and whoever holds its token, has no business with these events.
    """

    def __init__(self, settings: Configuration) -> None:
        self._settings = settings
        self._own: Iterator[SpoolFolder] = iter(())
        self._others: Iterator[SpoolFolder] = iter(())
        self._next = float("-inf")
        # By the name of a folder, or the path that events are posted to: how often in vain, and not before when.
        self._put_off: dict[str, tuple[int, float]] = {}
        self.fault = ""
        """What could not be read, and why; for the log."""

    def until(self, now: float) -> float:
        """Seconds until it is time to look again."""
        return max(0.0, self._next - now)

    def hasten(self) -> None:
        """Look again at once."""
        self._next = float("-inf")

    def look(self, now: float) -> bool:
        """Begin anew with the oldest there is, where it is time; whether it was."""
        if now < self._next:
            return False
        self._next = now + INHERIT_SECONDS
        if self._settings.spool is not None:
            mine, base = self._settings.path, self._settings.base
            self._own = left_over(self._settings.spool, base, lambda name, path: path == mine and self._wants(name))
            self._others = left_over(
                self._settings.spool, base, lambda name, path: path != mine and self._wants(name) and self._wants(path)
            )
        return True

    def own(self) -> tuple[str, Spool] | None:
        """The next one of the same experiment: the path that its events are posted to, and the spool, now held here."""
        return self._open(self._own)

    def other(self) -> tuple[str, Spool] | None:
        """The next one of another experiment, as :meth:`own` has it."""
        return self._open(self._others)

    def put_off(self, what: str) -> None:
        """Leave a folder, or all for a path, until later: each time in a row twice as long."""
        if len(self._put_off) >= MOST_PUT_OFF:
            self._put_off.clear()
        times, _ = self._put_off.get(what, (0, 0.0))
        wait = min(LONGEST_SECONDS, INHERIT_SECONDS * (2.0**times - 1))
        self._put_off[what] = (min(times + 1, 32), time.monotonic() + wait)

    def went_well(self, what: str) -> None:
        """Put it off no longer."""
        self._put_off.pop(what, None)

    def _wants(self, what: str) -> bool:
        return self._put_off.get(what, (0, 0.0))[1] <= time.monotonic()

    def _open(self, folders: Iterator[SpoolFolder]) -> tuple[str, Spool] | None:
        with contextlib.suppress(OSError):
            for folder in folders:
                try:
                    spool = recover(folder)
                except Exception as error:  # noqa: BLE001 - whatever is wrong with one holds up neither others nor us
                    folder.close(remove=False)
                    self.put_off(folder.path.name)
                    self.fault = f"{folder.path}: {type(error).__name__}: {error}"
                    continue
                if len(spool) or spool.dropped or spool.unreadable:
                    return str(folder.about.get("path")), spool
                spool.close()
        return None
