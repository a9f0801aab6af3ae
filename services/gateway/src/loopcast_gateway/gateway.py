"""The gateway's parts put together: what the log gives goes to the viewers, who come and go."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from importlib.metadata import version

import structlog

from loopcast import metrics as names
from loopcast.auth import Authenticator, Grants
from loopcast.broker.interface import Client
from loopcast.metrics import Metrics
from loopcast.origins import Origins
from loopcast.routing import ANYWHERE
from loopcast.settings import GatewaySettings
from loopcast.telemetry import Telemetry
from loopcast_gateway import close_codes
from loopcast_gateway.access import Access
from loopcast_gateway.admission import Capacity
from loopcast_gateway.answering import Answering
from loopcast_gateway.catchup import CatchUp
from loopcast_gateway.connection import Connection
from loopcast_gateway.dialects import EVERY
from loopcast_gateway.echoes import Echoes
from loopcast_gateway.entry import Entry
from loopcast_gateway.flusher import Flusher
from loopcast_gateway.history import History
from loopcast_gateway.hub import Hub
from loopcast_gateway.instruments import Instruments
from loopcast_gateway.open_runs import Run
from loopcast_gateway.pages import Pages
from loopcast_gateway.partition import Partition
from loopcast_gateway.places import Places
from loopcast_gateway.protocol import Gap, GoAway, Log, PingFrame
from loopcast_gateway.prover import Prover
from loopcast_gateway.replay import Replays
from loopcast_gateway.session import Sessions
from loopcast_gateway.sse import EventStream
from loopcast_gateway.stalls import Stalls
from loopcast_gateway.tail import Tail
from loopcast_gateway.tally import Tally

__all__ = ["Gateway"]

log = structlog.get_logger(__name__)

NAME = "loopcast-gateway"
PACE = 400
"""Connections that are asked to leave in a second, so that they do not all come back in the same one."""

SPREAD_MS = 1000
"""Within how much time a client is asked to come back, at least."""

PING_SLOTS = 10
REPORT_SECONDS = 1.0
CHECKPOINT_SECONDS = 5.0
"""How long the last checkpoint of a gateway that stops may take."""

TOLD_SECONDS = 3.0
"""For how long the log may be away before viewers are told: a connection that is made anew is no news."""


class Gateway:
    """Reads the log once, and serves every viewer of this process."""

    def __init__(self, client: Client, settings: GatewaySettings, metrics: Metrics) -> None:
        url, topology = settings.amqp_url, settings.broker_topology
        self.settings = settings
        self.outbox_bytes = settings.outbox_bytes
        self.max_command_bytes = settings.max_command_bytes
        self.origins = Origins.of(settings)
        self.telemetry = Telemetry(NAME, version(NAME))
        self.tally = Tally()
        self.stalls: Stalls[Connection] = Stalls(settings.stall_seconds)
        self.flusher = Flusher(_soon)
        self._patient: dict[int, Flusher] = {}
        self.hub = Hub(topology.partitions)
        self.history = History(client, url, topology, name=NAME, cache_bytes=settings.replay_cache_bytes)
        self.tails = [self._tail(client, n, stream) for n, stream in enumerate(topology.streams)]
        scan = settings.replay_max_scan
        self.prover = Prover(self.tails, self.history)
        self.places = Places(self.tails, self.history, max_scan=scan)
        self.pages = [Pages(tail, self.history, self.prover, self.places, max_scan=scan) for tail in self.tails]
        """The history of each partition, page by page."""
        self.replays = Replays(self.pages)
        self.streams: set[EventStream] = set()
        """Viewers by Server-Sent Events."""
        self.authenticator = Authenticator(settings, metrics)
        self.access = Access(self.authenticator, settings)
        self.sessions = Sessions(
            self.hub,
            self.tails,
            CatchUp(
                self.hub,
                self.tails,
                self.history,
                prover=self.prover,
                places=self.places,
                tally=self.tally,
                max_scan=scan,
            ),
            Answering(self.hub, self.tails, self.replays),
            self.tally,
            access=self.access,
            stats=self.stats,
            max_subscriptions=settings.max_subscriptions,
            max_command_bytes=settings.max_command_bytes,
            ping_seconds=settings.ping_seconds,
        )
        self.draining = False
        self._latency = metrics.histogram(names.GATEWAY_LATENCY)
        self._broadcast = metrics.histogram(names.GATEWAY_BROADCAST_SECONDS)
        self._broadcasting: float | None = None
        self.flusher.on_idle = self._written
        self.echoes: Echoes[Connection] = Echoes(metrics.histogram(names.GATEWAY_PING_SECONDS).observe)
        self._instruments = Instruments(metrics)
        self._away_since: float | None = None
        self._told_away = False
        self._known: set[Connection] = set()
        # Each connection is in one of these, and each of these is pinged in its turn.
        self._slots: list[set[Connection]] = [set() for _ in range(PING_SLOTS)]

    def connection(self, known: set[Connection]) -> Connection:
        """What speaks WebSocket on a connection that asked for it; `known` are the server's connections."""
        return Connection(self, known)

    def capacity(self) -> Capacity:
        """Whether there is room for one more viewer."""
        return Capacity(self.connections, self.settings.max_connections, self.draining, self.settings.max_subscriptions)

    @property
    def connections(self) -> int:
        """How many viewers there are."""
        return sum(map(len, self._slots)) + len(self.streams)

    @property
    def congested(self) -> int:
        """The sockets of how many viewers take no more for now."""
        return sum(viewer.congested for slot in self._slots for viewer in slot)

    def flusher_of(self, milliseconds: int) -> Flusher:
        """What writes for viewers who wait so long for more: the same for all of them, so that they share a timer."""
        if not milliseconds:
            return self.flusher
        found = self._patient.get(milliseconds)
        if found is None:
            seconds = milliseconds / 1000
            found = self._patient[milliseconds] = Flusher(
                _soon, lambda callback: asyncio.get_running_loop().call_later(seconds, callback)
            )
        return found

    def joined(self, viewer: Connection, experiments: Sequence[str]) -> None:
        """A handshake was finished."""
        min(self._slots, key=len).add(viewer)
        self.access.enter(viewer)
        self.sessions.opened(viewer, experiments)
        if self._told_away:
            viewer.say(Log(connected=False))

    def gone(self, viewer: Connection) -> None:
        """A viewer is sent nothing more. Safe to call again."""
        for slot in self._slots:
            slot.discard(viewer)
        self.echoes.gone(viewer)
        self.sessions.closed(viewer)

    def left(self, viewer: Connection, code: int) -> None:
        """A connection ended with `code`."""
        self.tally.closes[str(code)] += 1
        self.access.leave(viewer)
        self.gone(viewer)

    def stats(self, grants: Grants) -> dict[str, object]:
        """What this process is doing, with PromptLooper's four keys first; experiments as `grants` let them be seen."""
        permitted = grants.subscribe
        followers = {e: n for e, n in self.hub.followers().items() if e == ANYWHERE or permitted.permit(e)}
        everything = followers.pop(ANYWHERE, 0)
        sizes: dict[str, int] = {}
        for tail in self.tails:
            sizes.update(tail.partition.recent.sizes() if tail.partition.recent is not None else {})
        sizes = {experiment: size for experiment, size in sizes.items() if permitted.permit(experiment)}
        return {
            "total_connections": self.connections,
            "global_subscribers": everything,
            "experiment_subscriptions": followers,
            "replay_buffer_sizes": sizes,
            "draining": self.draining,
            "log": [
                {
                    "partition": tail.partition.number,
                    "connected": tail.connected,
                    "ready": tail.ready.is_set(),
                    "offset": tail.partition.tail,
                    "pos": tail.partition.pos,
                }
                for tail in self.tails
            ],
        }

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Follow the log, ping and report, until left."""
        tasks = [asyncio.create_task(work) for work in (*(t.run() for t in self.tails), self._ping(), self._report())]
        for task in tasks:
            task.add_done_callback(_complain)
        try:
            async with self.authenticator.running():
                yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def drain(self) -> None:
        """
        Ask every viewer to leave, at times spread so that they do not all come back in one moment.

        A few leave at once; many take up to most of the time that a stop may take.
        """
        self.draining = True
        for stream in list(self.streams):
            stream.end()
        # So that whoever takes over, or comes back, reads as little as there can be.
        leaving = [asyncio.create_task(tail.leave_checkpoint()) for tail in self.tails]
        viewers = [viewer for slot in self._slots for viewer in slot]
        random.shuffle(viewers)
        window = min(len(viewers) / PACE, self.settings.drain_seconds * 0.8)
        begun = time.monotonic()
        for count, viewer in enumerate(viewers):
            due = begun + window * count / len(viewers)
            if (wait := due - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            self._send_away(viewer, SPREAD_MS + round(window * 1000))
        await asyncio.wait(leaving, timeout=CHECKPOINT_SECONDS)

    def open_runs(self, experiment: str) -> list[Run]:
        """The runs of `experiment` (`*` is all) that go on, or wait to; the one that spoke last first."""
        name = None if experiment == ANYWHERE else experiment
        return [
            run
            for number in self.hub.covered(experiment)
            for run in self.tails[number].partition.digest.runs.open(name, time.time())
        ]

    def runs(self, experiment: str) -> list[Run]:
        """The runs of `experiment` (`*` is all), those that have ended lately too."""
        name = None if experiment == ANYWHERE else experiment
        return [
            run
            for number in self.hub.covered(experiment)
            for run in self.tails[number].partition.digest.runs.of(name, time.time())
        ]

    def entries(self, partition: Partition, entries: Sequence[Entry]) -> None:
        """Send on what is new in the log."""
        if not entries:
            return
        begun = time.perf_counter()
        self.tally.events += len(entries)
        self.tally.deliveries += self.hub.dispatch(partition.number, entries)
        if not self.flusher.idle and self._broadcasting is None:
            self._broadcasting = begun
        if entries[-1].recorded:
            self._latency.observe(max(0.0, time.time() - entries[-1].recorded / 1e6))

    def _written(self) -> None:
        """Everything that was put into outboxes was written, as far as the sockets take it."""
        if self._broadcasting is not None:
            self._broadcast.observe(time.perf_counter() - self._broadcasting)
            self._broadcasting = None

    def _gap(self, partition: Partition, reason: str) -> None:
        """Tell who follows live that the log is not what it was; who catches up finds out by itself."""
        for subscription in self.hub.subscriptions(partition.number):
            if subscription.lane(partition.number).live:
                self.tally.gaps[reason] += 1
                frame = Gap(experiment_id=subscription.experiment, reason=reason, pos=partition.pos)
                subscription.viewer.say(frame)

    def _send_away(self, viewer: Connection, spread_ms: int) -> None:
        # Jitter against a herd, not a secret.
        wait = random.randrange(spread_ms)  # noqa: S311
        viewer.say(GoAway(code=close_codes.RESTART.code, reconnect_in_ms=wait))
        viewer.close(close_codes.RESTART)

    async def _ping(self) -> None:
        while True:
            for slot in self._slots:
                await asyncio.sleep(self.settings.ping_seconds / PING_SLOTS)
                ping = PingFrame(pos=[tail.partition.pos for tail in self.tails])
                frames = {dialect: dialect.frame(ping) for dialect in EVERY}
                now = asyncio.get_running_loop().time()
                patience = self.settings.ping_seconds + self.settings.pong_seconds
                viewers = list(slot)
                self.echoes.sent(viewers, now)
                for viewer in viewers:
                    viewer.ping(frames[viewer.dialect], now, patience)

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            for viewer, code in self.access.overdue():
                viewer.close(code)
            self._close_stalled()
            self._tell_of_the_log()
            self.history.forget_idle()
            self._instruments.report(self)

    def _tell_of_the_log(self) -> None:
        """Tell every viewer when the log has been away for a while, and when it is back."""
        now = asyncio.get_running_loop().time()
        if all(tail.connected and tail.ready.is_set() for tail in self.tails):
            self._away_since = None
        elif self._away_since is None:
            self._away_since = now
        away = self._away_since is not None and now - self._away_since >= TOLD_SECONDS
        if away != self._told_away:
            self._told_away = away
            for viewer in [viewer for slot in self._slots for viewer in slot]:
                viewer.say(Log(connected=not away))

    def _close_stalled(self) -> None:
        """Let nobody that stopped reading keep what it was given, or others waiting, for ever."""
        for viewer in self.stalls.overdue(asyncio.get_running_loop().time(), lambda viewer: viewer.unsent):
            viewer.too_slow("time")

    def _tail(self, client: Client, number: int, stream: str) -> Tail:
        settings = self.settings
        partition = Partition(
            number,
            ring_events=settings.ring_events,
            ring_bytes=settings.ring_bytes,
            ring_total_bytes=settings.ring_total_bytes,
        )
        return Tail(
            client,
            settings.amqp_url,
            stream,
            partition,
            name=NAME,
            backlog=settings.replay_max_scan,
            on_entries=self.entries,
            on_gap=self._gap,
            checkpoint_seconds=settings.checkpoint_seconds,
            first=self.history.first,
            on_reset=lambda partition: self.history.forget(partition.number),
            telemetry=self.telemetry,
        )


def _soon(callback: Callable[[], None]) -> object:
    return asyncio.get_running_loop().call_soon(callback)


def _complain(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("task_failed", exc_info=error)
