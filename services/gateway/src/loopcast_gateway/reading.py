"""One pass over what the log has of an experiment: the segments that the index names, each proven where it begins."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from loopcast.broker.interface import Delivery
from loopcast.errors import LoopcastError
from loopcast.position import Anchor, Position, verify
from loopcast.routing import experiment_word
from loopcast_gateway.entry import Entry, recorded_by
from loopcast_gateway.history import History
from loopcast_gateway.partition import Partition
from loopcast_gateway.protocol import Reason
from loopcast_gateway.resume import Stretch
from loopcast_gateway.spans import Segment, total

__all__ = ["Lost", "Reading"]


FILTERED_MERGE = 100_000
"""Messages of others that a broker which filters skips in about the time that another read takes."""

SPARSE = 20
"""Messages for each event of the experiment, from which on filtering is worth a read that nobody shares."""

SPARSE_FROM = 4000
"""Messages to read: less is read at once anyway."""


class Lost(LoopcastError):
    """What was to be read is not there; the message is the reason as the protocol has it."""


class Reading:
    """
    The events of `experiment` (None is all) behind `after`, up to `until`, which this process has read.

    An `after` that is a position is proven, by whoever asks or here; where it is an offset, the log may begin later.
    Events of others may come too, and with `since` (microseconds since 1970) earlier ones.
    """

    def __init__(
        self,
        partition: Partition,
        history: History,
        experiment: str | None,
        after: Position | int,
        until: int,
        *,
        since: int = 0,
    ) -> None:
        self._partition = partition
        self._history = history
        self._after = after
        behind = after.offset if isinstance(after, Position) else after
        self._segments = partition.segments(experiment, behind, until, since=since)
        self._only: str | None = None
        if experiment is not None and history.filters:
            filtered = partition.segments(experiment, behind, until, since=since, merge=FILTERED_MERGE)
            if _is_sparse(filtered):
                self._only, self._segments = experiment_word(experiment), filtered
        self._lenient = not isinstance(after, Position)
        self._reached: int | None = None
        """An offset that was found to be there, where the stretch does not prove one."""
        self.scanned = 0
        """How many messages were read."""
        self.first: Position | None = None
        """The first message read, whatever it was."""
        self.last: Position | None = None
        """The last message read, whatever it was."""
        self.done = False
        """Whether everything was read."""

    @property
    def least(self) -> int:
        """
        How many messages are to be read, as far as that is known before.

        Where the broker leaves out what others have, nobody knows how much of it comes all the same: the chunks that
        have an event of the experiment, and those that its Bloom filter takes for such. Then it is the events alone.
        """
        if self._only is None:
            return total(self._segments)
        return sum(segment.events or 0 for segment in self._segments)

    async def batches(self) -> AsyncGenerator[list[Entry], None]:
        """
        The events, in log order, some of the batches empty.

        Raises:
            Lost: the log has lost some of them, or is another one.
            BrokerError: the log cannot be read.
        """
        if self._only is not None and isinstance(self._after, Position):
            # It may stand on what the filter leaves out.
            found = await self._history.first(self._partition.number, self._after.offset)
            if (verdict := verify(self._after, found.offset, found.message_id)) is not Anchor.PROVEN:
                raise Lost(verdict)
            self._after = self._reached = self._after.offset
        for segment in self._segments:
            stretch = self._stretch(segment)
            async for entries in self._read(stretch):
                self._lenient = self._lenient and not entries
                yield entries
            if stretch.verdict is Anchor.TRUNCATED and self._lenient:
                # The earliest there is was asked for, and the log begins later than the index knows.
                first = await self._history.first(self._partition.number, "first")
                self._partition.catalog.cut(first.offset, recorded_by(first))
                stretch = self._partition.stretch(segment.behind, segment.until)
                async for entries in self._read(stretch):
                    yield entries
            if stretch.verdict is not Anchor.PROVEN:
                raise Lost(stretch.verdict or Reason.UNAVAILABLE)
        self.done = True

    def _stretch(self, segment: Segment) -> Stretch:
        after = self._after
        if isinstance(after, Position) and segment.behind == after.offset:
            return self._partition.stretch(after, segment.until)
        if segment.first is not None:
            return self._partition.stretch(segment.first, segment.until, inclusive=True)
        return self._partition.stretch(segment.behind, segment.until)

    async def _read(self, stretch: Stretch) -> AsyncGenerator[list[Entry], None]:
        before = self.scanned
        reached = self._reached if stretch.anchor is None else None
        async for entries in self._history.read(self._partition.number, stretch, only=self._only, reached=reached):
            self.scanned = before + stretch.scanned
            if self.first is None and stretch.first is not None:
                self.first = self._position(stretch.first)
            if stretch.last is not None:
                self.last = self._position(stretch.last)
            yield entries

    def _position(self, delivery: Delivery) -> Position:
        return Position.of(self._partition.number, delivery.offset, delivery.message_id)


def _is_sparse(segments: Sequence[Segment]) -> bool:
    """Whether most of what is there to read is of others."""
    events = [segment.events for segment in segments]
    length = total(segments)
    return length >= SPARSE_FROM and None not in events and sum(filter(None, events)) * SPARSE <= length
