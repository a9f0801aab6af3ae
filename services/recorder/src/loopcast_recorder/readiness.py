"""What the recorder's readiness probe says: whether the log is being read. A sink that fails is a metric's business."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from loopcast.broker.declare import LogWatch
from loopcast.errors import BrokerError
from loopcast.health import Health

__all__ = ["Reading", "watch_readiness"]

LOOK_SECONDS = 0.25


class Reading(Protocol):
    """What reads the log, or stands by to."""

    @property
    def connected(self) -> bool:
        """Whether it does."""
        ...

    @property
    def reason(self) -> BrokerError | None:
        """Why it does not."""
        ...


@contextlib.asynccontextmanager
async def watch_readiness(health: Health, watch: LogWatch, lanes: Sequence[Reading]) -> AsyncIterator[None]:
    """Keep `health` up to date with the connections and the log."""
    _look(health, watch, lanes)
    task = asyncio.create_task(_look_again_and_again(health, watch, lanes))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def _look_again_and_again(health: Health, watch: LogWatch, lanes: Sequence[Reading]) -> None:
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        _look(health, watch, lanes)


def _look(health: Health, watch: LogWatch, lanes: Sequence[Reading]) -> None:
    if (why := _why_not(watch, lanes)) is None:
        health.reached("broker")
    else:
        health.wait_for("broker", why)


def _why_not(watch: LogWatch, lanes: Sequence[Reading]) -> str | None:
    if not watch.connected:
        return str(watch.reason or "waiting for the broker")
    # One is enough: a sink that fails does not read, and that is told elsewhere.
    if not any(lane.connected for lane in lanes):
        return str(next((lane.reason for lane in lanes if lane.reason), "waiting for the broker"))
    return None
