"""
The protocols `loopcast.v1.json` and `loopcast.v1.ndjson`: what a client may say and what the gateway says.

A JSON object is a message, or a line of one.

These classes are the only list of actions and frames; `docs/protocol.md` is held to them by a test. A field that a
command does not have is refused, not ignored: who asks for a filter that this version lacks must hear of it.
"""

from __future__ import annotations

import enum
from typing import Annotated, Literal

import msgspec

from loopcast.history_query import DEFAULT_LIMIT
from loopcast.position import Anchor
from loopcast_gateway.open_runs import Run

__all__ = [
    "COMMANDS",
    "FRAMES",
    "NDJSON_SUBPROTOCOL",
    "SUBPROTOCOL",
    "Command",
    "ErrorName",
    "Reason",
    "Refused",
    "encode",
]

SUBPROTOCOL = "loopcast.v1.json"
NDJSON_SUBPROTOCOL = "loopcast.v1.ndjson"

Id = int | str
"""What a client names a command by, to find its answer."""

MAX_ID_LENGTH = 64
MAX_COALESCE_MS = 1000
MAX_REPLAY = 10_000
"""Events of one replay, or of a subscription's history where a number is given."""

DEFAULT_LAST = 100
"""How many events `"from": "last"` means without a `limit`."""


class ErrorName(enum.StrEnum):
    """Why a command was refused. The numbers are Centrifugo's, where it has one."""

    UNAUTHORIZED = "unauthorized"
    PERMISSION_DENIED = "permission_denied"
    METHOD_NOT_FOUND = "method_not_found"
    ALREADY_SUBSCRIBED = "already_subscribed"
    LIMIT_EXCEEDED = "limit_exceeded"
    BAD_REQUEST = "bad_request"
    NOT_AVAILABLE = "not_available"
    UNRECOVERABLE_POSITION = "unrecoverable_position"
    REPLAY_BUSY = "replay_busy"

    @property
    def code(self) -> int:
        """Its number."""
        return _CODES[self]

    @property
    def temporary(self) -> bool:
        """Whether the same command may succeed later."""
        return self in (ErrorName.NOT_AVAILABLE, ErrorName.REPLAY_BUSY)


_CODES = {
    ErrorName.UNAUTHORIZED: 101,
    ErrorName.PERMISSION_DENIED: 103,
    ErrorName.METHOD_NOT_FOUND: 104,
    ErrorName.ALREADY_SUBSCRIBED: 105,
    ErrorName.LIMIT_EXCEEDED: 106,
    ErrorName.BAD_REQUEST: 107,
    ErrorName.NOT_AVAILABLE: 108,
    ErrorName.UNRECOVERABLE_POSITION: 112,
    ErrorName.REPLAY_BUSY: 114,
}


class Reason(enum.StrEnum):
    """Why events are missing. The first two are what the log itself proves (:class:`loopcast.position.Anchor`)."""

    TRUNCATED = Anchor.TRUNCATED.value
    EPOCH_CHANGED = Anchor.EPOCH_CHANGED.value
    LIMIT = "limit"
    UNAVAILABLE = "unavailable"


class Refused(Exception):
    """A command that is not carried out: becomes an error frame."""

    def __init__(self, name: ErrorName, message: str, id_: Id | None = None) -> None:
        super().__init__(message)
        self.name = name
        self.id = id_


class Command(msgspec.Struct, tag_field="action", forbid_unknown_fields=True, kw_only=True):
    """What a client says."""

    id: Id | None = None


class Auth(Command, tag="auth", kw_only=True):
    """Show a token: the first message where none came with the handshake, and each time that it is renewed."""

    token: str


class Subscribe(Command, tag="subscribe", kw_only=True, rename={"start": "from"}):
    """
    Follow an experiment, or `*` for all: from now on, or with history before that.

    `resume` beats `since_ts` beats `from`. Of the history the newest `limit` events are sent.

    Of its events come those whose type matches one of `types` and none of `exclude`. Those of `coalesce_ms`
    milliseconds may be kept to be sent together.
    """

    experiment_id: str
    start: Literal["now", "earliest", "last"] = "now"
    resume: str | list[str] | None = None
    since_ts: float | None = None
    limit: int | None = None
    snapshot: bool = False
    types: list[str] | None = None
    exclude: list[str] | None = None
    coalesce_ms: Annotated[int, msgspec.Meta(ge=0, le=MAX_COALESCE_MS)] = 0

    @property
    def live_only(self) -> bool:
        """Whether no history is asked for."""
        return self.resume is None and self.since_ts is None and self.start == "now"


class Replay(Command, tag="replay", kw_only=True):
    """Ask for history: its events come once, in answer to this command, whatever is followed."""

    experiment_id: str
    after: str | list[str] | None = None
    before: str | list[str] | None = None
    since_ts: float | None = None
    until_ts: float | None = None
    limit: Annotated[int, msgspec.Meta(ge=0, le=MAX_REPLAY)] = DEFAULT_LIMIT
    order: Literal["oldest", "newest"] | None = None


class Unsubscribe(Command, tag="unsubscribe", kw_only=True):
    """Follow it no more. It is no error not to have followed it."""

    experiment_id: str


class Stats(Command, tag="stats", kw_only=True):
    """Ask for the numbers of `GET /v1/stats`."""


class Ping(Command, tag="ping", kw_only=True):
    """Ask for a pong."""


class Pong(Command, tag="pong", kw_only=True):
    """Answer a ping; any other frame does as well."""


class Earliest(msgspec.Struct, kw_only=True):
    """The first message that the log still has."""

    pos: str
    ts: float


class Frame(msgspec.Struct, tag_field="type", omit_defaults=True, kw_only=True):
    """What the gateway says."""


class Welcome(Frame, tag="welcome", kw_only=True):
    """The first frame of a connection. Where `authenticated` is false, a token has to come within `auth_ms`."""

    session: str
    server_time: float
    ping_ms: int
    limits: dict[str, int]
    authenticated: bool = True
    auth_ms: int | None = None


class Authenticated(Frame, tag="authenticated", kw_only=True):
    """The token is good: until when (Unix seconds), and for which experiments."""

    id: Id | None = None
    subscribe: list[str]
    expires: float | None = None


class Subscribed(Frame, tag="subscribed", kw_only=True):
    """The subscription stands. `recovered` answers a `resume`: true is all of it, false names the `reason`."""

    id: Id | None = None
    experiment_id: str
    pos: str | list[str] | None = None
    recovered: bool | None = None
    reason: str | None = None
    earliest: Earliest | None = None


class Snapshot(Frame, tag="snapshot", kw_only=True, omit_defaults=False):
    """The runs that go on, as they are at `pos`: of the events that follow, those behind it change them."""

    experiment_id: str
    pos: str | list[str] | None
    runs: list[Run]


class EventFrame(Frame, tag="event", kw_only=True):
    """
    An event, byte for byte as the log has it; `p` is its partition where there are several.

    With an `id` it answers the replay of that id, and its `pos` is no place to resume a subscription from.
    """

    id: Id | None = None
    pos: str
    p: int | None = None
    replay: bool = False
    event: msgspec.Raw


class CaughtUp(Frame, tag="caught_up", kw_only=True):
    """The history is sent (`events` of them); what follows is live."""

    experiment_id: str
    pos: str | list[str] | None = None
    events: int


class ReplayEnd(Frame, tag="replay_end", kw_only=True):
    """
    A replay is over: `next` is where more would be found, `complete` that there is no more.

    With a `reason`, events that were asked for are gone for good.
    """

    id: Id | None = None
    experiment_id: str
    count: int
    complete: bool
    next: str | list[str] | None = None
    reason: str | None = None


class Gap(Frame, tag="gap", kw_only=True):
    """Events are missing here: the `reason` says why, `pos` is where it goes on."""

    experiment_id: str
    reason: str
    pos: str | None = None


class Log(Frame, tag="log", kw_only=True, omit_defaults=False):
    """Whether the log can be read now. While it cannot, nothing comes; when it can, what came meanwhile does."""

    connected: bool


class Eof(Frame, tag="eof", kw_only=True):
    """A run ended, by the event right before this: nothing is to be waited for, unless it is resumed."""

    experiment_id: str
    run: str
    status: str


class Lagging(Frame, tag="lagging", kw_only=True):
    """This viewer leaves much unread; at `LOOPCAST_OUTBOX_BYTES` it is closed with 4008."""

    outbox_bytes: int


class Unsubscribed(Frame, tag="unsubscribed", kw_only=True):
    """The subscription ended: under 2500 for good, from 2500 on subscribe again."""

    id: Id | None = None
    experiment_id: str
    code: int
    reason: str


class StatsFrame(Frame, tag="stats", kw_only=True):
    """The numbers that were asked for."""

    id: Id | None = None
    data: dict[str, object]


class PingFrame(Frame, tag="ping", kw_only=True):
    """Sent in turn to every connection. `pos` is the end of each partition, valid for every subscription."""

    pos: list[str | None]


class PongFrame(Frame, tag="pong", kw_only=True):
    """The answer to a ping."""

    id: Id | None = None


class GoAway(Frame, tag="goaway", kw_only=True):
    """The connection is about to be closed; come back after so many milliseconds."""

    code: int
    reconnect_in_ms: int


class ErrorFrame(Frame, tag="error", kw_only=True):
    """A command was refused."""

    id: Id | None = None
    code: int
    name: str
    message: str
    temporary: bool


COMMANDS: tuple[type[Command], ...] = (Auth, Subscribe, Unsubscribe, Replay, Stats, Ping, Pong)
"""Every action."""

FRAMES: tuple[type[Frame], ...] = (
    Welcome, Authenticated, Subscribed, Snapshot, EventFrame, CaughtUp, ReplayEnd, Gap, Log, Eof, Lagging, Unsubscribed,
    StatsFrame, PingFrame, PongFrame, GoAway, ErrorFrame,
)  # fmt: skip
"""Every frame."""

encode = msgspec.json.Encoder().encode
