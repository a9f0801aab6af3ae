"""Refusals over HTTP: problem details (RFC 9457), for services on Starlette."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from starlette.responses import Response

__all__ = ["problem"]

_PROBLEM_JSON = "application/problem+json"


def problem(
    status: int,
    kind: str,
    title: str,
    detail: str,
    *,
    retry_after: int = 0,
    headers: Mapping[str, str] | None = None,
    **members: object,
) -> Response:
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
    more = {"Retry-After": str(retry_after)} if retry_after else {}
    return Response(
        msgspec.json.encode(body), status_code=status, headers={**more, **(headers or {})}, media_type=_PROBLEM_JSON
    )
