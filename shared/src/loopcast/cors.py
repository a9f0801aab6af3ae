"""
What pages of other origins may do with the answers of a service (https://fetch.spec.whatwg.org/#http-cors-protocol).

Pure. Whether an origin is allowed at all is :mod:`loopcast.origins`' to say; this only puts it into header fields.
"""

from __future__ import annotations

__all__ = ["allow_page", "answer_preflight"]

Headers = tuple[tuple[bytes, bytes], ...]

PREFLIGHT_SECONDS = 600
_REQUEST_HEADERS = (
    b"authorization, content-type, content-encoding, idempotency-key, last-event-id, loopcast-run, loopcast-source, "
    b"traceparent, tracestate"
)


def allow_page(origin: bytes) -> Headers:
    """Header fields that let a page of `origin`, which is allowed, read the answer, its cookie included."""
    return (
        (b"access-control-allow-origin", origin),
        (b"access-control-allow-credentials", b"true"),
        (b"access-control-expose-headers", b"retry-after, www-authenticate"),
        (b"vary", b"Origin"),
    )


def answer_preflight(origin: bytes, methods: str) -> Headers:
    """Header fields of the answer to a page that asks first (`OPTIONS`)."""
    return (
        *allow_page(origin),
        (b"access-control-allow-methods", methods.encode("ascii")),
        (b"access-control-allow-headers", _REQUEST_HEADERS),
        (b"access-control-max-age", b"%d" % PREFLIGHT_SECONDS),
    )
