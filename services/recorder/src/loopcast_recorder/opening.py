"""
Reading a stream from where a sink is in it, proven to be the stream that the sink knows.

A stream answers a wrong offset with silence, so a position is proven by reading the message at it once more. Where
that comes to nothing, the stream is asked whether it has anything at all: only one that answers is another stream.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Sequence

from loopcast.broker.interface import Client, Delivery
from loopcast.broker.log import LogReader
from loopcast.errors import BrokerError
from loopcast.position import Anchor, Position, verify

__all__ = ["SILENCE_SECONDS", "Opening"]

SILENCE_SECONDS = 5.0
"""How long a stream may take to give what lies in it."""

ReaderOf = Callable[[], LogReader]


class Opening:
    """
    The beginning of a reading.

    After :meth:`begin`, `batches` gives what lies behind the position, and `verdict` says what the position proved:
    behind a `TRUNCATED` one events are missing, and an `EPOCH_CHANGED` one is of another log, which is read from its
    beginning.
    """

    def __init__(
        self, client: Client, url: str, stream: str, reader: ReaderOf, *, silence_seconds: float = SILENCE_SECONDS
    ) -> None:
        self._client = client
        self._url = url
        self._stream = stream
        self._reader = reader
        self._silence = silence_seconds
        self._open: LogReader | None = None
        self.verdict = Anchor.PROVEN

    @property
    def reader(self) -> LogReader | None:
        """What reads now."""
        return self._open

    async def batches(
        self, position: Position | None, on_verdict: Callable[[Anchor], object]
    ) -> AsyncGenerator[Sequence[Delivery], None]:
        """
        What the stream has behind `position`, in batches, for ever; `on_verdict` is told before the first of them.

        Raises:
            LogChanged: after a reconnect the log was not what it was.
        """
        if position is not None:
            async with contextlib.aclosing(self._from(position.offset)) as read:
                first = await self._first(read)
                self.verdict = _verdict(position, first)
                if self.verdict is not Anchor.EPOCH_CHANGED:
                    on_verdict(self.verdict)
                    assert first is not None
                    yield first[1:] if self.verdict is Anchor.PROVEN else first
                    async for batch in read:
                        yield batch
                    return
            on_verdict(self.verdict)
        async with contextlib.aclosing(self._from("first")) as read:
            async for batch in read:
                yield batch

    async def close(self) -> None:
        """End the reading after the batch that it is at."""
        if self._open is not None:
            await self._open.close()

    async def _from(self, start: int | str) -> AsyncGenerator[Sequence[Delivery], None]:
        async with self._reader() as reader, contextlib.aclosing(reader.batches(start)) as read:
            self._open = reader
            async for batch in read:
                yield batch

    async def _first(self, read: AsyncGenerator[Sequence[Delivery], None]) -> Sequence[Delivery] | None:
        """The first batch; None where the stream answers others and not this."""
        task: asyncio.Task[Sequence[Delivery]] = asyncio.create_task(_next(read))
        try:
            answered = 0
            while not task.done():
                await asyncio.wait([task], timeout=self._silence)
                if task.done():
                    break
                # Twice: the first silence may have been a broker that was only slow.
                answered = answered + 1 if self._connected and await self._answers() else 0
                if answered == 2:
                    return None
            return await task
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait([task])

    @property
    def _connected(self) -> bool:
        return self._open is not None and self._open.connected

    async def _answers(self) -> bool:
        came = asyncio.Event()
        try:
            link = await self._client.open_consumer(
                self._url, self._stream, lambda _: came.set(), name="loopcast-recorder probe", prefetch=1,
                offset="first",
            )  # fmt: skip
        except BrokerError:
            return False
        try:
            await asyncio.wait_for(came.wait(), self._silence)
        except TimeoutError:
            return False
        finally:
            await link.close()
        return True


async def _next(read: AsyncGenerator[Sequence[Delivery], None]) -> Sequence[Delivery]:
    return await anext(read, ())


def _verdict(position: Position, first: Sequence[Delivery] | None) -> Anchor:
    if first is None:
        return Anchor.EPOCH_CHANGED
    if not first:
        # Closed before anything came: nothing is known, and nothing will be read.
        return Anchor.PROVEN
    return verify(position, first[0].offset, first[0].message_id)
