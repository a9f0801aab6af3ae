"""One child process of `loopcast up`: started in a group of its own, its output handed on by lines, ended in order."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable

from loopcast.up.plan import Program

__all__ = ["Process"]

STOP_SECONDS = 10.0
"""Between SIGTERM and SIGKILL."""


class Process:
    """A running :class:`~loopcast.up.plan.Program`."""

    def __init__(self, program: Program, on_line: Callable[[str, str], None]) -> None:
        self.program = program
        self._on_line = on_line
        self._process: asyncio.subprocess.Process | None = None
        self._pump: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start it in a group of its own, so that Ctrl-C reaches `up` alone and the order of stopping is `up`'s."""
        self._process = await asyncio.create_subprocess_exec(
            *self.program.command,
            env={**self.program.environment, "LOOPCAST_PARENT_PID": str(os.getpid())},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            limit=1024 * 1024,
            start_new_session=True,
        )
        self._pump = asyncio.create_task(self._read(self._process))

    async def wait(self) -> int:
        """Wait for its end; the exit code."""
        assert self._process is not None
        code = await self._process.wait()
        if self._pump is not None:
            await self._pump
        return code

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL if it does not end within :data:`STOP_SECONDS`."""
        if self._process is None or self._process.returncode is not None:
            return
        self._process.terminate()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self.wait()
        except TimeoutError:
            self._on_line(self.program.name, "did not end in time and is killed")
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            await self.wait()

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while True:
            try:
                line = await process.stdout.readline()
            except ValueError:  # a line over the limit: asyncio has dropped it
                self._on_line(self.program.name, "… (a line too long to show)")
                continue
            if not line:
                return
            self._on_line(self.program.name, line.decode("utf-8", "replace").rstrip("\n"))
