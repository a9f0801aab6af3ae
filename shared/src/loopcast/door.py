"""
What stands before every HTTP route of a service for viewers: whose name it was reached by, which page asks, who it is.

One place for all routes, so that a new one cannot forget to ask: a path that names an experiment is permitted, or not,
before any route sees it; routes of `*` and those that list experiments take what may be seen from :func:`grants_of`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import unquote

from starlette.datastructures import Headers
from starlette.responses import Response

from loopcast.auth import ANYBODY, CHALLENGE, Authenticator, Grants, bearer
from loopcast.auth.cookies import cookie_token
from loopcast.cors import allow_page, answer_preflight
from loopcast.errors import InvalidToken, KeysUnavailable
from loopcast.origins import Origins
from loopcast.problems import problem
from loopcast.routing import ANYWHERE

if TYPE_CHECKING:
    from starlette.requests import HTTPConnection
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Door", "grants_of"]

_EXPERIMENT = "/v1/experiments/"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


class Door:
    """
    Lets requests in to `app`.

    It leaves `%2F` in a path as it came: Starlette matches the decoded path, in which the slash of an experiment's id
    would be one between segments.

    Args:
        app: what is behind it.
        origins: the pages and names that may be used.
        authenticator: knows tokens and keys.
        opened: whether a method and path are for everybody: pages, and what describes the service.
    """

    def __init__(
        self, app: ASGIApp, origins: Origins, authenticator: Authenticator, *, opened: Callable[[str, str], bool]
    ) -> None:
        self._app = app
        self._origins = origins
        self._authenticator = authenticator
        self._opened = opened

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or let it in."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        refusal = self._page(headers.get("host"), origin)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        if origin is not None:
            send = _for_page(send, origin.encode("latin-1"))
            if scope["method"] == "OPTIONS":
                await _preflight(origin)(scope, receive, send)
                return
        path = scope["raw_path"].decode("ascii", "replace")
        found = ANYBODY if self._opened(scope["method"], path) else await self._who(headers, scope["method"])
        if isinstance(found, Grants):
            found = _forbidden(path, found) or found
        if isinstance(found, Response):
            await found(scope, receive, send)
            return
        state = {**scope.get("state", {}), "grants": found}
        await self._app({**scope, "path": path, "state": state}, receive, send)

    def _page(self, host: str | None, origin: str | None) -> Response | None:
        if not self._origins.allows_host(host):
            detail = f"This service is not {host!r}: use its own address, or set LOOPCAST_ALLOWED_HOSTS."
            return problem(403, "host", "Not this service", detail)
        if not self._origins.allows_origin(origin, host):
            detail = f"Pages of {origin!r} may not ask: add it to LOOPCAST_ALLOWED_ORIGINS."
            return problem(403, "origin", "Pages from there may not ask", detail)
        return None

    async def _who(self, headers: Headers, method: str) -> Grants | Response:
        try:
            token = bearer(headers.getlist("authorization"))
            if token is None and (method in _SAFE or "origin" in headers):
                token = cookie_token(headers.getlist("cookie"))
            return await self._authenticator.authenticate(token)
        except InvalidToken as error:
            given = "" if error.reason == "missing" else ', error="invalid_token"'
            return problem(
                401, "unauthorized", "Who is this?", str(error), headers={"WWW-Authenticate": CHALLENGE + given}
            )
        except KeysUnavailable as error:
            wait = round(error.retry_after)
            return problem(503, "keys-unavailable", "Tokens cannot be verified now", str(error), retry_after=wait)


def grants_of(request: HTTPConnection) -> Grants:
    """What the client of `request` may see."""
    found: Grants = request.scope["state"]["grants"]
    return found


def _forbidden(path: str, grants: Grants) -> Response | None:
    if not path.startswith(_EXPERIMENT) or grants.subscribe.everything:
        return None
    # Not UTF-8: the route says so.
    experiment = unquote(path.removeprefix(_EXPERIMENT).partition("/")[0], errors="surrogateescape")
    if grants.subscribe.permit(experiment) or (experiment == ANYWHERE and grants.subscribe):
        return None
    detail = f"The token does not permit to see {experiment[:100]!a}: its subscribe patterns do not match."
    return problem(403, "not-permitted", "This experiment is not permitted", detail)


def _preflight(origin: str) -> Response:
    response = Response(status_code=204)
    methods = answer_preflight(origin.encode("latin-1"), "GET, POST, DELETE")
    response.raw_headers += [field for field in methods if field not in allow_page(origin.encode("latin-1"))]
    return response


def _for_page(send: Send, origin: bytes) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *allow_page(origin)]}
        await send(message)

    return sending
