"""
Keeping a link to the broker: open it, watch it, open it again.

Our own loop over plain connections instead of aio-pika's robust mode, which on a reconnect consumes a stream from its
original offset again and so replays all of it (aio_pika/robust_queue.py; measured: 60 events became 120).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import structlog

from loopcast.errors import BrokerError, BrokerUnavailable, LogChanged, LogMissing, TopologyMismatch

__all__ = ["Backoff", "Supervisor"]

STEADY_SECONDS = 1.0
"""How long a link has to stand before it is said that the outage is over."""

_EVENTS: dict[type[BrokerError], str] = {
    LogMissing: "log_missing",
    LogChanged: "log_changed",
    TopologyMismatch: "topology_mismatch",
}
"""What an outage is called in the logs, where it is not that the broker is away."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """
    How long to wait before another try: full jitter under a doubling ceiling.

    The ceilings are 0.1, 0.2, 0.4, ... 10 s; the wait is anything up to the ceiling, so that services that lost the
    broker together do not come back together (AWS Architecture Blog, "Exponential Backoff And Jitter").
    """

    first: float = 0.1
    cap: float = 10.0

    def ceiling(self, tries: int) -> float:
        """The longest wait after `tries` failures in a row, from 0."""
        return min(self.cap, self.first * 2.0 ** min(tries, 64))

    def delay(self, tries: int, chance: float) -> float:
        """The wait after `tries` failures; `chance` is uniform in [0, 1)."""
        return self.ceiling(tries) * chance


class Closable(Protocol):
    """What a supervisor needs of a link."""

    async def wait_closed(self) -> BrokerError | None:
        """Wait until the link is gone, and return why."""
        ...

    async def close(self) -> None:
        """Close the link."""
        ...


L = TypeVar("L", bound=Closable)


class Supervisor(Generic[L]):
    """
    Holds at most one link, made by `connect`, and replaces it when it goes.

    `on_up` is called with each new link before anybody else sees it, `on_down` with the reason as soon as a link is
    gone or could not be made; both must not block. An outage is logged once when it begins, once when its kind changes
    and once when it ends; a link that dies within `steady` seconds has not ended it. An error of `connect` that is no
    :exc:`~loopcast.errors.BrokerError` is a defect: it is logged with its traceback and tried again, because a service
    that stands still is worse.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[L]],
        *,
        name: str,
        on_up: Callable[[L], None] = lambda _: None,
        on_down: Callable[[BrokerError], None] = lambda _: None,
        backoff: Backoff | None = None,
        steady: float = STEADY_SECONDS,
    ) -> None:
        self._connect = connect
        self._on_up = on_up
        self._on_down = on_down
        self._backoff = backoff or Backoff()
        self._steady = steady
        self._log = structlog.get_logger("loopcast.broker", connection=name)
        self._task: asyncio.Task[None] | None = None
        self._down_since: float | None = None
        self._said: type[BrokerError] | None = None
        self._saying: asyncio.TimerHandle | None = None
        self._tries = 0
        self._up = asyncio.Event()
        self.link: L | None = None
        """The link while it stands."""
        self.reason: BrokerError | None = BrokerUnavailable("There is no connection to the broker yet.")
        """Why there is none, else None."""
        self.losses = 0
        """How many links went without being asked to."""

    @property
    def connected(self) -> bool:
        """Whether the link stands."""
        return self.link is not None

    def start(self) -> None:
        """Begin to connect, in the background."""
        self._task = asyncio.create_task(self._run())

    async def wait_connected(self) -> L:
        """Wait until there is a link, and return it."""
        while self.link is None:
            await self._up.wait()
        return self.link

    async def close(self) -> None:
        """End the loop and close the link."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _run(self) -> None:
        try:
            while True:
                reason = await self._hold_one()
                self._went(reason)
                # Jitter against a herd, not a secret.
                await asyncio.sleep(self._backoff.delay(self._tries, random.random()))  # noqa: S311
                self._tries += 1
        finally:
            self._up.clear()
            link, self.link = self.link, None
            if link is not None:
                self.reason = BrokerUnavailable("The connection was closed.")
                await link.close()

    async def _hold_one(self) -> BrokerError:
        """Make one link and wait until it is gone."""
        try:
            link = await self._connect()
        except BrokerError as error:
            return error
        except Exception as error:  # noqa: BLE001 - logged; nothing else would ever end an outage
            if self._down_since is None:
                self._log.exception("broker_connect_failed")
            return BrokerUnavailable(f"There is no connection to the broker: {error!r}.")
        since = time.monotonic()
        self._came(link)
        try:
            reason = await link.wait_closed()
        finally:
            self._say_no_more()
        self.link = None
        self._up.clear()
        self.losses += 1
        if time.monotonic() - since >= self._backoff.cap:
            # Only a link that lasted proves that the trouble is over: what dies at once must not be retried at once.
            self._tries = 0
        return reason or BrokerUnavailable("The connection was closed.")

    def _came(self, link: L) -> None:
        if self._down_since is not None:
            self._saying = asyncio.get_running_loop().call_later(
                self._steady, self._say_connected, time.monotonic() - self._down_since
            )
        self.link, self.reason = link, None
        self._on_up(link)
        self._up.set()

    def _went(self, reason: BrokerError) -> None:
        if self._said is not type(reason):
            self._said = type(reason)
            self._log.warning(_EVENTS.get(type(reason), "broker_unavailable"), reason=str(reason))
        if self._down_since is None:
            self._down_since = time.monotonic()
        self.reason = reason
        self._on_down(reason)

    def _say_connected(self, after: float) -> None:
        self._down_since = self._said = None
        self._log.info("broker_connected", after_seconds=round(after, 1))

    def _say_no_more(self) -> None:
        if self._saying is not None:
            self._saying.cancel()
            self._saying = None
