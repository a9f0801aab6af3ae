"""
One life of a server: from the guardian's start to the end of both.

Owns the guardian's process and the answer to "why did it not start?".
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
from pathlib import Path

from loopcast.errors import NodeError
from loopcast.node import guardian
from loopcast.node.handshake import greeting
from loopcast.node.launch import Launch, Ports
from loopcast.node.layout import Layout
from loopcast.node.leftover import end_leftover
from loopcast.node.processes import kill

__all__ = ["PortTaken", "Server", "reason"]

_START_PATIENCE = 90.0
_STOP_PATIENCE = 60.0
_KILL_PATIENCE = 30.0
_POLL = 0.02
_SHOWN = 300

_TAKEN = re.compile(r"eaddrinuse|address (is )?already in use|port is already allocated", re.IGNORECASE)
_TELLING = (
    re.compile(r"^.*(?:BOOT FAILED|Error during startup|\[emergency\]).*$", re.MULTILINE),
    re.compile(r"^.*(?:\[error\]|[Ee]rror:|\{error,).*\w.*$", re.MULTILINE),
    re.compile(r"^.*\w.*$", re.MULTILINE),
)


class PortTaken(NodeError):
    """Somebody took one of the ports between the look and the start."""


class Server:
    """A server that is started once and ended once."""

    def __init__(self, layout: Layout, launch: Launch, ports: Ports) -> None:
        self._layout = layout
        self._launch = launch
        self._ports = ports
        self._guardian: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Whether the server's process lives."""
        return self._guardian is not None and self._guardian.poll() is None

    def start(self) -> str:
        """
        Start, wait until AMQP is answered, and return the server's version.

        Raises:
            PortTaken: one of the ports is in use.
            NodeError: it ended at once, does not answer, or the folder is in use; with the server's own reason.
        """
        self._spawn()
        try:
            return self._await_greeting()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Ask the server to end and wait until it has."""
        if self._guardian is None:
            return
        if self._guardian.stdin:
            with contextlib.suppress(OSError):
                self._guardian.stdin.close()
        self._await_end(_STOP_PATIENCE)
        # A guardian that was killed itself has ended nothing.
        end_leftover(self._layout)

    def kill(self) -> None:
        """End the server at once, without a chance to tidy up."""
        if self._guardian is None:
            return
        if self._launch.kill:
            subprocess.run(self._launch.kill, env=dict(self._launch.environment), capture_output=True, check=False)
        else:
            kill(self._layout.server_pid() or self._layout.processes().get("server", 0), self._launch.marker)
        self._await_end(_KILL_PATIENCE)
        self.stop()

    def _spawn(self) -> None:
        launch = self._launch
        order = guardian.Order(
            owner=os.getpid(),
            lock=str(self._layout.lock),
            record=str(self._layout.record),
            folder=str(launch.folder),
            environment=dict(launch.environment),
            server=list(launch.server),
            epmd=list(launch.epmd),
            epmd_port=self._ports.epmd,
            remove=list(launch.remove),
        )
        self._layout.write_order(order)
        for stale in (self._layout.pid, self._layout.log):
            stale.unlink(missing_ok=True)
        with self._layout.output.open("wb") as output:
            self._guardian = subprocess.Popen(
                [sys.executable, "-I", "-S", guardian.__file__, str(self._layout.order)],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _await_greeting(self) -> str:
        deadline = time.monotonic() + _START_PATIENCE
        while time.monotonic() < deadline:
            version = greeting(self._ports.amqp)
            if not self.running:
                raise self._explain("ended during its start")
            if version is not None:
                return version
            time.sleep(_POLL)
        raise self._explain(f"did not answer within {_START_PATIENCE:.0f} s")

    def _explain(self, what: str) -> NodeError:
        if self._guardian and self._guardian.returncode == guardian.IN_USE:
            return NodeError(f"{self._layout.data} is in use by another node: choose another data folder.")
        printed = "\n".join(_text(file) for file in (self._layout.log, self._layout.output))
        if _TAKEN.search(printed):
            return PortTaken(f"RabbitMQ {what}: a port is taken by another program; {self._layout.log} says which.")
        return NodeError(f"RabbitMQ {what}: {reason(printed)} (more in {self._layout.logs})")

    def _await_end(self, patience: float) -> None:
        if self._guardian is None:
            return
        try:
            self._guardian.wait(patience)
        except subprocess.TimeoutExpired:
            self._guardian.kill()
            self._guardian.wait()


def reason(printed: str) -> str:
    """Return the line of a failed start's output that says most."""
    for telling in _TELLING:
        if found := telling.search(printed):
            return found[0].strip()[:_SHOWN]
    return "it printed nothing"


def _text(file: Path) -> str:
    try:
        return file.read_text(errors="replace")
    except OSError:
        return ""
