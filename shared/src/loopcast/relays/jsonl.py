"""`loopcast relay jsonl FILE`: any file that somebody appends JSON objects to, one a line."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from loopcast.relays.files import FileRelay
from loopcast.relays.lines import Counts

if TYPE_CHECKING:
    from loopcast.sdk.transport import LoopcastTransport

__all__ = ["JsonlSource"]

ALIVE_SECONDS = 600.0
"""Whoever writes a file is not known; a run in one that has not grown for so long is not said to live."""


class JsonlSource:
    """
    One file.

    Raises:
        OSError: another process follows it, or places cannot be kept.
    """

    def __init__(
        self, transport: LoopcastTransport, path: Path, root: Path | None, *, from_end: bool, run: str | None
    ) -> None:
        self.counts = Counts()
        self._relay = FileRelay(
            transport, path.absolute(), root, from_end=from_end, counts=self.counts, run=run, alive=self._alive
        )
        is_mine = False
        try:
            is_mine = self._relay.open()
        finally:
            if not is_mine:
                self._relay.close()
        if not is_mine:
            raise OSError(f"{path} is followed by another relay to the same experiment")

    def step(self) -> int:
        """Relay the next lines."""
        return self._relay.step()

    @property
    def is_waiting(self) -> bool:
        """Whether its lines wait for what the relay before left."""
        return self._relay.is_waiting

    def close(self) -> None:
        """Let go of it."""
        self._relay.close()

    def _alive(self) -> int | None:
        return os.getpid() if time.monotonic() - self._relay.last < ALIVE_SECONDS else None
