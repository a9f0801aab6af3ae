"""All endpoints of the file: started, changed, retired and stopped, none of which waits for another."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import structlog

from loopcast_webhook_forwarder.runner import Runner, Shared
from loopcast_webhook_forwarder.setups import Setup

__all__ = ["Fleet"]

RESTART_SECONDS = 5.0
log = structlog.get_logger(__name__)


class Fleet:
    """The runners by endpoint. A runner that dies of a defect is logged and started again."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._runners: dict[str, Runner] = {}
        self._retiring: dict[str, Runner] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.names: frozenset[str] = frozenset()
        """The endpoints that this process runs, or works off because the file no longer has them."""

    def __len__(self) -> int:
        return len(self._runners)

    def apply(self, setups: Mapping[str, Setup]) -> None:
        """Run exactly `setups` from now on; an endpoint's change waits for the end of its own call, and no other."""
        for name, setup in setups.items():
            runner = self._runners.get(name)
            if runner is None or runner.setup != setup:
                self._replace(name, Runner(setup, self._shared, mended=runner is not None))
        for name in self._runners.keys() - setups.keys():
            self._retiring[name] = self._runners.pop(name)
            self._retiring[name].retire()
        self.names = frozenset((*self._runners, *self._retiring))

    async def drain(self) -> None:
        """End every runner after the call that it is at."""
        for runner in (*self._runners.values(), *self._retiring.values()):
            runner.stop()
        self._runners, self._retiring = {}, {}
        tasks = list(self._tasks.values())
        if tasks:
            await asyncio.wait(tasks)

    async def close(self) -> None:
        """End at once what still runs."""
        for task in self._tasks.values():
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks.values())

    def _replace(self, name: str, runner: Runner) -> None:
        # One that is back in the file before its queue was empty goes on with that queue.
        former, task = self._runners.get(name) or self._retiring.pop(name, None), self._tasks.get(name)
        self._runners[name] = runner
        if former is not None:
            former.stop()
        self._tasks[name] = asyncio.create_task(self._run(name, runner, task), name=f"endpoint {name}")

    async def _run(self, name: str, runner: Runner, former: asyncio.Task[None] | None) -> None:
        if former is not None:
            await asyncio.wait([former])
        while True:
            try:
                await runner.run()
            except Exception:
                log.exception("endpoint_failed", endpoint=name)
                await asyncio.sleep(RESTART_SECONDS)
                runner = self._again(name, runner)
            else:
                return

    def _again(self, name: str, runner: Runner) -> Runner:
        """A fresh runner in the place of one that failed, unless another has its place by now."""
        fresh = Runner(runner.setup, self._shared)
        if self._runners.get(name) is runner:
            self._runners[name] = fresh
        elif self._retiring.get(name) is runner:
            self._retiring[name] = fresh
            fresh.retire()
        else:
            fresh.stop()
        return fresh
