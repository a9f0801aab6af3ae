"""A process's own spool, and those of processes that died before their events were delivered."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable

from loopcast.sdk.configuration import Configuration
from loopcast.sdk.folder import SpoolFolder, left_over, make_folder
from loopcast.sdk.spool import Spool

__all__ = ["inherit", "make_for"]


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


def inherit(settings: Configuration) -> list[tuple[str, Spool]]:
    """
    The spools of dead processes that left events for the same producer, or dropped some, oldest first, now held here.

    Only to the same address: another producer, and whoever holds its token, has no business with these events.
    """
    if settings.spool is None:
        return []
    found = []
    with contextlib.suppress(OSError):
        for folder in left_over(settings.spool, settings.base):
            spool = Spool.recover(folder)
            if len(spool) or spool.dropped:
                found.append((str(folder.about.get("path")), spool))
            else:
                spool.close()
    return found
