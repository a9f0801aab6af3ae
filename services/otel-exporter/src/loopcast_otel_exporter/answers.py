"""
What a backend's answer means for a batch: taken, again later, or never. Pure.

The rules are OTLP's (specification 1.x, "OTLP/gRPC Response", "OTLP/HTTP Response", "Failures"), with one more: an
answer that is about the caller and not about the data (who are you, there is no such service) is no reason to throw
data away. It is tried again, slowly, until somebody mends the settings.
"""

from __future__ import annotations

import datetime as dt
import email.utils
from typing import NamedTuple

import grpc
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

__all__ = ["Again", "Answer", "Never", "Taken", "of_grpc", "of_http"]

SLOWLY = 30.0
"""Seconds until the next try where only a person can help."""


class Taken(NamedTuple):
    """The backend has it, `rejected` items of it excepted, which must not be sent again (partial success)."""

    rejected: int = 0
    message: str = ""


class Again(NamedTuple):
    """Nothing is known to be taken: send the same later, at the earliest after `after` seconds where it says so."""

    reason: str
    after: float | None = None


class Never(NamedTuple):
    """It will not be taken as it is: find the item at fault."""

    reason: str


Answer = Taken | Again | Never

_AGAIN = frozenset((
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DATA_LOSS,
))  # fmt: skip
_ABOUT_US = frozenset((
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.NOT_FOUND,
))  # fmt: skip
_HTTP_AGAIN = frozenset((429, 502, 503, 504))
_HTTP_ABOUT_US = frozenset((401, 403, 404, 405, 407))
MAX_REASON = 500


def of_grpc(code: grpc.StatusCode, message: str, details: bytes | None) -> Answer:
    """The meaning of a gRPC status; `details` is its trailer `grpc-status-details-bin`."""
    reason = f"{code.name}: {message}"[:MAX_REASON]
    if code in _ABOUT_US:
        return Again(reason, SLOWLY)
    if code in _AGAIN:
        return Again(reason, _retry_delay(details))
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and (delay := _retry_delay(details)) is not None:
        # Only with RetryInfo does it mean that the server recovers; without, a message may just be too large.
        return Again(reason, delay)
    return Never(reason)


def of_http(status: int, retry_after: str | None, body: str, now: dt.datetime) -> Answer:
    """The meaning of an HTTP status that is not 200."""
    reason = f"HTTP {status}: {body}"[:MAX_REASON]
    if status in _HTTP_AGAIN:
        return Again(reason, _seconds(retry_after, now))
    if status in _HTTP_ABOUT_US or 300 <= status < 400:
        return Again(reason, SLOWLY)
    return Never(reason)


def _retry_delay(details: bytes | None) -> float | None:
    if details is None:
        return None
    try:
        status = Status.FromString(details)
    except DecodeError:
        return None
    for detail in status.details:
        info = RetryInfo()
        if detail.Unpack(info):
            return float(max(0.0, info.retry_delay.seconds + info.retry_delay.nanos / 1e9))
    return None


def _seconds(retry_after: str | None, now: dt.datetime) -> float | None:
    """`Retry-After`: seconds, or a date (RFC 9110, 10.2.3)."""
    if retry_after is None:
        return None
    if retry_after.strip().isdigit():
        return float(retry_after)
    try:
        moment = email.utils.parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    return max(0.0, (moment - now).total_seconds()) if moment.tzinfo else None
