"""Who a viewer is: from the handshake's token, or a first message; until it is known, nothing is served."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import structlog

from loopcast.auth import Authenticator, Bucket, Grants
from loopcast.errors import InvalidToken, KeysUnavailable
from loopcast_gateway import close_codes
from loopcast_gateway.admission import Refusal
from loopcast_gateway.close_codes import CloseCode
from loopcast_gateway.credentials import shown
from loopcast_gateway.crowd import Crowd, client_address, networks
from loopcast_gateway.deadlines import Deadlines

if TYPE_CHECKING:
    from loopcast.settings import GatewaySettings

__all__ = ["Access", "Guest", "Viewer"]

log = structlog.get_logger(__name__)


class Guest:
    """What is known of a viewer."""

    __slots__ = ("address", "bucket", "experiments", "grants", "held", "token", "user")

    def __init__(self, address: str) -> None:
        self.address = address
        self.grants: Grants | None = None
        """What it may see; None until that is known."""
        self.user = ""
        """As whom it is counted."""
        self.token: str | None = None
        """What it showed at the handshake, until that was checked."""
        self.experiments: tuple[str, ...] = ()
        """What its address names, to be followed once it is known who it is."""
        self.held: list[bytes] | None = None
        """While a token is being checked: the messages that came meanwhile."""
        self.bucket: Bucket | None = None
        """How many commands it may still send."""


class Viewer(Protocol):
    """A connection, as this module sees it."""

    guest: Guest

    def close(self, code: CloseCode) -> None:
        """Send what waits, then a close frame."""
        ...


class Access:
    """
    Decides who a viewer is and whether there is room for it, and ends who stays too long.

    Args:
        authenticator: knows tokens and keys.
        settings: the limits.
        clock: Unix seconds.
    """

    def __init__(
        self, authenticator: Authenticator, settings: GatewaySettings, *, clock: Callable[[], float] = time.time
    ) -> None:
        self.authenticator = authenticator
        self.auth_seconds = settings.auth_seconds
        self._clock = clock
        self._trusted = networks(settings.trusted_proxies)
        self._crowd = Crowd(
            per_address=settings.max_connections_per_address,
            per_user=settings.max_connections_per_user,
            handshakes=settings.handshakes_per_second,
        )
        self._deadlines: Deadlines[Viewer] = Deadlines()
        self._by_key: set[Viewer] = set()
        self._commands = settings.commands_per_second
        # Who comes back follows all its experiments again, in one moment.
        self._burst = 2 * settings.max_subscriptions + 5 * settings.commands_per_second

    def arrive(
        self, headers: Sequence[tuple[str, str]], offered: Sequence[str], peer: str, now: float
    ) -> Guest | Refusal:
        """
        Judge a handshake from `peer` at the time `now` of a clock that only goes forward.

        A wrong token in a header, which no page can send, is refused; a wrong one from a page is let in to be closed,
        because a page is told a close code and nothing of a refused handshake.
        """
        if wait := self._crowd.wait(now):
            return Refusal(503, "rate", "Too many are connecting: try again in a moment.", max(1, round(wait)))
        forwarded = ",".join(value for name, value in headers if name.lower() == "x-forwarded-for") or None
        guest = Guest(client_address(peer, forwarded, self._trusted))
        if not self._crowd.has_room(guest.address):
            detail = "Too many connections come from this address (behind a proxy: LOOPCAST_TRUSTED_PROXIES)."
            return Refusal(503, "address", detail, 5)
        try:
            found = shown(headers, offered)
        except InvalidToken as error:
            return Refusal(401, "token", str(error))
        if found.where == "cookie" and not any(name.lower() == "origin" for name, _ in headers):
            return Refusal(403, "origin", "A session cookie is taken from pages only, and this is none: no Origin.")
        try:
            guest.grants = self._known(found.token)
        except InvalidToken as error:
            if found.where == "header" and not self.authenticator.may_learn(found.token):
                return Refusal(401, "token", str(error))
            guest.token = found.token
        return guest

    def enter(self, viewer: Viewer) -> None:
        """A handshake was finished."""
        self._crowd.enter(viewer.guest.address)
        if viewer.guest.grants is None:
            self._deadlines.set(viewer, self._clock() + self.auth_seconds)

    def leave(self, viewer: Viewer) -> None:
        """A viewer went."""
        self._crowd.leave(viewer.guest.address, viewer.guest.user)
        self._deadlines.drop(viewer)
        self._by_key.discard(viewer)

    def may_command(self, viewer: Viewer, cost: float, now: float) -> bool:
        """Count a message of `viewer`; whether it is not too much."""
        if not self._commands:
            return True
        guest = viewer.guest
        if guest.bucket is None:
            guest.bucket = Bucket(self._commands, self._burst, now=now)
        guest.bucket.take(cost, now)
        return not guest.bucket.wait(now, 0.0)

    async def check(self, token: str | None) -> Grants | CloseCode:
        """What `token` permits, or the code that a viewer which shows it is closed with."""
        try:
            return await self.authenticator.authenticate(token)
        except InvalidToken as error:
            return close_codes.TOKEN_EXPIRED if error.reason == "expired" else close_codes.BAD_TOKEN
        except KeysUnavailable:
            return close_codes.TRY_LATER

    def grant(self, viewer: Viewer, grants: Grants) -> CloseCode | None:
        """
        Let `viewer` be who `grants` say, until they expire; a code where it may not stay.

        A viewer that was somebody before stays who it was: a new token is for the same user.
        """
        guest = viewer.guest
        if not grants.subscribe:
            return close_codes.NOT_PERMITTED
        if not guest.user and grants.user:
            if not self._crowd.name(grants.user):
                return close_codes.CONNECTION_LIMIT
            guest.user = grants.user
        guest.grants, guest.token = grants, None
        self._deadlines.set(viewer, grants.expires)
        if grants.key is not None:
            self._by_key.add(viewer)
        return None

    def overdue(self) -> list[tuple[Viewer, CloseCode]]:
        """Who has to go, and by which code: no token in time, a token that has expired, a key that was taken back."""
        found = [
            (viewer, close_codes.NO_AUTH if viewer.guest.grants is None else close_codes.TOKEN_EXPIRED)
            for viewer in self._deadlines.pop(self._clock())
        ]
        revoked = [v for v in self._by_key if v.guest.grants is not None and self.authenticator.revoked(v.guest.grants)]
        return [*found, *((viewer, close_codes.BAD_TOKEN) for viewer in revoked)]

    def _known(self, token: str | None) -> Grants | None:
        """What `token` permits; None where a viewer has to show one yet."""
        if token is None and self.authenticator.required:
            return None
        return self.authenticator.check(token)
