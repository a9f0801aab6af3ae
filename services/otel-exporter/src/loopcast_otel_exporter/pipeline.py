"""
From folded outputs to the backend, and then to the checkpoint, in this order and one batch at a time.

While one batch is on its way the next is folded, no more: the caller waits, so what is in memory is bounded by two
batches. A checkpoint is what the state was when its batch was cut, and is written when the backend has that batch; the
metrics of that state go out after it, so that a replica that takes over never shows a count going back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence

from loopcast_otel_exporter.encoding import encode_log, encode_span
from loopcast_otel_exporter.sender import Bury, Sender
from loopcast_otel_exporter.signals import Output

__all__ = ["Pipeline", "chunks"]

After = Callable[[], Awaitable[None]]
"""What is done when the backend has a batch and all before it."""


class Pipeline:
    """Collects encoded items and delivers them; without a sender, a signal is left out."""

    def __init__(
        self, traces: Sender | None, logs: Sender | None, bury: Bury, *, max_items: int, max_bytes: int
    ) -> None:
        self._senders = (traces, logs)
        self._bury = bury
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._items: tuple[list[bytes], list[bytes]] = ([], [])
        self._size = 0
        self._flight: asyncio.Task[None] | None = None

    @property
    def is_full(self) -> bool:
        """Whether what was collected makes a request."""
        return self._size >= self._max_bytes or max(map(len, self._items)) >= self._max_items

    @property
    def is_empty(self) -> bool:
        """Whether nothing was collected."""
        return self._size == 0

    @property
    def is_settled(self) -> bool:
        """Whether nothing is on its way."""
        return self._flight is None or self._flight.done()

    @property
    def is_failing(self) -> bool:
        """Whether the backend is away, as far as the last try tells."""
        return any(sender is not None and sender.failing is not None for sender in self._senders)

    def add(self, output: Output) -> None:
        """Collect what came out of the fold."""
        traces, logs = self._senders
        if traces is not None:
            self._collect(0, map(encode_span, output.spans))
        if logs is not None:
            self._collect(1, map(encode_log, output.logs))

    async def flush(self, after: After | None = None) -> None:
        """Hand over what was collected as soon as the batch before has been taken; `after` is done behind it."""
        await self.settle()
        items, self._items, self._size = self._items, ([], []), 0
        self._flight = asyncio.create_task(self._deliver(items, after))

    async def settle(self) -> None:
        """Wait until all that was handed over has been taken, and what was to be done behind it is done."""
        if self._flight is not None:
            await asyncio.wait([self._flight])
            flight, self._flight = self._flight, None
            flight.result()

    async def close(self) -> None:
        """Give up what is on its way: the log still has it."""
        if self._flight is not None:
            self._flight.cancel()
            await asyncio.wait([self._flight])
            self._flight = None

    def _collect(self, which: int, encoded: Iterator[bytes]) -> None:
        for item in encoded:
            self._items[which].append(item)
            self._size += len(item)

    async def _deliver(self, items: tuple[list[bytes], list[bytes]], after: After | None) -> None:
        async with asyncio.TaskGroup() as group:
            for sender, mine in zip(self._senders, items, strict=True):
                if sender is not None and mine:
                    group.create_task(self._send(sender, mine))
        if after is not None:
            await after()

    async def _send(self, sender: Sender, items: Sequence[bytes]) -> None:
        for chunk in chunks(items, self._max_items, self._max_bytes):
            await sender.send(chunk, self._bury)


def chunks(items: Sequence[bytes], max_items: int, max_bytes: int) -> Iterator[Sequence[bytes]]:
    """`items` in their order, in parts within both limits; what is larger alone than the limit goes alone."""
    start, size = 0, 0
    for index, item in enumerate(items):
        if index > start and (index - start >= max_items or size + len(item) > max_bytes):
            yield items[start:index]
            start, size = index, 0
        size += len(item)
    if start < len(items):
        yield items[start:]
