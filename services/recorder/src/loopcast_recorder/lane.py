"""
One sink reading one partition: a connection of its own, so that no sink waits for another.

A sink that fails is asked again, from what it has kept, after a growing pause. Meanwhile its reader holds no more than
the broker's prefetch, and the log keeps the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import structlog

from loopcast.broker.interface import Client, Delivery
from loopcast.broker.log import LogReader
from loopcast.errors import BrokerError, LogChanged, StorageError
from loopcast.holes import HINT, Holes
from loopcast.lag import Lag, recorded_at
from loopcast.position import Anchor
from loopcast.settings import PLACES
from loopcast.telemetry import Telemetry
from loopcast_recorder.instruments import Instruments
from loopcast_recorder.opening import SILENCE_SECONDS, Opening
from loopcast_recorder.sinks import Sink, Written

__all__ = ["Lane", "Thread"]

PREFETCH = 5_000
"""Events in the air; also about the most that one transaction holds."""
MIN_PAUSE, MAX_PAUSE = 0.5, 5.0
TICK_SECONDS = 1.0

# Not bound to a sink's name when that is made: logs are configured later than objects.
log = structlog.get_logger(__name__)

T = TypeVar("T")


class Thread:
    """The thread that a sink's calls run in, one at a time, so that a slow disk stops nothing else."""

    def __init__(self, sink: Sink, instruments: Instruments) -> None:
        self.sink = sink
        self.instruments = instruments
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=f"sink-{sink.name}")
        self._ticking: asyncio.Task[None] | None = None
        self._failed = False
        self._holes = Holes()

    @property
    def failing(self) -> bool:
        """Whether the sink did not take the last that it was given."""
        return self._failed

    async def __aenter__(self) -> Thread:
        self._ticking = asyncio.create_task(self._tick())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._ticking is not None:
            self._ticking.cancel()
            await asyncio.wait([self._ticking])
        with contextlib.suppress(StorageError):
            await self.call(self.sink.close)
        self._pool.shutdown(wait=True)

    async def call(self, work: Callable[[], T], *, proves: bool = False) -> T:
        """
        Run `work` in the thread; `proves` is work whose success means that the sink takes events again.

        Raises:
            StorageError: the sink did not take it; counted and told.
        """
        try:
            result = await asyncio.get_running_loop().run_in_executor(self._pool, work)
        except StorageError as error:
            self.instruments.failed()
            if not self._failed:
                hint = f"its place stands in {PLACES[self.sink.name]}; it is tried again, and the log has the events"
                log.error("sink_failing", sink=self.sink.name, reason=str(error), hint=hint)  # noqa: TRY400 - no defect
            self._failed = True
            raise
        if proves and self._failed:
            self._failed = False
            log.info("sink_works_again", sink=self.sink.name)
            self.instruments.recovered()
        return result

    def tell(self, written: Written | None = None) -> None:
        """Say what never came, of `written` and of before, where a line of it is due."""
        for hole in written.holes if written is not None else ():
            self._holes.add(hole)
        if (missing := self._holes.due(time.monotonic())) is not None:
            log.warning(
                "events_never_came", sink=self.sink.name, events=missing.events, runs=missing.runs,
                experiment=missing.last.experiment, run=missing.last.run, hint=HINT,
            )  # fmt: skip

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            self.tell()
            with contextlib.suppress(StorageError):
                await self.call(self.sink.tick)


class Lane:
    """Keeps one partition in one sink, for as long as :meth:`run` runs."""

    def __init__(
        self,
        client: Client,
        url: str,
        stream: str,
        partition: int,
        thread: Thread,
        *,
        telemetry: Telemetry,
        prefetch: int = PREFETCH,
        silence_seconds: float = SILENCE_SECONDS,
    ) -> None:
        self._client = client
        self._url = url
        self._stream = stream
        self._partition = partition
        self._thread = thread
        self._sink = thread.sink
        self._telemetry = telemetry
        self._prefetch = prefetch
        self._silence = silence_seconds
        self._opening: Opening | None = None
        self._lag = Lag(time.time())
        self._waiting_since: float | None = None
        self._stopping = False
        self._pause = MIN_PAUSE

    @property
    def connected(self) -> bool:
        """Whether the partition is being read."""
        reader = None if self._opening is None else self._opening.reader
        return reader is not None and reader.connected

    @property
    def thread(self) -> Thread:
        """What the sink's calls run in."""
        return self._thread

    @property
    def partition(self) -> int:
        """Which partition it keeps."""
        return self._partition

    @property
    def reason(self) -> BrokerError | None:
        """Why it is not being read."""
        reader = None if self._opening is None else self._opening.reader
        return None if reader is None else reader.reason

    def lag(self) -> float:
        """How old the oldest event is that is not kept, in seconds."""
        now, tick = time.time(), time.monotonic()
        if self._waiting_since is None:
            return self._lag.seconds(now)
        if not self.connected:
            # What came meanwhile is not known before the stream has had its time to say so.
            self._waiting_since = tick
        elif tick - self._waiting_since >= self._silence:
            self._lag.idle(now)
        return self._lag.seconds(now)

    async def run(self) -> None:
        """Keep what comes until :meth:`stop`."""
        self._thread.instruments.reading(self._partition, self.lag)
        try:
            await self._keep()
        finally:
            self._thread.instruments.left(self._partition)

    async def _keep(self) -> None:
        while not self._stopping:
            try:
                await self._record()
            except LogChanged as changed:
                log.warning("log_changed", sink=self._sink.name, partition=self._partition, reason=str(changed))
            except StorageError:
                await self._rest()
            except Exception:
                # A defect of ours in one sink is no reason to stop, and the next try begins with what is kept.
                log.exception("sink_defect", sink=self._sink.name, partition=self._partition)
                self._thread.instruments.failed()
                await self._rest()

    async def stop(self) -> None:
        """End the reading after the batch that is being written."""
        self._stopping = True
        if self._opening is not None:
            await self._opening.close()

    async def _rest(self) -> None:
        pause, self._pause = self._pause, min(MAX_PAUSE, self._pause * 2)
        await asyncio.sleep(pause)

    async def _record(self) -> None:
        position = await self._thread.call(lambda: self._sink.resume(self._partition))
        if self._stopping:
            return
        self._waiting_since = time.monotonic()
        self._opening = opening = Opening(
            self._client, self._url, self._stream, self._reader, silence_seconds=self._silence
        )
        verdicts: list[Anchor] = []
        async with contextlib.aclosing(opening.batches(position, verdicts.append)) as batches:
            async for batch in batches:
                while verdicts:
                    await self._judge(verdicts.pop())
                if batch:
                    await self._write(batch)
                self._waiting_since = time.monotonic()

    async def _judge(self, verdict: Anchor) -> None:
        if verdict is Anchor.PROVEN:
            return
        hint = "the log lost them before they were recorded"
        log.error("events_missing", sink=self._sink.name, partition=self._partition, reason=verdict.value, hint=hint)
        anew = verdict is Anchor.EPOCH_CHANGED
        await self._thread.call(lambda: self._sink.gap(self._partition, verdict.value, anew=anew))
        self._thread.instruments.gap(verdict.value)

    async def _write(self, batch: Sequence[Delivery]) -> None:
        self._waiting_since = None
        self._lag.reached(recorded_at(batch[0]))
        began = time.monotonic()
        with self._telemetry.reading(self._stream, batch):
            written = await self._thread.call(lambda: self._sink.write(self._partition, batch), proves=True)
        self._pause = MIN_PAUSE
        if written.holes:
            self._thread.tell(written)
        self._lag.reached(recorded_at(batch[-1]))
        self._thread.instruments.wrote(
            written, partition=self._partition, offset=batch[-1].offset, seconds=time.monotonic() - began
        )

    def _reader(self) -> LogReader:
        name = f"loopcast-recorder {self._sink.name} {self._stream}"
        # A look costs a connection, so it is for silences that are longer than a broker's hesitation.
        patience = 3 * self._silence
        return LogReader(
            self._client, self._url, self._stream, name=name, prefetch=self._prefetch, silent_seconds=patience
        )
