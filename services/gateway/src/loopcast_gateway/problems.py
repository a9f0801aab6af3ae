"""Refusals over HTTP: problem details (RFC 9457)."""

from __future__ import annotations

import msgspec
from starlette.responses import Response

__all__ = ["JSON", "problem"]

JSON = "application/json"
_PROBLEM_JSON = "application/problem+json"


def problem(status: int, kind: str, title: str, detail: str, *, retry_after: int = 0, **members: object) -> Response:
    """
    An answer with `status`; the detail says what to do.

    `members` are more of the problem's own; those that are None are left out.
    """
    body: dict[str, object] = {
        "type": f"urn:loopcast:problem:{kind}",
        "title": title,
        "status": status,
        "detail": detail,
    }
    body.update({name: value for name, value in members.items() if value is not None})
    headers = {"Retry-After": str(retry_after)} if retry_after else None
    return Response(msgspec.json.encode(body), status_code=status, headers=headers, media_type=_PROBLEM_JSON)
