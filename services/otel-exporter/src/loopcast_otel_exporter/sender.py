"""
Getting items to a backend, however long it is away: again and again, halving what it will not take.

Whoever calls waits meanwhile, and so reads no more of the log: the log is the buffer, and memory does not grow. An item
that alone is refused goes to the dead letters with the reason, and the rest goes on.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import assert_never

import structlog

from loopcast.broker.supervisor import Backoff
from loopcast_otel_exporter.answers import Again, Never, Taken
from loopcast_otel_exporter.encoding import request_of
from loopcast_otel_exporter.instruments import Instruments
from loopcast_otel_exporter.transport import Signal, Transport

__all__ = ["Bury", "Sender"]

log = structlog.get_logger(__name__)

FIRST_SECONDS = 1.0
CAP_SECONDS = 30.0

Bury = Callable[[Signal, bytes, str, int], Awaitable[None]]
"""Put a request into the dead letters: its signal, its bytes, the reason, how many of its items were refused."""


class Sender:
    """Sends items of one signal; `head` is what a request puts around them."""

    def __init__(
        self,
        transport: Transport,
        signal: Signal,
        head: tuple[bytes, bytes],
        instruments: Instruments,
        *,
        backoff: Backoff | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._transport = transport
        self._signal = signal
        self._head = head
        self._instruments = instruments
        self._backoff = backoff or Backoff(FIRST_SECONDS, CAP_SECONDS)
        self._chance = chance
        self.failing: str | None = None
        """Why the last try failed; None while the backend takes what it gets."""

    async def send(self, items: Sequence[bytes], bury: Bury) -> None:
        """Return when the backend has each of `items`, or the dead letters have it."""
        request = request_of(self._head, items)
        answer = await self._try(request)
        if isinstance(answer, Taken):
            self._instruments.exported(self._signal, len(items) - answer.rejected)
            if answer.rejected:
                # Which ones is not said, so the whole request is kept; to send it again is forbidden.
                log.warning("partial_success", signal=self._signal, rejected=answer.rejected, reason=answer.message)
                await self._bury(request, answer.message or "partial success", answer.rejected, bury)
        elif len(items) == 1:
            log.warning("refused", signal=self._signal, reason=answer.reason)
            await self._bury(request, answer.reason, 1, bury)
        else:
            half = len(items) // 2
            await self.send(items[:half], bury)
            await self.send(items[half:], bury)

    async def _try(self, request: bytes) -> Taken | Never:
        tries = 0
        while True:
            started = time.perf_counter()
            answer = await self._transport.export(self._signal, request)
            self._instruments.answered(self._signal, answer, time.perf_counter() - started)
            match answer:
                case Again():
                    await self._wait(answer, tries)
                    tries += 1
                case Taken() | Never():
                    self._recovered()
                    return answer
                case _:
                    assert_never(answer)

    async def _wait(self, answer: Again, tries: int) -> None:
        if self.failing is None:
            hint = "does it run, and is its address right? nothing is lost meanwhile"
            log.warning("backend_away", signal=self._signal, reason=answer.reason, hint=hint)
        self.failing = answer.reason
        delay = self._backoff.delay(tries, self._chance())
        await asyncio.sleep(max(delay, answer.after or 0.0))

    def _recovered(self) -> None:
        if self.failing is not None:
            log.info("backend_back", signal=self._signal)
        self.failing = None

    async def _bury(self, request: bytes, reason: str, rejected: int, bury: Bury) -> None:
        await bury(self._signal, request, reason, rejected)
        self._instruments.buried(self._signal, rejected)
