"""What a viewer's commands do. One object serves every connection: a connection keeps nothing but bytes."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Protocol, cast

import structlog

from loopcast.auth import Grants
from loopcast.position import Position
from loopcast_gateway import promptlooper
from loopcast_gateway.access import Access, Guest
from loopcast_gateway.answering import Answering
from loopcast_gateway.catchup import CatchUp
from loopcast_gateway.close_codes import NOT_PERMITTED, RATE_LIMITED, TOO_MANY_ERRORS, CloseCode
from loopcast_gateway.commands import positions, read_command
from loopcast_gateway.entrance import Entrance
from loopcast_gateway.filters import BadFilter, filter_of
from loopcast_gateway.hub import Hub, Subscription
from loopcast_gateway.protocol import (
    Auth,
    Command,
    ErrorFrame,
    ErrorName,
    Ping,
    PongFrame,
    Refused,
    Replay,
    Stats,
    StatsFrame,
    Subscribe,
    Subscribed,
    Unsubscribe,
    Unsubscribed,
    Welcome,
)
from loopcast_gateway.tail import Tail
from loopcast_gateway.tally import Tally

if TYPE_CHECKING:
    from loopcast_gateway.dialects import Dialect
    from loopcast_gateway.protocol import Frame

__all__ = ["Connection", "Sessions"]

log = structlog.get_logger(__name__)

MAX_ERRORS = 10
"""Commands refused in a row, after which the connection is closed: whoever sends them does not read the answers."""

BY_REQUEST = 2000


class Connection(Protocol):
    """One viewer, as its commands see it."""

    errors: int
    """How many commands were refused since the last good one."""
    guest: Guest
    """Who it is."""

    @property
    def dialect(self) -> Dialect:
        """How it is spoken to."""
        ...

    def say(self, frame: Frame) -> None:
        """Take a frame to send."""
        ...

    def put(self, chunk: bytes) -> None:
        """Take bytes to send."""
        ...

    def wait_for_more(self, milliseconds: int) -> None:
        """Let what is put wait so long for more."""
        ...

    def close(self, code: CloseCode) -> None:
        """Send what waits, then a close frame."""
        ...


class Sessions:
    """The conversations of one gateway with its viewers."""

    def __init__(
        self,
        hub: Hub,
        tails: Sequence[Tail],
        catch_up: CatchUp,
        answering: Answering,
        tally: Tally,
        *,
        access: Access,
        stats: Callable[[Grants], dict[str, object]],
        max_subscriptions: int,
        max_command_bytes: int,
        ping_seconds: float,
    ) -> None:
        self._hub = hub
        self._tails = tails
        self._catch_up = catch_up
        self._answering = answering
        self._access = access
        self._entrance = Entrance(
            access, hub, follow=self._follow, received=self._carry_out, spawn=self._spawn, narrowed=answering.narrow
        )
        self._tally = tally
        self._stats = stats
        self._max_subscriptions = max_subscriptions
        self._limits = {"message_bytes": max_command_bytes, "subscriptions": max_subscriptions}
        self._ping_ms = round(ping_seconds * 1000)
        self._tasks: dict[Connection, set[asyncio.Task[None]]] = {}

    def opened(self, viewer: Connection, experiments: Sequence[str]) -> None:
        """A viewer came; `experiments`, which its address names, are followed from the start."""
        known = viewer.guest.grants is not None
        frame = Welcome(
            session=secrets.token_hex(8),
            server_time=time.time(),
            ping_ms=self._ping_ms,
            limits=self._limits,
            authenticated=known,
            auth_ms=None if known else round(self._entrance.seconds * 1000),
        )
        viewer.say(frame)
        self._entrance.opened(viewer, tuple(experiments))

    def closed(self, viewer: Connection) -> None:
        """A viewer went."""
        for task in self._tasks.pop(viewer, ()):
            task.cancel()
        self._answering.closed(viewer)
        self._hub.drop(viewer)

    def received(self, viewer: Connection, text: bytes) -> None:
        """A viewer sent a text message: a command, or one in each line."""
        if not viewer.dialect.polite and text.strip() == b"ping":
            viewer.put(promptlooper.PONG)
            return
        if not viewer.dialect.lines:
            self._command(viewer, text)
            return
        for line in text.split(b"\n"):
            if line.strip():
                self._command(viewer, line)

    def _command(self, viewer: Connection, text: bytes) -> None:
        if not self._access.may_command(viewer, 1, asyncio.get_running_loop().time()):
            viewer.close(RATE_LIMITED)
            return
        self._carry_out(viewer, text)

    def _carry_out(self, viewer: Connection, text: bytes) -> None:
        if self._entrance.holds(viewer, text):
            return
        try:
            command = read_command(text) if viewer.dialect.polite else promptlooper.read(text)
            action, begun = str(command.__struct_config__.tag), time.perf_counter()
            self._tally.commands[action] += 1
            self._obey(viewer, command)
            self._tally.command_seconds.append((action, time.perf_counter() - begun))
        except Refused as refusal:
            self.refuse(viewer, refusal)
        else:
            viewer.errors = 0

    def refuse(self, viewer: Connection, refusal: Refused) -> None:
        """Tell a viewer that its command is not carried out."""
        self._tally.errors[refusal.name] += 1
        frame = ErrorFrame(
            id=refusal.id,
            code=refusal.name.code,
            name=refusal.name,
            message=str(refusal),
            temporary=refusal.name.temporary,
        )
        viewer.say(frame)
        if refusal.name is ErrorName.PERMISSION_DENIED and refusal.id is None and not viewer.dialect.polite:
            # Such a client reads no answers: only the end of the connection tells it.
            viewer.close(NOT_PERMITTED)
        viewer.errors += 1
        if viewer.errors >= MAX_ERRORS and viewer.dialect.polite:
            viewer.close(TOO_MANY_ERRORS)

    def _obey(self, viewer: Connection, command: Command) -> None:
        match command:
            case Auth():
                self._entrance.auth(viewer, command)
            case Subscribe():
                self.follow(viewer, command)
            case Unsubscribe():
                self._hub.remove(viewer, command.experiment_id)
                viewer.wait_for_more(self._hub.coalesce_ms(viewer))
                frame = Unsubscribed(
                    id=command.id, experiment_id=command.experiment_id, code=BY_REQUEST, reason="by request"
                )
                viewer.say(frame)
            case Replay():
                scope = self._entrance.scope(viewer, command.experiment_id, command.id)
                self._spawn(viewer, self._answering.begin(viewer, command, scope))
            case Stats():
                grants = self._entrance.known(viewer, command.id)
                viewer.say(StatsFrame(id=command.id, data=self._stats(grants)))
            case Ping():
                viewer.say(PongFrame(id=command.id))

    def _follow(self, viewer: Connection, experiment: str) -> None:
        self.follow(viewer, Subscribe(experiment_id=experiment))

    def follow(self, viewer: Connection, command: Subscribe) -> None:
        """
        Begin a subscription.

        Raises:
            Refused: it cannot be.
        """
        scope = self._entrance.scope(viewer, command.experiment_id, command.id)
        if not viewer.dialect.polite and self._hub.get(viewer, command.experiment_id) is not None:
            # PromptLooper's subscribe may be said again.
            viewer.say(Subscribed(id=command.id, experiment_id=command.experiment_id))
            return
        resumed = positions(command, self._hub.covered(command.experiment_id))
        try:
            filter_ = filter_of(command.types, command.exclude, scope)
        except BadFilter as error:
            raise Refused(ErrorName.BAD_REQUEST, str(error), command.id) from None
        self._admit(viewer, command)
        subscription = self._hub.add(viewer, command.experiment_id, filter_=filter_, coalesce_ms=command.coalesce_ms)
        viewer.wait_for_more(self._hub.coalesce_ms(viewer))
        if all(self._tails[lane.partition].ready.is_set() for lane in subscription.lanes):
            self._begin(subscription, command, resumed)
        else:
            self._spawn(viewer, self._begin_when_ready(subscription, command, resumed))

    async def _begin_when_ready(
        self, subscription: Subscription, command: Subscribe, resumed: dict[int, Position]
    ) -> None:
        for lane in subscription.lanes:
            await self._tails[lane.partition].ready.wait()
        if self._hub.active(subscription):
            self._begin(subscription, command, resumed)

    def _begin(self, subscription: Subscription, command: Subscribe, resumed: dict[int, Position]) -> None:
        tails = [tail.partition.tail for tail in self._tails]
        cursors = {lane.partition: -1 for lane in subscription.lanes}
        if command.live_only:
            cursors = {number: tails[number] for number in cursors}
        self._hub.place(subscription, cursors, tails)
        if command.live_only:
            self._catch_up.from_now(subscription, command)
        else:
            viewer = cast("Connection", subscription.viewer)
            self._spawn(viewer, self._catch_up.with_history(subscription, command, resumed))

    def _admit(self, viewer: Connection, command: Subscribe) -> None:
        present = self._hub.get(viewer, command.experiment_id)
        if present is not None and present.lingers:
            raise Refused(
                ErrorName.NOT_AVAILABLE, "The subscription that you ended is still sending: try again.", command.id
            )
        if present is not None:
            raise Refused(
                ErrorName.ALREADY_SUBSCRIBED,
                f"This connection follows {command.experiment_id!r} already: unsubscribe first.",
                command.id,
            )
        if self._hub.count(viewer) >= self._max_subscriptions:
            raise Refused(
                ErrorName.LIMIT_EXCEEDED,
                f"A connection may have {self._max_subscriptions} subscriptions: unsubscribe, or follow *.",
                command.id,
            )

    def _spawn(self, viewer: Connection, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        tasks = self._tasks.setdefault(viewer, set())
        tasks.add(task)
        task.add_done_callback(lambda done: self._ended(viewer, done))

    def _ended(self, viewer: Connection, task: asyncio.Task[None]) -> None:
        tasks = self._tasks.get(viewer, set())
        tasks.discard(task)
        if not tasks:
            self._tasks.pop(viewer, None)
        if task.cancelled() or (error := task.exception()) is None:
            return
        if isinstance(error, Refused):
            self.refuse(viewer, error)
        else:
            log.error("subscription_failed", exc_info=error)
