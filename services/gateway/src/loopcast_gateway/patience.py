"""Trying again what a broker that is away, or busy, did not answer: a viewer waits rather than hears of a hole."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from loopcast.errors import BrokerError, LogChanged

__all__ = ["PATIENCE_SECONDS", "patiently"]

PATIENCE_SECONDS = 60.0
"""For how long it is tried again before a viewer is told that the log cannot be had."""

PAUSE_SECONDS = 0.5
T = TypeVar("T")


async def patiently(work: Callable[[], Awaitable[T]]) -> T:
    """
    What `work` gives, which may be tried again from where it is.

    Raises:
        BrokerError: it cannot be had for so long, or the log is another one, which waiting does not mend.
        TimeoutError: the same as the first.
    """
    loop = asyncio.get_running_loop()
    begun = loop.time()
    while True:
        try:
            return await work()
        except LogChanged:
            raise
        except (BrokerError, TimeoutError):
            if loop.time() - begun > PATIENCE_SECONDS:
                raise
        await asyncio.sleep(PAUSE_SECONDS)
