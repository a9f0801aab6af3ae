"""
Why a request was refused, as RFC 9457 problem details: each kind of refusal, its status and its sentence, in one place.

A sentence says what was wrong and what to do about it. Pure: it knows nothing of HTTP servers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec

from loopcast.auth import CHALLENGE
from loopcast.errors import (
    BrokerBlocked,
    BrokerError,
    EventTooLarge,
    InvalidEvent,
    InvalidExperiment,
    InvalidToken,
    KeysUnavailable,
    LogMissing,
    LoopcastError,
    NotPermitted,
    WindowFull,
)

__all__ = [
    "PROBLEM_JSON",
    "Problem",
    "Refusal",
    "body_cut_off",
    "body_stopped",
    "body_too_large",
    "body_too_slow",
    "broker_problem",
    "going_away",
    "head_too_large",
    "internal_error",
    "invalid_event",
    "keys_unavailable",
    "method_not_allowed",
    "not_found",
    "not_json",
    "not_permitted",
    "not_this_service",
    "page_not_allowed",
    "too_busy",
    "too_many_items",
    "too_many_requests",
    "unauthorized",
    "unsupported_encoding",
    "unsupported_type",
]

PROBLEM_JSON = b"application/problem+json"
SENT_AGAIN = (
    "Send the request again; some of its events may have landed, so give them ids (CloudEvents) or the request an "
    "Idempotency-Key, and nothing comes twice."
)


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Problem details (RFC 9457, 3.1), with what was accepted before things went wrong as extension members."""

    type: str
    title: str
    status: int
    detail: str
    accepted: int | None = None
    duplicates: int | None = None
    invalid: int | None = None
    retry_after: int = 0

    def encode(self) -> bytes:
        """The body of the answer."""
        return msgspec.json.encode(self)

    def counted(self, accepted: int, duplicates: int, invalid: int) -> Problem:
        """The same, with what became of the events before."""
        return msgspec.structs.replace(self, accepted=accepted, duplicates=duplicates, invalid=invalid)


class Refusal(LoopcastError):
    """A request that is answered with `problem` and, besides its own, the header fields `headers`."""

    def __init__(self, problem: Problem, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        super().__init__(problem.detail)
        self.problem = problem
        self.headers = headers


def _refusal(status: int, kind: str, title: str, detail: str, *headers: tuple[bytes, bytes]) -> Refusal:
    return Refusal(Problem(type=f"urn:loopcast:problem:{kind}", title=title, status=status, detail=detail), headers)


def _later(kind: str, title: str, detail: str, seconds: float, *, status: int = 503) -> Refusal:
    """503 or 429 with Retry-After (RFC 9110, 10.2.3: whole seconds)."""
    wait = max(1, math.ceil(seconds))
    problem = Problem(type=f"urn:loopcast:problem:{kind}", title=title, status=status, detail=detail, retry_after=wait)
    return Refusal(problem, ((b"retry-after", b"%d" % wait),))


def not_json(detail: str) -> Refusal:
    """400: the body is no JSON at all."""
    return _refusal(400, "not-json", "The body is not JSON", detail)


def body_cut_off(detail: str) -> Refusal:
    """400: the body ended, or was damaged, on its way."""
    return _refusal(400, "body-damaged", "The body is damaged", detail)


def body_too_slow(seconds: float) -> Refusal:
    """408: the request comes slower than is worth waiting for."""
    return _too_slow(f"After {seconds:.0f} s it was not complete: send it again.")


def body_stopped(seconds: float) -> Refusal:
    """408: nothing more of the request comes."""
    return _too_slow(f"For {seconds:.0f} s nothing more of it came: send it again.")


def _too_slow(detail: str) -> Refusal:
    return _refusal(408, "too-slow", "The request came too slowly", detail)


def going_away() -> Refusal:
    """503: this process ends before the rest of the body came."""
    return _later(
        "going-away",
        "This producer ends",
        "This producer is being restarted and waits no longer for the rest of the body: send again what is not counted "
        "as accepted.",
        1,
    )


def head_too_large(limit: int) -> Refusal:
    """431: header fields without end."""
    return _refusal(
        431, "head-too-large", "The header is too large", f"The request's header has more than {limit:,} bytes."
    )


def body_too_large(limit: int, *, unpacked: bool = False) -> Refusal:
    """413: more than a request may have."""
    what = "unpacks to" if unpacked else "has"
    return _refusal(
        413,
        "body-too-large",
        "The body is too large",
        f"The body {what} more than {limit:,} bytes: send fewer events at once, or stream them as "
        "application/x-ndjson, which has no limit.",
    )


def too_many_items(limit: int) -> Refusal:
    """413: an array of more events than are taken at once."""
    return _refusal(
        413,
        "too-many-events",
        "There are too many events in one body",
        f"One array may have {limit:,} events: split it, or stream the events as application/x-ndjson, which has no "
        "limit.",
    )


def unsupported_type(got: str, known: str) -> Refusal:
    """415: a content type that is not taken."""
    hint = " (curl: -H 'Content-Type: application/json')" if got == "application/x-www-form-urlencoded" else ""
    return _refusal(
        415,
        "unsupported-type",
        "The content type is not taken",
        f"Content-Type {got!r} is not taken: send one of {known}, in UTF-8{hint}.",
    )


def unsupported_encoding(got: str) -> Refusal:
    """415: a content encoding that is not taken."""
    return _refusal(
        415,
        "unsupported-encoding",
        "The content encoding is not taken",
        f"Content-Encoding {got!r} is not taken: send the body as it is, or with gzip.",
        (b"accept-encoding", b"gzip"),
    )


def invalid_event(error: InvalidEvent) -> Refusal:
    """422, 413 for an event over the limit, or 403: the request's one event is not taken."""
    if isinstance(error, NotPermitted):
        return not_permitted(str(error))
    if isinstance(error, EventTooLarge):
        return _refusal(413, "event-too-large", "The event is too large", str(error))
    if isinstance(error, InvalidExperiment):
        return _refusal(422, "invalid-experiment", "This is no experiment id", str(error))
    return _refusal(422, "invalid-event", "This is no event", str(error))


def unauthorized(error: InvalidToken) -> Refusal:
    """401: no token, or one that permits nothing (RFC 6750, 3)."""
    given = "" if error.reason == "missing" else ', error="invalid_token"'
    return _refusal(
        401, "unauthorized", "Who is this?", str(error), (b"www-authenticate", f"{CHALLENGE}{given}".encode("ascii"))
    )


def keys_unavailable(error: KeysUnavailable) -> Refusal:
    """503: whether the token is good cannot be said now."""
    return _later("keys-unavailable", "Tokens cannot be verified now", str(error), error.retry_after)


def not_permitted(detail: str) -> Refusal:
    """403: the token is good, but not for this experiment."""
    return _refusal(403, "not-permitted", "This experiment is not permitted", detail)


def not_this_service(host: str) -> Refusal:
    """403: a page may have let a name of its own point here."""
    return _refusal(
        403,
        "host",
        "Not this service",
        f"This service is not {host[:100]!r}: use its own address, or set LOOPCAST_ALLOWED_HOSTS.",
    )


def page_not_allowed(origin: str) -> Refusal:
    """403: a page of somewhere else, in somebody's browser."""
    return _refusal(
        403,
        "origin",
        "Pages from there may not send",
        f"Pages of {origin[:100]!r} may not send events: add it to LOOPCAST_ALLOWED_ORIGINS.",
    )


def too_many_requests(seconds: float) -> Refusal:
    """429: more events than the token or key may send."""
    return _later(
        "rate-limited",
        "Too many events",
        "This key sent more events than it may: send again after Retry-After, with the same ids.",
        seconds,
        status=429,
    )


def not_found(path: str) -> Refusal:
    """404: no such route."""
    return _refusal(
        404,
        "not-found",
        "There is nothing here",
        f"{path[:200]!r} is no address of the producer: POST to /v1/experiments/<experiment>/events or /v1/events; "
        "an experiment id goes into the path percent-encoded, / as %2F.",
    )


def method_not_allowed(method: str, allowed: str = "POST") -> Refusal:
    """405: events are posted."""
    return _refusal(
        405,
        "method-not-allowed",
        "Not with this method",
        f"{method[:20]} is not possible here: {allowed} is.",
        (b"allow", allowed.encode("ascii")),
    )


def too_busy() -> Refusal:
    """503: the bodies of the requests that are being read fill the memory that is meant for them."""
    detail = f"The producer is reading as many bodies as it has room for. {SENT_AGAIN}"
    return _later("too-busy", "Too much is on its way", detail, 1)


def internal_error() -> Refusal:
    """500: a defect of ours."""
    return _refusal(
        500, "internal", "Something is wrong here", f"This is a defect of the producer; its log says more. {SENT_AGAIN}"
    )


_BROKER: Mapping[type[BrokerError], tuple[str, str]] = {
    BrokerBlocked: ("broker-blocked", "The broker takes nothing for now"),
    WindowFull: ("window-full", "Too much is unconfirmed"),
    LogMissing: ("log-missing", "The log is missing"),
}


def broker_problem(error: BrokerError) -> Refusal:
    """503: the broker did not confirm."""
    kind, title = _BROKER.get(type(error), ("broker-unavailable", "The broker did not confirm"))
    return _later(kind, title, f"{error} {SENT_AGAIN}", error.retry_after)
