"""
`loopcast relay little-loops [DIR]`: the event files of every loop that runs in a project.

little-loops appends each event to `.loops/.running/<instance>.events.jsonl` before it is on its bus, so these files
hold all there is, in order, one file an instance. Beside each lies `<instance>.state.json` with the process's id.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from loopcast.relays.files import FileRelay
from loopcast.relays.following import QUIET_POLLS
from loopcast.relays.lines import Counts
from loopcast.sdk.counters import Complaints

if TYPE_CHECKING:
    from loopcast.sdk.transport import LoopcastTransport

__all__ = ["LittleLoopsSource", "is_past", "running_folder"]

log = logging.getLogger("loopcast")

SUFFIX = ".events.jsonl"
SCAN_SECONDS = 0.2
HELD_SECONDS = 1.0
"""How often a file is tried that another relay follows, which may end, or that the disk does not let be followed."""
FINISH_SECONDS = 1.0
"""How long the end waits for what the relay before left, so that its own lines may follow."""
BEGINNING_SECONDS = 10.0


def running_folder(folder: Path) -> Path:
    """Where little-loops keeps the files of a project, or of its `.loops` folder, or the folder itself."""
    folder = folder.absolute()
    if folder.name == ".running":
        return folder
    return folder / ".running" if folder.name == ".loops" else folder / ".loops" / ".running"


class LittleLoopsSource:
    """
    All event files of `folder`, those that come later included, each by one relay of however many there are.

    Args:
        transport: takes the events.
        folder: as :func:`running_folder` gives it; need not exist yet.
        root: where places are kept.
        from_end: which of the files that are there already, and were never followed, begin at their end.
    """

    def __init__(
        self, transport: LoopcastTransport, folder: Path, root: Path | None, *, from_end: Callable[[Path], bool]
    ) -> None:
        self.counts = Counts()
        self._transport = transport
        self._folder = folder
        self._root = root
        self._from_end = from_end
        self._scanned = False
        self._relays: dict[Path, FileRelay] = {}
        self._held: dict[Path, float] = {}
        self._complaints = Complaints()
        self._scan_at = float("-inf")

    def step(self) -> int:
        """Relay the next lines of every file."""
        now = time.monotonic()
        if now >= self._scan_at:
            self._scan(now)
            self._scan_at = now + SCAN_SECONDS
        done = 0
        for path, relay in list(self._relays.items()):
            if now < self._held.get(path, 0.0):
                continue
            try:
                done += relay.step()
            except OSError as error:
                self._put_off(path, error, now)
            if relay.is_over:
                relay.close(forget=True)
                del self._relays[path]
        return done

    @property
    def is_waiting(self) -> bool:
        """Whether the lines of some file wait for what the relay before left."""
        return any(relay.is_waiting for relay in self._relays.values())

    def finish(self) -> None:
        """Relay what is left of every file that nobody else follows now, where there is room for it."""
        until = time.monotonic() + FINISH_SECONDS
        self._held.clear()
        self._scan_at = float("-inf")
        quiet = 0
        while quiet <= QUIET_POLLS + 1:
            # A file that was made anew is begun with only when nothing comes from the old one any more.
            quiet = 0 if self.step() else quiet + 1
            if self.is_waiting and time.monotonic() < until:
                quiet = 0
                time.sleep(0.01)

    def close(self) -> None:
        """Let go of all files."""
        for relay in self._relays.values():
            relay.close()
        self._relays.clear()

    def _scan(self, now: float) -> None:
        found = sorted(self._folder.glob(f"*{SUFFIX}"))
        for path in found:
            if path in self._relays or now < self._held.get(path, 0.0):
                continue
            relay = FileRelay(
                self._transport,
                path,
                self._root,
                from_end=not self._scanned and self._from_end(path),
                counts=self.counts,
                alive=lambda path=path: process_of(path),  # type: ignore[misc]
            )
            try:
                if relay.open():
                    self._relays[path] = relay
                    continue
                self._held[path] = now + HELD_SECONDS
            except OSError as error:
                self._put_off(path, error, now)
            relay.close()
        # What comes from now on is new.
        self._scanned = True

    def _put_off(self, path: Path, error: OSError, now: float) -> None:
        """One file's trouble is no other's: they go on, and it is tried again soon."""
        self._held[path] = now + HELD_SECONDS
        if self._complaints.may_speak(now):
            log.warning("loopcast: %s: %s; it is tried again", path, error)


def is_past(events: Path) -> bool:
    """
    Whether that file is of a loop that runs no more.

    Where little-loops has not said yet which process it is, a file that was written to a moment ago is of one that
    begins: its own relay may come after another's, and must find the file's beginning still to be sent.
    """
    pid = _pid(events)
    if pid is not None:
        return not _lives(pid)
    try:
        return time.time() - events.stat().st_mtime > BEGINNING_SECONDS
    except OSError:
        return False


def process_of(events: Path) -> int | None:
    """The process of the loop whose events are in that file, None where it is not known to live."""
    pid = _pid(events)
    return pid if pid is not None and _lives(pid) else None


def _pid(events: Path) -> int | None:
    stem = events.name.removesuffix(SUFFIX)
    return _number(events.with_name(f"{stem}.pid")) or _pid_in_state(events.with_name(f"{stem}.state.json"))


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # Another user's, so it lives.
        pass
    return True


def _number(path: Path) -> int | None:
    try:
        number = int(path.read_text().strip())
    except (OSError, ValueError):
        return None
    return number if number > 0 else None


def _pid_in_state(path: Path) -> int | None:
    try:
        state = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    pid = state.get("pid") if isinstance(state, dict) else None
    return pid if type(pid) is int and pid > 0 else None
