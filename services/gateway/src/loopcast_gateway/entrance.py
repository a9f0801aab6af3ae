"""The conversation until a gateway knows who a viewer is, and each time that a viewer shows a new token."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING

from loopcast.auth import Grants, Patterns
from loopcast.routing import ANYWHERE
from loopcast_gateway import close_codes
from loopcast_gateway.access import Access
from loopcast_gateway.close_codes import CloseCode
from loopcast_gateway.hub import Hub
from loopcast_gateway.protocol import Auth, Authenticated, ErrorName, Id, Refused, Unsubscribed

if TYPE_CHECKING:
    from loopcast_gateway.session import Connection

__all__ = ["Entrance"]

NOT_PERMITTED = 2003
"""A subscription ended for good: the new token does not permit it."""

PERMISSIONS_CHANGED = 2503
"""A subscription ended, to be begun again: the new token permits other parts of it."""


class Entrance:
    """
    Lets viewers in, and keeps what they follow within what they may see.

    Args:
        access: knows who they are.
        hub: what they follow.
        follow: begins a subscription.
        received: takes a message.
        spawn: runs work until the viewer goes.
        narrowed: is told when a viewer's permissions changed.
    """

    def __init__(
        self,
        access: Access,
        hub: Hub,
        *,
        follow: Callable[[Connection, str], None],
        received: Callable[[Connection, bytes], None],
        spawn: Callable[[Connection, Coroutine[object, object, None]], None],
        narrowed: Callable[[Connection, Grants], None],
    ) -> None:
        self._access = access
        self._hub = hub
        self._follow = follow
        self._received = received
        self._spawn = spawn
        self._narrowed = narrowed

    @property
    def seconds(self) -> float:
        """How long a viewer may take to show a token."""
        return self._access.auth_seconds

    def opened(self, viewer: Connection, experiments: tuple[str, ...]) -> None:
        """A viewer came whose address names `experiments`."""
        guest = viewer.guest
        guest.experiments = experiments
        if guest.grants is not None:
            self._let_in(viewer, guest.grants)
        elif guest.token is not None:
            self._ask(viewer, guest.token, None)

    def holds(self, viewer: Connection, text: bytes) -> bool:
        """Whether a message has to wait, because the token before it is being checked; if so, it is kept."""
        if viewer.guest.held is None:
            return False
        viewer.guest.held.append(text)
        return True

    def auth(self, viewer: Connection, command: Auth) -> None:
        """A viewer shows a token: its first one, or a newer one."""
        self._ask(viewer, command.token, command)

    def known(self, viewer: Connection, id_: Id | None) -> Grants:
        """
        What a viewer may see.

        Raises:
            Refused: nobody knows yet.
        """
        grants = viewer.guest.grants
        if grants is None:
            raise Refused(ErrorName.UNAUTHORIZED, 'Say who you are first: {"action":"auth","token":…}.', id_)
        return grants

    def scope(self, viewer: Connection, experiment: str, id_: Id | None) -> Patterns | None:
        """
        What of `experiment` a viewer may see: `*` is all that its token permits; None is all there is.

        Raises:
            Refused: nothing.
        """
        permitted = self.known(viewer, id_).subscribe
        if experiment != ANYWHERE and not permitted.permit(experiment):
            raise Refused(ErrorName.PERMISSION_DENIED, f"The token does not permit {experiment!r}.", id_)
        return permitted if experiment == ANYWHERE and not permitted.everything else None

    def _ask(self, viewer: Connection, token: str, command: Auth | None) -> None:
        viewer.guest.held = []
        self._spawn(viewer, self._answer(viewer, token, command))

    async def _answer(self, viewer: Connection, token: str, command: Auth | None) -> None:
        found = await self._access.check(token)
        held, viewer.guest.held = viewer.guest.held or [], None
        if isinstance(found, CloseCode):
            viewer.close(found)
            return
        try:
            self._renew(viewer, found, command)
        finally:
            for text in held:
                self._received(viewer, text)

    def _renew(self, viewer: Connection, grants: Grants, command: Auth | None) -> None:
        before = viewer.guest.grants
        if before is not None and before.user != grants.user:
            detail = "This token is another user's: open a connection for it."
            raise Refused(ErrorName.PERMISSION_DENIED, detail, command.id if command is not None else None)
        self._let_in(viewer, grants, command)
        if before is not None and before.subscribe != grants.subscribe:
            self._narrow(viewer, grants)

    def _let_in(self, viewer: Connection, grants: Grants, command: Auth | None = None) -> None:
        guest = viewer.guest
        experiments, guest.experiments = guest.experiments, ()
        code = self._access.grant(viewer, grants)
        if code is None and not all(e == ANYWHERE or grants.subscribe.permit(e) for e in experiments):
            code = close_codes.NOT_PERMITTED
        if code is not None:
            viewer.close(code)
            return
        if command is not None:
            viewer.say(Authenticated(id=command.id, subscribe=list(grants.subscribe.texts), expires=grants.expires))
        for experiment in experiments:
            self._follow(viewer, experiment)

    def _narrow(self, viewer: Connection, grants: Grants) -> None:
        """End what the new token does not permit, or permits other parts of: what is followed, and what is replayed."""
        self._narrowed(viewer, grants)
        for experiment in self._hub.followed(viewer):
            if experiment != ANYWHERE and grants.subscribe.permit(experiment):
                continue
            code, reason = NOT_PERMITTED, "not permitted"
            if experiment == ANYWHERE:
                code, reason = PERMISSIONS_CHANGED, "permissions changed"
            self._hub.end(viewer, experiment)
            viewer.say(Unsubscribed(experiment_id=experiment, code=code, reason=reason))
            if not viewer.dialect.polite:
                # PromptLooper's clients have no word for it: only the end of the connection tells them.
                viewer.close(close_codes.INSUFFICIENT_STATE if experiment == ANYWHERE else close_codes.NOT_PERMITTED)
