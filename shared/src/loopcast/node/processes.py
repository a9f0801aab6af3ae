"""
Processes of other programs: are they alive, are they the ones we think, and how to end them.

A process id alone is no proof: ids are given again. So everything here asks for a marker in the command line too.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

__all__ = ["command_line", "end", "is_alive", "kill"]

_POLL = 0.03
_DEATH = 5.0


def command_line(pid: int) -> str:
    """Return the command line of a process, "" if there is none of that id or it only waits to be reaped."""
    if Path("/proc/self/cmdline").exists():
        try:
            raw = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return ""
        return raw.replace(b"\0", b" ").decode(errors="replace")
    listing = ["ps", "-ww", "-o", "command=", "-p", str(pid)]
    return subprocess.run(listing, capture_output=True, text=True, check=False).stdout.strip()


def is_alive(pid: int, marker: str = "") -> bool:
    """Tell whether a process of this id runs whose command line contains the marker."""
    line = command_line(pid) if pid > 0 else ""
    return bool(line) and marker in line


def end(pid: int, marker: str, patience: float) -> None:
    """Ask a process to end, and after so many seconds make it; nothing if it is not the one that the marker says."""
    if not _send(pid, marker, signal.SIGTERM, patience):
        kill(pid, marker)


def kill(pid: int, marker: str) -> None:
    """End a process at once; nothing if it is not the one that the marker says."""
    _send(pid, marker, signal.SIGKILL, _DEATH)


def _send(pid: int, marker: str, request: signal.Signals, patience: float) -> bool:
    """Whether the process is gone in time."""
    if not is_alive(pid, marker):
        return True
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, request)
    deadline = time.monotonic() + patience
    while is_alive(pid, marker):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL)
    return True
