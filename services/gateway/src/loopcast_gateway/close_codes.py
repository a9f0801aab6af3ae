"""
Every code that a WebSocket of ours is closed with: the only list of them.

The ranges tell a client what to do without knowing the code (Centrifugo's rule): 4000-4499 come back with the last
`pos`, 4500-4999 do not come back, something must be mended first. Codes under 4000 are RFC 6455's and IANA's
(https://www.iana.org/assignments/websocket/websocket.xhtml). `docs/protocol.md` has this table, and a test holds it so.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CLOSE_CODES", "CloseCode", "reconnects"]


@dataclass(frozen=True, slots=True)
class CloseCode:
    """A code, the reason that is sent with it, and what it means for a client."""

    code: int
    reason: str
    meaning: str


NORMAL = CloseCode(1000, "", "The client closed.")
GOING_AWAY = CloseCode(1001, "", "The client's page or program went away.")
PROTOCOL_ERROR = CloseCode(1002, "protocol error", "Bytes that are no WebSocket frames.")
INVALID_DATA = CloseCode(1007, "invalid data", "A text frame that is not UTF-8.")
TOO_BIG = CloseCode(1009, "message too big", "A command larger than `limits.message_bytes`.")
INTERNAL = CloseCode(1011, "internal error", "A defect of the gateway; it has logged it.")
TRY_LATER = CloseCode(1013, "try again later", "Whether the token is good cannot be said now.")
RESTART = CloseCode(1012, "restart", "The gateway stops; come back after `goaway.reconnect_in_ms`.")
SLOW = CloseCode(4008, "slow consumer", "More was waiting to be read than the gateway keeps for one viewer.")
INSUFFICIENT_STATE = CloseCode(
    4010, "insufficient state", "Events are missing, and the client's protocol has no word for it."
)
NO_PONG = CloseCode(4012, "no pong", "A ping was not answered in time.")
RATE_LIMITED = CloseCode(4013, "rate limited", "Too many commands a second.")
TOKEN_EXPIRED = CloseCode(4003, "token expired", "Get a new token, then come back.")
BAD_TOKEN = CloseCode(4500, "bad token", "The token is not one, or not for here.")
BAD_REQUEST = CloseCode(4501, "bad request", "What was asked for can never be answered.")
NO_AUTH = CloseCode(4502, "no auth in time", "No token came in time.")
CONNECTION_LIMIT = CloseCode(4504, "connection limit", "This user or address has too many connections.")
SUBSCRIPTION_LIMIT = CloseCode(4505, "subscription limit", "Too many subscriptions on one connection.")
NOT_PERMITTED = CloseCode(4507, "not permitted", "The token does not allow this experiment.")
TOO_MANY_ERRORS = CloseCode(4509, "too many errors", "Ten commands in a row were refused.")

CLOSE_CODES: dict[int, CloseCode] = {
    v.code: v for v in sorted((v for v in globals().values() if isinstance(v, CloseCode)), key=lambda v: v.code)
}
"""All of them by number."""

_COME_BACK = frozenset({1001, 1006, 1011, 1012, 1013})


def reconnects(code: int) -> bool:
    """Whether a client that was closed with `code` should come back by itself."""
    return code in _COME_BACK or 4000 <= code <= 4499
