"""The answers to a handshake: which subprotocol is spoken, and why it is refused."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from websockets.datastructures import Headers
from websockets.http11 import Response
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from loopcast.auth import CHALLENGE
from loopcast_gateway.admission import Refusal
from loopcast_gateway.dialects import DIALECTS

__all__ = ["choose_subprotocol", "refuse"]


def choose_subprotocol(server: ServerProtocol, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    """The first of ours, in our order; none for who offers none. Others were refused before."""
    del server
    return next((Subprotocol(name) for name in DIALECTS if name in offered), None)


def refuse(server: ServerProtocol, refusal: Refusal) -> Response:
    """Problem details (RFC 9457) instead of an upgrade."""
    response = server.reject(refusal.status, "")
    problem = {
        "type": f"urn:loopcast:problem:{refusal.reason}",
        "title": "The WebSocket handshake was refused",
        "status": refusal.status,
        "detail": refusal.detail,
    }
    body = msgspec.json.encode(problem)
    headers = Headers(response.headers)
    del headers["Content-Type"], headers["Content-Length"]
    headers["Content-Type"] = "application/problem+json"
    headers["Content-Length"] = str(len(body))
    if refusal.status == 401:
        headers["WWW-Authenticate"] = CHALLENGE
    if refusal.retry_after:
        headers["Retry-After"] = str(refusal.retry_after)
    return Response(response.status_code, response.reason_phrase, headers, body)
