"""
Who sees what: experiments to viewers, and each batch of the log to all who follow it.

Pure: a viewer is anything with :meth:`Viewer.put`. A subscription has a *lane* in each partition that it covers (one
for an experiment, all for `*`). A lane is live, and then :meth:`Hub.dispatch` feeds it; or it is catching up, and then
whoever replays its history calls :meth:`Hub.go_live` in the same step in which it has sent all that there is.

A viewer of `*` that also follows `e` by itself gets an event of `e` that came after it began to follow `e` by the lane
of `e` alone; what came before is in each history that was asked for. So when `e` is unsubscribed while one of the two
is still catching up, the lane of `e` *lingers* until both are live: what it has not sent yet, nobody else will. Of what
the filter of `e` keeps out, the lane of `*` sends what its own filter admits.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from loopcast.routing import ANYWHERE, partition_of
from loopcast_gateway.audience import Audience
from loopcast_gateway.entry import Entry
from loopcast_gateway.filters import Filter

if TYPE_CHECKING:
    from loopcast_gateway.dialects import Dialect
    from loopcast_gateway.protocol import Frame

__all__ = ["Hub", "Lane", "Subscription", "Viewer"]


class Viewer(Protocol):
    """One connection, as the hub sees it."""

    @property
    def dialect(self) -> Dialect:
        """How it wants to be spoken to."""
        ...

    def say(self, frame: Frame) -> None:
        """Take a frame to send, unless its dialect has none such; as :meth:`put`."""
        ...

    def put(self, chunk: bytes) -> None:
        """Take bytes to send; never waits, never fails, changes no subscription."""
        ...


UNPLACED = sys.maxsize
"""The origin of a lane whose log is not known yet: nothing is its to send."""


class Lane:
    """How far a subscription is in one partition."""

    __slots__ = ("cursor", "live", "origin", "partition")

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.cursor = -1
        """While catching up: the offset up to which nothing is left to send."""
        self.origin = UNPLACED
        """What comes after this offset is this lane's to send, and not that of the viewer's `*`."""
        self.live = False


class Subscription:
    """That a viewer follows one experiment, or `*`."""

    __slots__ = ("coalesce_ms", "experiment", "filter", "lanes", "lingers", "viewer")

    def __init__(
        self, viewer: Viewer, experiment: str, lanes: tuple[Lane, ...], filter_: Filter | None, coalesce_ms: int
    ) -> None:
        self.viewer = viewer
        self.experiment = experiment
        self.lanes = lanes
        self.filter = filter_
        self.coalesce_ms = coalesce_ms
        self.lingers = False

    @property
    def live(self) -> bool:
        """Whether every lane is."""
        return all(lane.live for lane in self.lanes)

    def lane(self, partition: int) -> Lane:
        """Its lane in `partition`."""
        return self.lanes[0] if len(self.lanes) == 1 else self.lanes[partition]

    def admits(self, entry: Entry) -> bool:
        """Whether it wants an event of its experiment."""
        return self.filter is None or self.filter.wants(entry)


class Hub:
    """The subscriptions of one process, over a log of `partitions`."""

    def __init__(self, partitions: int) -> None:
        self.partitions = partitions
        self.coalesced = 0
        """How many deliveries were of subscriptions that let events wait for others."""
        self._of: dict[Viewer, dict[str, Subscription]] = {}
        self._channels: dict[str, Audience] = {}
        # Viewers whose `*` is live: `plain` follow nothing else, `mixed` follow experiments of their own too.
        self._plain = [Audience() for _ in range(partitions)]
        self._mixed: list[dict[Viewer, None]] = [{} for _ in range(partitions)]

    def get(self, viewer: Viewer, experiment: str) -> Subscription | None:
        """The subscription, lingering or not."""
        return self._of.get(viewer, {}).get(experiment)

    def count(self, viewer: Viewer) -> int:
        """How many subscriptions `viewer` has."""
        return sum(not s.lingers for s in self._of.get(viewer, {}).values())

    def coalesce_ms(self, viewer: Viewer) -> int:
        """How long `viewer` may be kept waiting: as long as the least patient of its subscriptions allows."""
        return min((s.coalesce_ms for s in self._of.get(viewer, {}).values()), default=0)

    def followers(self) -> Mapping[str, int]:
        """Live viewers by experiment, `*` among them."""
        everything = len(self._plain[0]) + len(self._mixed[0])
        named = {experiment: len(viewers) for experiment, viewers in self._channels.items()}
        return {**named, ANYWHERE: everything} if everything else named

    def covered(self, experiment: str) -> range:
        """The partitions in which `experiment` has events."""
        if experiment == ANYWHERE:
            return range(self.partitions)
        partition = partition_of(experiment, self.partitions)
        return range(partition, partition + 1)

    def add(
        self, viewer: Viewer, experiment: str, *, filter_: Filter | None = None, coalesce_ms: int = 0
    ) -> Subscription:
        """
        Subscribe. Nothing is sent before :meth:`place`.

        Raises:
            ValueError: `viewer` follows `experiment` already, or still lingers on it.
        """
        mine = self._of.setdefault(viewer, {})
        if experiment in mine:
            raise ValueError(experiment)
        lanes = tuple(Lane(n) for n in self.covered(experiment))
        subscription = mine[experiment] = Subscription(viewer, experiment, lanes, filter_, coalesce_ms)
        self._sort(viewer)
        return subscription

    def place(self, subscription: Subscription, cursors: Mapping[int, int], tails: Sequence[int]) -> None:
        """
        Let it catch up from `cursors`: the offset in each covered partition above which events are wanted.

        `tails` are the last offsets dispatched, by partition.
        """
        for lane in subscription.lanes:
            lane.cursor, lane.origin = cursors[lane.partition], tails[lane.partition]

    def go_live(self, subscription: Subscription, lane: Lane) -> None:
        """From now on, :meth:`dispatch` feeds this lane."""
        lane.live = True
        viewer = subscription.viewer
        if subscription.experiment == ANYWHERE:
            if len(self._of[viewer]) > 1:
                self._mixed[lane.partition][viewer] = None
            else:
                self._plain[lane.partition].add(subscription)
        else:
            self._channels.setdefault(subscription.experiment, Audience()).add(subscription)
        self._end_lingering(viewer)

    def active(self, subscription: Subscription) -> bool:
        """Whether the subscription still is one, lingering or not."""
        return self._of.get(subscription.viewer, {}).get(subscription.experiment) is subscription

    def remove(self, viewer: Viewer, experiment: str) -> bool:
        """Unsubscribe; False where there was nothing to."""
        subscription = self.get(viewer, experiment)
        if subscription is None or subscription.lingers:
            return False
        lane = subscription.lanes[0]
        if experiment != ANYWHERE and lane.origin != UNPLACED and self.get(viewer, ANYWHERE) is not None:
            lane.cursor = max(lane.cursor, lane.origin)
            subscription.lingers = True
            self._end_lingering(viewer)
            return True
        self._forget(subscription)
        if experiment == ANYWHERE:
            for other in [s for s in self._of.get(viewer, {}).values() if s.lingers]:
                self._forget(other)
        return True

    def followed(self, viewer: Viewer) -> list[str]:
        """What `viewer` follows, or still lingers on."""
        return list(self._of.get(viewer, {}))

    def end(self, viewer: Viewer, experiment: str) -> None:
        """Unsubscribe at once: what was not sent yet is not sent."""
        subscription = self.get(viewer, experiment)
        if subscription is not None:
            self._forget(subscription)

    def drop(self, viewer: Viewer) -> None:
        """Forget a viewer that went."""
        for subscription in list(self._of.get(viewer, {}).values()):
            self._forget(subscription)

    def subscriptions(self, partition: int) -> list[Subscription]:
        """Every subscription that covers `partition`."""
        return [
            s
            for mine in self._of.values()
            for s in mine.values()
            if any(lane.partition == partition for lane in s.lanes)
        ]

    def unsent(self, subscription: Subscription, entries: Iterable[Entry]) -> list[Entry]:
        """Of events that a lane which is catching up finds in its way, those that are its to send, in their order."""
        mine = self._of[subscription.viewer]
        if subscription.experiment != ANYWHERE:
            floor, experiment = subscription.lanes[0].cursor, subscription.experiment
            found = [e for e in entries if e.offset > floor and e.experiment == experiment]
        else:
            found = [e for e in entries if e.offset > subscription.lane(e.partition).cursor]
            if len(mine) > 1:
                found = [e for e in found if not _left_to(mine.get(e.experiment), e)]
        return found if subscription.filter is None else [e for e in found if subscription.admits(e)]

    def dispatch(self, partition: int, entries: Sequence[Entry]) -> int:
        """Give new events of `partition` to all who follow them; how many deliveries that makes."""
        channels, several = self._channels, self.partitions > 1
        grouped: dict[str, list[Entry]] = {}
        for entry in entries:
            if entry.experiment in channels:
                grouped.setdefault(entry.experiment, []).append(entry)
        sent = [channels[experiment].send(its, several=several) for experiment, its in grouped.items()]
        sent.append(self._plain[partition].send(entries, several=several))
        sent += [self._send_the_rest(viewer, entries) for viewer in self._mixed[partition]]
        self.coalesced += sum(patient for _, patient in sent)
        return sum(deliveries for deliveries, _ in sent)

    def _send_the_rest(self, viewer: Viewer, entries: Sequence[Entry]) -> tuple[int, int]:
        """Give a viewer of a live `*` what none of its other subscriptions sends."""
        mine, dialect, several = self._of[viewer], viewer.dialect, self.partitions > 1
        everything = mine[ANYWHERE]
        wanted = [e for e in entries if everything.admits(e) and not _left_to(mine.get(e.experiment), e)]
        for chunk in dialect.join([dialect.live(entry, several=several) for entry in wanted]):
            viewer.put(chunk)
        return len(wanted), len(wanted) if everything.coalesce_ms else 0

    def _sort(self, viewer: Viewer) -> None:
        """Keep a viewer of a live `*` among the plain or the mixed, as it now is."""
        mine = self._of.get(viewer, {})
        everything = mine.get(ANYWHERE)
        if everything is None:
            return
        for plain, mixed in zip(self._plain, self._mixed, strict=True):
            if len(mine) > 1 and plain.discard(everything):
                mixed[viewer] = None
            elif len(mine) == 1 and viewer in mixed:
                del mixed[viewer]
                plain.add(everything)

    def _end_lingering(self, viewer: Viewer) -> None:
        mine = self._of[viewer]
        everything = mine.get(ANYWHERE)
        for subscription in [s for s in mine.values() if s.lingers]:
            lane = subscription.lanes[0]
            if everything is None or (lane.live and everything.lane(lane.partition).live):
                self._forget(subscription)

    def _forget(self, subscription: Subscription) -> None:
        viewer, experiment = subscription.viewer, subscription.experiment
        mine = self._of[viewer]
        del mine[experiment]
        if experiment == ANYWHERE:
            for plain, mixed in zip(self._plain, self._mixed, strict=True):
                plain.discard(subscription)
                mixed.pop(viewer, None)
        elif (channel := self._channels.get(experiment)) is not None:
            channel.discard(subscription)
            if not channel:
                del self._channels[experiment]
        if not mine:
            del self._of[viewer]
        else:
            self._sort(viewer)


def _left_to(own: Subscription | None, entry: Entry) -> bool:
    """Whether `own`, the subscription to the event's experiment, sends it, and not that of the viewer's `*`."""
    return own is not None and entry.offset > own.lanes[0].origin and own.admits(entry)
