"""
Keeps a server, and ends it with the process that asked for it, however that process ended.

Run as a program of its own, in a session of its own: Ctrl-C in a terminal does not reach the server, which outlives
the services that say goodbye to it. It learns of the owner's end by the end of its standard input, which the owner
holds open, or by having another parent (where a child that the owner forked still holds the pipe). Reads what to
start from the file it is given, writes down what it started, and imports nothing but the standard library: its own
start is part of every start.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import IO, TypedDict

__all__ = ["IN_USE", "Order", "main"]

IN_USE = 75
"""The exit status when another guardian holds the data folder (EX_TEMPFAIL)."""

_OWNER_CHECK = 1.0
_STOP_PATIENCE = 20.0
_KILL_PATIENCE = 5.0
_EPMD_PATIENCE = 5.0
_REMOVE_PATIENCE = 30.0


class Order(TypedDict):
    """What the file says."""

    owner: int
    lock: str
    record: str
    folder: str
    environment: dict[str, str]
    server: list[str]
    epmd: list[str]
    epmd_port: int
    remove: list[str]


class _Guardian:
    def __init__(self, order: Order) -> None:
        self._order = order
        self._epmd: subprocess.Popen[bytes] | None = None
        self._server: subprocess.Popen[bytes] | None = None
        self._asked = False
        self._wake_reader, self._wake_writer = os.pipe()

    def run(self) -> int:
        """Start, watch, end; return the server's exit status."""
        self._listen_to_signals()
        try:
            self._start()
            self._watch()
        finally:
            status = self._end()
        return status

    def _listen_to_signals(self) -> None:
        os.set_blocking(self._wake_writer, False)
        signal.set_wakeup_fd(self._wake_writer, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, self._stop_asked)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)

    def _stop_asked(self, _number: int, _frame: FrameType | None) -> None:
        self._asked = True

    def _start(self) -> None:
        self._remove()
        if self._order["epmd"]:
            self._epmd = self._spawn(self._order["epmd"])
            _await_port(self._order["epmd_port"])
        self._server = self._spawn(self._order["server"])
        self._record()

    def _spawn(self, command: list[str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command,
            cwd=self._order["folder"],
            env=self._order["environment"],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _record(self) -> None:
        pids = {"owner": self._order["owner"], "guardian": os.getpid()}
        if self._server:
            pids["server"] = self._server.pid
        if self._epmd:
            pids["epmd"] = self._epmd.pid
        written = Path(self._order["record"] + ".new")
        written.write_text(json.dumps(pids))
        written.replace(self._order["record"])

    def _watch(self) -> None:
        """Until the server ended, or somebody asked, or the owner is gone."""
        sources = [sys.stdin.fileno(), self._wake_reader]
        while self._server and self._server.poll() is None and not self._asked:
            ready, _, _ = select.select(sources, [], [], _OWNER_CHECK)
            if self._wake_reader in ready:
                os.read(self._wake_reader, 512)
            if sources[0] in ready and not os.read(sources[0], 512):
                return
            if os.getppid() != self._order["owner"]:
                return

    def _end(self) -> int:
        status = _finish(self._server, _STOP_PATIENCE)
        self._remove()
        _finish(self._epmd, _KILL_PATIENCE)
        Path(self._order["record"]).unlink(missing_ok=True)
        return status

    def _remove(self) -> None:
        """What a signal does not end: a container left behind by a killed guardian would keep its name."""
        if not self._order["remove"]:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(self._order["remove"], capture_output=True, check=False, timeout=_REMOVE_PATIENCE)


def _finish(process: subprocess.Popen[bytes] | None, patience: float) -> int:
    """Ask a process to end, make it after a while, and leave nothing of its group; return its exit status."""
    if process is None:
        return 0
    process.terminate()
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    return process.wait()


def _await_port(port: int) -> None:
    """Erlang asks for its port mapper once, at its start, and ends when there is none."""
    deadline = time.monotonic() + _EPMD_PATIENCE
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.5):
            return
        time.sleep(0.01)


def _take(path: str) -> IO[str] | None:
    lock = Path(path).open("a")  # noqa: SIM115  # held until this process ends
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        return None
    return lock


def main(path: str) -> int:
    """Do what the file at `path` says until there is no reason to go on."""
    order: Order = json.loads(Path(path).read_text())
    lock = _take(order["lock"])
    if lock is None:
        return IN_USE
    with lock:
        return _Guardian(order).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
