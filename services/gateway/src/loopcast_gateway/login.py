"""`/v1/session`: a token becomes a cookie, so that a person's browser need not keep it where scripts can read it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec
from fastapi import FastAPI, Request, Response

from loopcast.auth.cookies import MAX_COOKIE_TOKEN, clear_cookie, set_cookie
from loopcast.auth.headers import bearer
from loopcast.door import grants_of
from loopcast_gateway.problems import JSON, problem

if TYPE_CHECKING:
    from loopcast.auth import Grants

__all__ = ["SESSION", "Session", "add_session"]

SESSION = "/v1/session"

KEY_SECONDS = 8 * 3600
"""How long a cookie lasts whose token has no end of its own."""


class Session(msgspec.Struct, omit_defaults=True):
    """Who somebody is: empty for anybody, and which experiments may be seen, until when (Unix seconds)."""

    user: str
    subscribe: list[str]
    expires: float | None = None


def add_session(app: FastAPI) -> None:
    """Add the three routes. The door has looked at token, cookie and origin before."""

    @app.post(SESSION, responses={200: {"description": "The token is a cookie now."}})
    async def begin(request: Request) -> Response:
        """Keep the token of `Authorization` as a cookie: HttpOnly, SameSite=Strict."""
        token, grants = bearer(request.headers.getlist("authorization")), grants_of(request)
        if token is None:
            return problem(401, "unauthorized", "Who is this?", "Send the token as `Authorization: Bearer <token>`.")
        if len(token) > MAX_COOKIE_TOKEN:
            return problem(413, "token-too-long", "The token is too long", "Browsers keep no cookie of its size.")
        response = _shown(grants)
        seconds = KEY_SECONDS if grants.expires is None else int(max(0, grants.expires - time.time()))
        secure = request.headers.get("origin", "").startswith("https://")
        response.headers["Set-Cookie"] = set_cookie(token, seconds=seconds, secure=secure)
        return response

    @app.get(SESSION, responses={200: {"description": "Who asks."}})
    async def who(request: Request) -> Response:
        """Say who the token or cookie is of, and what it permits."""
        return _shown(grants_of(request))

    @app.delete(SESSION, status_code=204)
    async def end() -> Response:
        """Take the cookie away."""
        return Response(status_code=204, headers={"Set-Cookie": clear_cookie(), "Cache-Control": "no-store"})


def _shown(grants: Grants) -> Response:
    body = msgspec.json.encode(Session(grants.user, list(grants.subscribe.texts), grants.expires))
    return Response(body, media_type=JSON, headers={"Cache-Control": "no-store"})
