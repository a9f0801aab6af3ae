"""
`loopcast relay unix SOCKET`: little-loops' own socket, and any other that gives JSON lines to who connects.

It begins with a `state_change` for each loop that it knows of, which has no `ts` and calls the loop `loop_name`; the
run that it speaks of is named as the loop's events name it. Several processes of one project have a socket each, the
first `events.sock`, others `events-<pid>.sock`: all of them are connected to.

A socket keeps nothing for who is not there: what is emitted between two connections never arrives, and what
little-loops drops because its own queue is full is said by little-loops alone.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loopcast.relays.lines import Counts, Lines, parse_line
from loopcast.sdk.verdicts import pause

if TYPE_CHECKING:
    from loopcast.sdk.stamping import Stamper
    from loopcast.sdk.transport import LoopcastTransport

__all__ = ["UnixSource"]

log = logging.getLogger("loopcast")

SCAN_SECONDS = 0.2
RECEIVE_BYTES = 256 * 1024
LONGEST_PAUSE_SECONDS = 2.0
ACTIVE = frozenset(("running", "starting"))
"""What a `state_change` says of a loop that runs; little-loops gives those of loops that ended long ago too."""


class UnixSource:
    """A socket, and those of its kind beside it. One thread each."""

    def __init__(self, transport: LoopcastTransport, path: Path) -> None:
        self._ended = Counts()
        self._transport = transport
        self._path = path.absolute()
        self._connections: dict[Path, _Connection] = {}
        self._scan_at = float("-inf")
        self._said = 0

    def step(self) -> int:
        """Connect to what is there; say how many lines came since the last time."""
        now = time.monotonic()
        if now >= self._scan_at:
            self._scan_at = now + SCAN_SECONDS
            for path in self._sockets():
                if path not in self._connections:
                    self._connections[path] = _Connection(self._transport, path)
            for path, connection in list(self._connections.items()):
                if connection.is_over and path != self._path:
                    self._end(path)
        before, self._said = self._said, self.counts.relayed
        return self._said - before

    @property
    def is_waiting(self) -> bool:
        """Never: a socket keeps nothing back."""
        return False

    def close(self) -> None:
        """Let go of all of them; what was received is relayed."""
        for path in list(self._connections):
            self._end(path)

    @property
    def counts(self) -> Counts:
        """What became of the lines so far, of all sockets."""
        return Counts.total([self._ended, *(connection.counts for connection in self._connections.values())])

    def _end(self, path: Path) -> None:
        connection = self._connections.pop(path)
        connection.close()
        self._ended = Counts.total([self._ended, connection.counts])

    def _sockets(self) -> list[Path]:
        siblings = self._path.parent.glob(f"{self._path.stem}-*{self._path.suffix}")
        return [self._path, *(p for p in siblings if p.stem.removeprefix(f"{self._path.stem}-").isdigit())]


class _Connection:
    """One socket, connected to again and again."""

    def __init__(self, transport: LoopcastTransport, path: Path) -> None:
        self._transport = transport
        self._path = path
        self.counts = Counts()
        self._stop = threading.Event()
        self._socket: socket.socket | None = None
        self._pid: int | None = None
        self._seeds: dict[str, object] = {}
        self._stamper: Stamper = transport.source(remember=True, alive=self._alive)
        self._thread = threading.Thread(target=self._run, name="loopcast-relay", daemon=True)
        self._thread.start()

    @property
    def is_over(self) -> bool:
        """Whether the socket is gone."""
        return not self._path.exists() and self._socket is None

    def close(self) -> None:
        """End it."""
        self._stop.set()
        connected = self._socket
        if connected is not None:
            with contextlib.suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)
        self._thread.join(5.0)
        self._transport.drop_source(self._stamper)

    def _run(self) -> None:
        tries = 0
        while not self._stop.is_set():
            try:
                came = self._connect()
            except OSError:
                came = False
            except Exception:
                log.exception("loopcast: reading %s failed; it is tried again", self._path)
                came = False
            self._socket = None
            tries = 0 if came else tries + 1
            # Jitter against a herd, not a secret.
            self._stop.wait(min(LONGEST_PAUSE_SECONDS, pause(tries, 0.05, random.random())))  # noqa: S311

    def _connect(self) -> bool:
        """Read one connection to its end; whether anything came."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connected:
            connected.connect(os.fspath(self._path))
            self._socket = connected
            self.counts.connections += 1
            lines, came = Lines(), False
            while data := connected.recv(RECEIVE_BYTES):
                came = True
                for line in lines.feed(data):
                    event = parse_line(line, self.counts)
                    if event is not None:
                        self._take(event)
            if lines.waiting:
                self.counts.bad += 1
            return came

    def _take(self, event: dict[str, Any]) -> None:
        pid = event.get("producer_pid")
        if type(pid) is int:
            self._pid = pid
        if event.get("event") == "state_change" and "loop_name" in event:
            self._seed(event)
            return
        self.counts.relayed += 1
        self._transport.relay(self._stamper, event)

    def _seed(self, state: dict[str, Any]) -> None:
        """Relay the state of a loop that runs, once for each that is new; of any other it is no news."""
        loop, started = state["loop_name"], state.get("started_at")
        if not isinstance(loop, str) or not isinstance(started, str) or state.get("status") not in ACTIVE:
            self.counts.stale += 1
            return
        run = own_run(started, loop)
        if self._seeds.get(run) == state:
            self.counts.stale += 1
            return
        self._seeds = {run: state} if len(self._seeds) > 1000 else {**self._seeds, run: state}
        self.counts.relayed += 1
        self._transport.relay(self._stamper, state, {"event": "state_change", "run_id": run, "loop": loop})

    def _alive(self) -> int | None:
        return self._pid or os.getpid() if self._socket is not None else None


def own_run(started: str, loop: str) -> str:
    """The run id that little-loops puts on the events of that run (its `derive_run_id`)."""
    return f"{started.replace(':', '').replace('.', '').replace('+', '')[:17]}-{loop}"
