"""
Who sees what: experiments to viewers, and each batch of the log to all who follow it.

Pure: a viewer is anything with :meth:`Viewer.put`. A subscription has a *lane* in each partition that it covers (one
for an experiment, all for `*`). A lane is live, and then :meth:`Hub.dispatch` feeds it; or it is catching up, and then
whoever replays its history calls :meth:`Hub.go_live` in the same step in which it has sent all that there is.

A viewer of `*` that also follows `e` by itself gets an event of `e` that came after it began to follow `e` by the lane
of `e` alone; what came before is in each history that was asked for. So when `e` is unsubscribed while one of the two
is still catching up, the lane of `e` *lingers* until both are live: what it has not sent yet, nobody else will.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from loopcast.routing import ANYWHERE, partition_of
from loopcast_gateway.entry import Entry
from loopcast_gateway.frames import join

__all__ = ["Hub", "Lane", "Subscription", "Viewer"]


class Viewer(Protocol):
    """One connection, as the hub sees it."""

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

    __slots__ = ("experiment", "lanes", "lingers", "viewer")

    def __init__(self, viewer: Viewer, experiment: str, lanes: tuple[Lane, ...]) -> None:
        self.viewer = viewer
        self.experiment = experiment
        self.lanes = lanes
        self.lingers = False

    @property
    def live(self) -> bool:
        """Whether every lane is."""
        return all(lane.live for lane in self.lanes)

    def lane(self, partition: int) -> Lane:
        """Its lane in `partition`."""
        return self.lanes[0] if len(self.lanes) == 1 else self.lanes[partition]


class Hub:
    """The subscriptions of one process, over a log of `partitions`."""

    def __init__(self, partitions: int) -> None:
        self.partitions = partitions
        self._of: dict[Viewer, dict[str, Subscription]] = {}
        self._channels: dict[str, dict[Viewer, None]] = {}
        # Viewers whose `*` is live: `plain` follow nothing else, `mixed` follow experiments of their own too.
        self._plain: list[dict[Viewer, None]] = [{} for _ in range(partitions)]
        self._mixed: list[dict[Viewer, None]] = [{} for _ in range(partitions)]

    def get(self, viewer: Viewer, experiment: str) -> Subscription | None:
        """The subscription, lingering or not."""
        return self._of.get(viewer, {}).get(experiment)

    def count(self, viewer: Viewer) -> int:
        """How many subscriptions `viewer` has."""
        return sum(not s.lingers for s in self._of.get(viewer, {}).values())

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

    def add(self, viewer: Viewer, experiment: str) -> Subscription:
        """
        Subscribe. Nothing is sent before :meth:`place`.

        Raises:
            ValueError: `viewer` follows `experiment` already, or still lingers on it.
        """
        mine = self._of.setdefault(viewer, {})
        if experiment in mine:
            raise ValueError(experiment)
        lanes = tuple(Lane(n) for n in self.covered(experiment))
        subscription = mine[experiment] = Subscription(viewer, experiment, lanes)
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
            mixed = len(self._of[viewer]) > 1
            (self._mixed if mixed else self._plain)[lane.partition][viewer] = None
        else:
            self._channels.setdefault(subscription.experiment, {})[viewer] = None
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
            floor = subscription.lanes[0].cursor
            return [e for e in entries if e.offset > floor and e.experiment == subscription.experiment]
        found = [e for e in entries if e.offset > subscription.lane(e.partition).cursor]
        if len(mine) == 1:
            return found
        return [e for e in found if (own := mine.get(e.experiment)) is None or e.offset <= own.lanes[0].origin]

    def dispatch(self, partition: int, entries: Sequence[Entry]) -> int:
        """Give new events of `partition` to all who follow them; how many deliveries that makes."""
        plain, mixed, channels = self._plain[partition], self._mixed[partition], self._channels
        several = self.partitions > 1
        everybody = bool(plain or mixed)
        frames: list[tuple[str, bytes]] = []
        grouped: dict[str, list[bytes]] = {}
        for entry in entries:
            wanted = entry.experiment in channels
            if not (wanted or everybody):
                continue
            frame = entry.live_frame(several=several)
            frames.append((entry.experiment, frame))
            if wanted:
                grouped.setdefault(entry.experiment, []).append(frame)
        deliveries = sum(_put(channels[experiment], its) for experiment, its in grouped.items())
        if plain:
            deliveries += _put(plain, [frame for _, frame in frames])
        for viewer in mixed:
            own = {experiment for experiment, s in self._of[viewer].items() if s.lanes[0].origin != UNPLACED}
            deliveries += _put((viewer,), [frame for experiment, frame in frames if experiment not in own])
        return deliveries

    def _sort(self, viewer: Viewer) -> None:
        """Keep a viewer of a live `*` among the plain or the mixed, as it now is."""
        mixed = len(self._of.get(viewer, {})) > 1
        have, want = (self._plain, self._mixed) if mixed else (self._mixed, self._plain)
        for partition in range(self.partitions):
            if viewer in have[partition]:
                del have[partition][viewer]
                want[partition][viewer] = None

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
            for partition in range(self.partitions):
                self._plain[partition].pop(viewer, None)
                self._mixed[partition].pop(viewer, None)
        elif (channel := self._channels.get(experiment)) is not None:
            channel.pop(viewer, None)
            if not channel:
                del self._channels[experiment]
        if not mine:
            del self._of[viewer]
        else:
            self._sort(viewer)


def _put(viewers: Iterable[Viewer], frames: Sequence[bytes]) -> int:
    """Put `frames` into each outbox, joined once for all of them."""
    chunks = join(frames)
    count = 0
    for viewer in viewers:
        count += 1
        for chunk in chunks:
            viewer.put(chunk)
    return count * len(frames)
