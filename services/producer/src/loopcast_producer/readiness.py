"""What the producer's readiness probe says: whether events would be taken now, and if not, why."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

from loopcast.broker.declare import LogWatch
from loopcast.broker.publisher import Publisher
from loopcast.health import Health

__all__ = ["watch_readiness"]

LOOK_SECONDS = 0.25


@contextlib.asynccontextmanager
async def watch_readiness(health: Health, watch: LogWatch, publishers: Sequence[Publisher]) -> AsyncIterator[None]:
    """Keep `health` up to date with the connections and the log."""
    _look(health, watch, publishers)
    task = asyncio.create_task(_look_again_and_again(health, watch, publishers))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def _look_again_and_again(health: Health, watch: LogWatch, publishers: Sequence[Publisher]) -> None:
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        _look(health, watch, publishers)


def _look(health: Health, watch: LogWatch, publishers: Sequence[Publisher]) -> None:
    if (why := _why_not(watch, publishers)) is None:
        health.reached("broker")
    else:
        health.wait_for("broker", why)


def _why_not(watch: LogWatch, publishers: Sequence[Publisher]) -> str | None:
    if not watch.connected or not all(publisher.connected for publisher in publishers):
        return str(watch.reason or "waiting for the broker")
    if watch.missing:
        return f"the log {min(watch.missing)} is not there"
    blocked = next((publisher.blocked for publisher in publishers if publisher.blocked), None)
    return None if blocked is None else f"the broker takes nothing for now: {blocked}"
