"""One client of the socket: a bounded queue, and a task that empties it."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Sequence

import msgspec

__all__ = ["SocketClient", "notice"]

CHUNK = 64 * 1024
DOOMED_SECONDS = 5.0
"""How long a client that was too slow may take for what is queued and the line that says why it ends."""


def notice(event: str, **members: object) -> bytes:
    """A line of the recorder's own, with the shape of an event."""
    return msgspec.json.encode({"event": event, **members}) + b"\n"


class SocketClient:
    """
    A connected client.

    `put` never waits. Over `limit` bytes the client is doomed: it gets what is queued and a line that says so, and no
    more. `dropped` counts the events that it was not given.
    """

    def __init__(self, writer: asyncio.StreamWriter, *, limit: int) -> None:
        self._writer = writer
        self._limit = limit
        self._queue: deque[bytes] = deque()
        self._bytes = 0
        self._ready = asyncio.Event()
        self._ending = False
        self._closed = False
        self.doomed = False
        self.dropped = 0
        # Nothing is buffered twice: what the kernel does not take stays in the queue that is counted.
        writer.transport.set_write_buffer_limits(high=CHUNK)
        self._task = asyncio.create_task(self._write())

    def put(self, lines: Sequence[bytes]) -> None:
        """Queue `lines`, or doom the client."""
        for at, line in enumerate(lines):
            if self.doomed or self._task.done():
                self.dropped += len(lines) - at
                return
            # An empty queue takes any one line, so that a large event cannot end every client.
            if self._queue and self._bytes + len(line) > self._limit:
                self._doom()
                self.dropped += len(lines) - at
                return
            self._queue.append(line)
            self._bytes += len(line)
        self._ready.set()

    async def finish(self, seconds: float) -> None:
        """Deliver what is queued, within `seconds`, and end the connection."""
        self._ending = True
        self._ready.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.wait([self._task])
        self.abort()

    def abort(self) -> None:
        """End the connection now; what is queued counts as dropped."""
        self._task.cancel()
        self.dropped += len(self._queue)
        self._queue.clear()
        if not self._closed:
            self._writer.transport.abort()

    async def wait_written(self) -> None:
        """Wait until nothing more will be written."""
        await asyncio.wait([self._task])

    def _doom(self) -> None:
        self.doomed = True
        self._queue.append(notice("loopcast.dropped", reason="slow client", queue_bytes=self._limit))
        self._ready.set()
        asyncio.get_running_loop().call_later(DOOMED_SECONDS, self._task.cancel)

    async def _write(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                while self._queue:
                    self._writer.write(self._chunk())
                    await self._writer.drain()
                if self._ending or self.doomed:
                    break
                self._ready.clear()
                await self._ready.wait()
            self._writer.close()
            await self._writer.wait_closed()
        self._closed = True

    def _chunk(self) -> bytes:
        taken, size = [], 0
        while self._queue and size < CHUNK:
            taken.append(self._queue.popleft())
            size += len(taken[-1])
        self._bytes -= size
        return b"".join(taken)
