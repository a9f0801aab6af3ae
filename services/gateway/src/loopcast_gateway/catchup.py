"""How a subscription begins: from now, from the earliest event, or behind a position that the log must prove."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

from loopcast.errors import BrokerError, LogChanged
from loopcast.position import Anchor, Position
from loopcast_gateway.chase import Chase, Lost
from loopcast_gateway.history import History
from loopcast_gateway.hub import Hub, Lane, Subscription
from loopcast_gateway.protocol import CaughtUp, Earliest, Frame, Gap, Id, Reason, Subscribed
from loopcast_gateway.prover import Prover
from loopcast_gateway.tail import Tail
from loopcast_gateway.tally import Tally

__all__ = ["CatchUp"]


class CatchUp:
    """Begins the subscriptions of one gateway. A replay reads `max_scan` messages of a partition at most."""

    def __init__(self, hub: Hub, tails: Sequence[Tail], history: History, tally: Tally, *, max_scan: int) -> None:
        self._hub = hub
        self._tails = tails
        self._history = history
        self._prover = Prover(tails, history)
        self._tally = tally
        self._max_scan = max_scan

    def from_now(self, subscription: Subscription, id_: Id | None) -> None:
        """Go live at once."""
        experiment = subscription.experiment
        _say(subscription, Subscribed(id=id_, experiment_id=experiment, pos=self._ends(subscription)))
        for lane in subscription.lanes:
            self._hub.go_live(subscription, lane)

    async def from_earliest(self, subscription: Subscription, id_: Id | None) -> None:
        """Send all that the log has, or as much of its end as one replay may read, and say which."""
        begins = [await self._beginning(lane) for lane in subscription.lanes]
        cut = any(behind >= 0 for behind in begins)
        _say(
            subscription,
            Subscribed(
                id=id_,
                experiment_id=subscription.experiment,
                recovered=False if cut else None,
                reason=Reason.LIMIT if cut else None,
            ),
        )
        await self._catch_up(subscription, begins)

    async def from_positions(
        self, subscription: Subscription, positions: Mapping[int, Position], id_: Id | None
    ) -> None:
        """Send what came after `positions` where the log proves that nothing of it is missing; else go on from now."""
        ends = self._ends(subscription)
        reason: str | None = None
        for lane in subscription.lanes:
            reason = reason or await self._reason(positions[lane.partition])
        self._tally.resumes[reason or "recovered"] += 1
        begins: list[Position | int] = [positions[lane.partition] for lane in subscription.lanes]
        earliest = None
        if reason is None:
            ends = _one_or_many([str(position) for position in positions.values()])
        else:
            begins = [lane.origin for lane in subscription.lanes]
            with contextlib.suppress(BrokerError):
                earliest = await self._earliest(subscription.lanes[0])
        _say(
            subscription,
            Subscribed(
                id=id_,
                experiment_id=subscription.experiment,
                pos=ends,
                recovered=reason is None,
                reason=reason,
                earliest=earliest,
            ),
        )
        await self._catch_up(subscription, begins)

    async def _catch_up(self, subscription: Subscription, begins: Sequence[Position | int]) -> None:
        sent = 0
        for lane, begin in zip(subscription.lanes, begins, strict=True):
            partition = self._tails[lane.partition].partition
            chase = Chase(
                self._hub,
                partition,
                self._history,
                subscription=subscription,
                lane=lane,
                begin=begin,
                max_scan=self._max_scan,
            )
            try:
                await chase.run()
            except (Lost, BrokerError) as error:
                await self._go_on_from_now(subscription, lane, _reason_of(error))
            sent += chase.sent
        if self._hub.active(subscription) and not subscription.lingers:
            frame = CaughtUp(experiment_id=subscription.experiment, pos=self._ends(subscription), events=sent)
            _say(subscription, frame)

    async def _go_on_from_now(self, subscription: Subscription, lane: Lane, reason: str) -> None:
        """Say that events are missing, and go live."""
        tail = self._tails[lane.partition]
        await tail.ready.wait()
        if self._hub.active(subscription):
            _say(subscription, Gap(experiment_id=subscription.experiment, reason=reason, pos=tail.partition.pos))
            self._hub.go_live(subscription, lane)

    async def _reason(self, position: Position) -> str | None:
        """Why `position` cannot be resumed from; None if it can."""
        try:
            verdict = await self._prover.prove(position)
        except (BrokerError, TimeoutError) as error:
            return _reason_of(error)
        if verdict is not Anchor.PROVEN:
            return str(verdict)
        tail = self._tails[position.partition].partition.tail
        return Reason.LIMIT if tail - position.offset > self._max_scan else None

    async def _beginning(self, lane: Lane) -> int:
        """The offset behind which a replay of everything begins: -1, or as far back as one replay may read."""
        partition = self._tails[lane.partition].partition
        if partition.tail >= self._max_scan:
            with contextlib.suppress(BrokerError):
                first = await self._history.first(lane.partition, "first")
                if partition.tail - first.offset >= self._max_scan:
                    return partition.tail - self._max_scan
        return -1

    async def _earliest(self, lane: Lane) -> Earliest:
        first = await self._history.first(lane.partition, "first")
        recorded = first.headers.get("recorded")
        return Earliest(
            pos=str(Position.of(lane.partition, first.offset, first.message_id)),
            ts=recorded / 1e6 if isinstance(recorded, int) else float(first.timestamp),
        )

    def _ends(self, subscription: Subscription) -> str | list[str] | None:
        """The end of the log, in the form in which `subscription` resumes by it."""
        return _one_or_many(
            [pos for lane in subscription.lanes if (pos := self._tails[lane.partition].partition.pos) is not None]
        )


def _say(subscription: Subscription, frame: Frame) -> None:
    subscription.viewer.say(frame)


def _one_or_many(tokens: list[str]) -> str | list[str] | None:
    return tokens[0] if len(tokens) == 1 else tokens or None


def _reason_of(error: Exception) -> str:
    if isinstance(error, LogChanged):
        return str(error.reason)
    return str(error) if isinstance(error, Lost) else Reason.UNAVAILABLE
