"""How a subscription begins: from now, or behind a place in the log that is asked for, found and proven first."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from loopcast.errors import BrokerError, LogChanged
from loopcast.position import Anchor, Position
from loopcast.routing import ANYWHERE
from loopcast_gateway.chase import Chase
from loopcast_gateway.history import History
from loopcast_gateway.hub import Hub, Lane, Subscription
from loopcast_gateway.open_runs import Run
from loopcast_gateway.patience import patiently
from loopcast_gateway.places import Places
from loopcast_gateway.protocol import (
    DEFAULT_LAST,
    CaughtUp,
    Earliest,
    Frame,
    Gap,
    Reason,
    Snapshot,
    Subscribe,
    Subscribed,
)
from loopcast_gateway.prover import Prover
from loopcast_gateway.reading import Lost, Reading
from loopcast_gateway.tail import Tail
from loopcast_gateway.tally import Tally

__all__ = ["CatchUp"]

Begins = Mapping[int, Position | int]
"""By partition, behind which message or offset a history begins."""


class CatchUp:
    """Begins the subscriptions of one gateway. A replay reads `max_scan` messages of a partition at most."""

    def __init__(
        self,
        hub: Hub,
        tails: Sequence[Tail],
        history: History,
        *,
        prover: Prover,
        places: Places,
        tally: Tally,
        max_scan: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._hub = hub
        self._tails = tails
        self._history = history
        self._prover = prover
        self._places = places
        self._tally = tally
        self._max_scan = max_scan
        self._clock = clock

    def from_now(self, subscription: Subscription, command: Subscribe) -> None:
        """Go live at once."""
        experiment = subscription.experiment
        _say(subscription, Subscribed(id=command.id, experiment_id=experiment, pos=self._ends(subscription)))
        self._snapshot(subscription, command)
        for lane in subscription.lanes:
            self._hub.go_live(subscription, lane)

    async def with_history(
        self, subscription: Subscription, command: Subscribe, resumed: Mapping[int, Position]
    ) -> None:
        """Send the history that is asked for, then go live. What cannot be had is said, and it goes on from now."""
        begins: Begins | None = None
        try:
            begins, reason = await patiently(lambda: self._begins(subscription, command, resumed))
        except (Lost, BrokerError, TimeoutError) as error:
            reason = _reason_of(error)
        if resumed:
            self._tally.resumes[reason or "recovered"] += 1
        earliest = None
        if (resumed and reason is not None) or reason == Reason.TRUNCATED:
            with contextlib.suppress(BrokerError):
                earliest = await self._earliest(subscription.lanes[0])
        if not self._hub.active(subscription):
            return
        _say(
            subscription,
            Subscribed(
                id=command.id,
                experiment_id=subscription.experiment,
                pos=self._begin_pos(subscription, begins, resumed),
                recovered=False if reason is not None else (True if resumed else None),
                reason=reason,
                earliest=earliest,
            ),
        )
        self._snapshot(subscription, command)
        await self._catch_up(subscription, begins)

    async def _begins(
        self, subscription: Subscription, command: Subscribe, resumed: Mapping[int, Position]
    ) -> tuple[Begins | None, str | None]:
        """Where the history begins in each partition, None where it cannot; and why something is left out, if it is."""
        experiment = None if subscription.experiment == ANYWHERE else subscription.experiment
        origins = {lane.partition: lane.origin for lane in subscription.lanes}
        limit, reason, short = command.limit, None, False
        for position in resumed.values():
            if (reason := await self._reason(experiment, position, limit)) is not None:
                return None, reason
        # Partitions of which nothing was seen yet are those of `from: earliest`.
        begins: dict[int, Position | int] = {**dict.fromkeys(origins, -1), **resumed}
        if command.since_ts is not None and not resumed:
            begins = {n: await self._places.since(experiment, n, command.since_ts) for n in origins}
        elif command.start == "last" and limit is None and not resumed:
            limit = DEFAULT_LAST
        if limit is None and not resumed:
            for number, begin in begins.items():
                begins[number], cut = await self._places.within_reach(experiment, number, _offset(begin))
                reason = Reason.LIMIT if cut else reason
        if limit is not None:
            newest = await self._places.newest(experiment, origins, limit, subscription.filter)
            if newest.cuts({n: _offset(begin) for n, begin in begins.items()}):
                reason = None if command.start == "last" and not resumed and command.since_ts is None else Reason.LIMIT
            begins = {n: max(begin, newest.begins[n], key=_offset) for n, begin in begins.items()}
            short = newest.count < limit
        if reason is None and not resumed:
            reason = await self._lost(experiment, origins, command, short=short)
        # What came after the subscription was asked for is its to have, whatever history is. But a viewer may know more
        # than this process did then: it was at another gateway, which was further.
        begins = {n: min(begin, origins[n], key=_offset) for n, begin in begins.items()}
        return {n: max(begin, resumed.get(n, -1), key=_offset) for n, begin in begins.items()}, reason

    async def _lost(
        self, experiment: str | None, partitions: Iterable[int], command: Subscribe, *, short: bool
    ) -> str | None:
        """Why events are missing that are asked for by a time, or by a number where there are fewer (`short`)."""
        since = command.since_ts
        if since is None:
            if command.start != "last" or not short:
                return None
            since = 0.0
        lost = [number for number in partitions if await self._places.lost(experiment, number, since)]
        return Reason.TRUNCATED if lost else None

    async def _catch_up(self, subscription: Subscription, begins: Begins | None) -> None:
        sent, begun, source = 0, time.perf_counter(), "ring"
        for lane in subscription.lanes:
            chase = Chase(
                self._hub,
                self._tails[lane.partition].partition,
                self._history,
                subscription=subscription,
                lane=lane,
                begin=lane.origin if begins is None else begins[lane.partition],
                max_scan=self._max_scan,
            )
            try:
                await chase.run()
            except (Lost, BrokerError) as error:
                await self._go_on_from_now(subscription, lane, _reason_of(error))
            sent += chase.sent
            source = "stream" if chase.scanned else source
        self._tally.replays[source] += 1
        self._tally.replayed += sent
        self._tally.replay_seconds.append((source, time.perf_counter() - begun))
        if self._hub.active(subscription) and not subscription.lingers:
            frame = CaughtUp(experiment_id=subscription.experiment, pos=self._ends(subscription), events=sent)
            _say(subscription, frame)

    async def _go_on_from_now(self, subscription: Subscription, lane: Lane, reason: str) -> None:
        """Say that events are missing, and go live."""
        tail = self._tails[lane.partition]
        await tail.ready.wait()
        if self._hub.active(subscription):
            self._tally.gaps[reason] += 1
            _say(subscription, Gap(experiment_id=subscription.experiment, reason=reason, pos=tail.partition.pos))
            self._hub.go_live(subscription, lane)

    async def _reason(self, experiment: str | None, position: Position, limit: int | None) -> str | None:
        """Why `position` cannot be resumed from; None if it can."""
        verdict = await self._prover.prove(position)
        if verdict is not Anchor.PROVEN:
            return str(verdict)
        partition = self._tails[position.partition].partition
        if limit is not None or partition.since(experiment, position.offset) is not None:
            return None
        reading = Reading(partition, self._history, experiment, position, partition.tail)
        return Reason.LIMIT if reading.least > self._max_scan else None

    async def _earliest(self, lane: Lane) -> Earliest:
        first = await self._history.first(lane.partition, "first")
        recorded = first.headers.get("recorded")
        return Earliest(
            pos=str(Position.of(lane.partition, first.offset, first.message_id)),
            ts=recorded / 1e6 if isinstance(recorded, int) else float(first.timestamp),
        )

    def _snapshot(self, subscription: Subscription, command: Subscribe) -> None:
        if not command.snapshot:
            return
        experiment = None if subscription.experiment == ANYWHERE else subscription.experiment
        runs: list[Run] = []
        for lane in subscription.lanes:
            runs += self._tails[lane.partition].partition.digest.runs.open(experiment, self._clock())
        scope = subscription.filter.scope if subscription.filter is not None else None
        if scope is not None:
            runs = [run for run in runs if scope.permit(run.experiment_id)]
        _say(subscription, Snapshot(experiment_id=subscription.experiment, pos=self._ends(subscription), runs=runs))

    def _begin_pos(
        self, subscription: Subscription, begins: Begins | None, resumed: Mapping[int, Position]
    ) -> str | list[str] | None:
        if begins is None:
            return self._ends(subscription)
        if begins == resumed:
            return _one_or_many([str(position) for position in resumed.values()])
        # What stands before an event that was found is not known by its id.
        return None

    def _ends(self, subscription: Subscription) -> str | list[str] | None:
        """The end of the log, in the form in which `subscription` resumes by it."""
        return _one_or_many(
            [pos for lane in subscription.lanes if (pos := self._tails[lane.partition].partition.pos) is not None]
        )


def _say(subscription: Subscription, frame: Frame) -> None:
    subscription.viewer.say(frame)


def _offset(begin: Position | int) -> int:
    return begin.offset if isinstance(begin, Position) else begin


def _one_or_many(tokens: list[str]) -> str | list[str] | None:
    return tokens[0] if len(tokens) == 1 else tokens or None


def _reason_of(error: Exception) -> str:
    if isinstance(error, LogChanged):
        return str(error.reason)
    return str(error) if isinstance(error, Lost) else Reason.UNAVAILABLE
