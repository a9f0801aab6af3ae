"""
History on request: pages of one partition or of all, put together in the order that was asked for.

A replay is an answer to a command. It has nothing to do with what the viewer follows, and goes on beside it.
"""

from __future__ import annotations

import heapq
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass, replace

from loopcast.history_query import MAX_LIMIT, MAX_TS, BadQuery, Query, places_of
from loopcast.position import Position
from loopcast.routing import ANYWHERE, partition_of
from loopcast_gateway.entry import Entry
from loopcast_gateway.pages import Page, Pages
from loopcast_gateway.protocol import ErrorName, Reason, Refused, Replay

__all__ = ["Reading", "Replays", "query_of"]


@dataclass(slots=True)
class Reading:
    """How far a replay came."""

    complete: bool = True
    """Whether these were all the events that were asked for."""
    next: str | list[str] | None = None
    """The position to ask with for more, one for each partition where there are several; None where there is none."""
    reason: Reason | None = None
    """Why events are missing for good that were asked for."""

    def took(self, page: Page) -> None:
        """Know of one page more."""
        self.reason = self.reason or page.reason
        self.complete, self.next = page.complete and self.reason is None, page.next


class Replays:
    """The history of one gateway."""

    def __init__(self, pages: Sequence[Pages]) -> None:
        self._pages = pages

    async def read(self, experiment: str, query: Query, reading: Reading) -> AsyncGenerator[list[Entry], None]:
        """
        The events of `experiment` (`*` is all), in batches; `reading` says afterwards what they were.

        Raises:
            Gone: the log does not prove a position that was given.
            BrokerError: the log cannot be read.
            TimeoutError: the same.
        """
        name, pages = self._of(experiment)
        if query.order == "newest":
            found = [await one.page(name, query) for one in pages]
            yield _merged(found, query, reading)
        elif len(pages) == 1:
            async for page in self._walk(pages[0], name, query, reading):
                yield list(page.entries)
        else:
            async for entries in self._together(pages, name, query, reading):
                yield entries

    async def page(self, experiment: str, query: Query, reading: Reading) -> list[Entry]:
        """As :meth:`read`, with one bounded scan of a partition: fewer events than asked for need not be the last."""
        name, pages = self._of(experiment)
        if len(pages) > 1:
            return [entry async for entries in self.read(experiment, query, reading) for entry in entries]
        page = await pages[0].page(name, query)
        reading.took(page)
        return list(page.entries)

    def _of(self, experiment: str) -> tuple[str | None, Sequence[Pages]]:
        if experiment == ANYWHERE:
            return None, self._pages
        return experiment, [self._pages[partition_of(experiment, len(self._pages))]]

    async def _walk(self, pages: Pages, name: str | None, query: Query, reading: Reading) -> AsyncGenerator[Page, None]:
        """Page after page of one partition, oldest first."""
        left = query.limit
        while True:
            page = await pages.page(name, replace(query, limit=min(left, MAX_LIMIT)))
            left -= len(page.entries)
            reading.took(page)
            yield page
            if page.complete or page.next is None or not left:
                return
            query = replace(query, after={pages.number: Position.parse(page.next)})
            if query.anchored and page.entries:
                # Behind its anchor, a replay takes what stands there, whatever its time.
                query = replace(query, since=None, anchored=False)

    async def _together(
        self, pages: Sequence[Pages], name: str | None, query: Query, reading: Reading
    ) -> AsyncGenerator[list[Entry], None]:
        """All partitions by the time of recording: each keeps its own order."""
        parts = [Reading() for _ in pages]
        lanes = [_one_by_one(self._walk(one, name, query, part)) for one, part in zip(pages, parts, strict=True)]
        heads = [(lane, await anext(lane, None)) for lane in lanes]
        waiting = [(head.recorded, number, head) for number, (_, head) in enumerate(heads) if head is not None]
        heapq.heapify(waiting)
        places = {number: str(position) for number, position in query.after.items()}
        batch: list[Entry] = []
        count = 0
        while waiting and count < query.limit:
            _, number, entry = waiting[0]
            batch.append(entry)
            places[number] = entry.pos
            count += 1
            following = await anext(lanes[number], None)
            if following is None:
                heapq.heappop(waiting)
            else:
                heapq.heapreplace(waiting, (following.recorded, number, following))
            if len(batch) >= MAX_LIMIT:
                yield batch
                batch = []
        reading.complete = not waiting and all(part.complete for part in parts)
        reading.reason = next((part.reason for part in parts if part.reason is not None), None)
        ahead = {number for _, number, _ in waiting}
        # Where nothing is left, what was looked at last is the place, though it may have been nothing to show.
        places |= {n: part.next for n, part in enumerate(parts) if n not in ahead and isinstance(part.next, str)}
        reading.next = [places[number] for number in sorted(places)] or None
        for lane in lanes:
            await lane.aclose()
        yield batch


async def _one_by_one(pages: AsyncIterator[Page]) -> AsyncGenerator[Entry, None]:
    async for page in pages:
        for entry in page.entries:
            yield entry


def _merged(pages: Sequence[Page], query: Query, reading: Reading) -> list[Entry]:
    entries = list(heapq.merge(*(page.entries for page in pages), key=lambda e: e.recorded, reverse=True))
    shown = entries[: query.limit] if len(pages) > 1 else entries
    reading.complete = all(page.complete for page in pages) and len(shown) == len(entries)
    reading.reason = next((page.reason for page in pages if page.reason is not None), None)
    if len(pages) == 1:
        reading.next = pages[0].next
        return shown
    places = {number: str(position) for number, position in query.before.items()}
    places |= {entry.partition: entry.pos for entry in shown}
    left = {entry.partition for entry in entries[len(shown) :]}
    places |= {n: page.next for n, page in enumerate(pages) if n not in left and page.next is not None}
    reading.next = [places[number] for number in sorted(places)] or None
    return shown


def query_of(command: Replay, partitions: range) -> Query:
    """
    What `command` asks for, of an experiment in `partitions`.

    Raises:
        Refused: a time or position is none, or two exclude each other.
    """
    if command.after is not None and command.before is not None:
        raise Refused(ErrorName.BAD_REQUEST, "Give one of after and before, not both.", command.id)
    for moment in (command.since_ts, command.until_ts):
        if moment is not None and not 0 <= moment < MAX_TS:
            raise Refused(ErrorName.BAD_REQUEST, f"Times are Unix seconds, not {moment}.", command.id)
    return Query(
        after=_places("after", command.after, partitions, command),
        before=_places("before", command.before, partitions, command),
        since=command.since_ts,
        until=command.until_ts,
        limit=command.limit,
        order=command.order or ("newest" if command.before is not None else "oldest"),
    )


def _places(name: str, given: str | list[str] | None, partitions: range, command: Replay) -> dict[int, Position]:
    tokens = [given] if isinstance(given, str) else given or []
    try:
        return places_of(name, tokens, partitions)
    except BadQuery as error:
        raise Refused(ErrorName.BAD_REQUEST, str(error), command.id) from None
