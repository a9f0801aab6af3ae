"""
What an answer of the producer means for the batch that was sent, and how long to wait before the next try. Pure.

    202                          every event was taken, was there already, or is refused for good
    413, and 400 or 422 of a     one of them is at fault: the batch is split until it stands alone, and given up
    producer
    401, 403                     keep all, warn, try slowly: somebody has to change the token
    408, 425, 429, 5xx           keep all, try again: full jitter, never sooner than Retry-After
    anything else                the address is not a producer's: keep all, warn, try slowly
"""

from __future__ import annotations

import json
from typing import NamedTuple

__all__ = ["Again", "Delivered", "Split", "Verdict", "judge", "lost_connection", "pause"]

PROBLEM = "urn:loopcast:problem:"
"""What the `type` of every producer's refusal begins with."""

FIRST_SECONDS = 0.2
CAP_SECONDS = 30.0
SLOW_SECONDS = 30.0
LONGEST_SECONDS = 300.0
"""Longer than this no Retry-After is believed."""


class Delivered(NamedTuple):
    """The batch is dealt with."""

    refused: int
    reason: str
    """What is wrong with the first one that was refused."""


class Split(NamedTuple):
    """One event of the batch is at fault."""

    reason: str


class Again(NamedTuple):
    """Keep the batch; try again no sooner than after `seconds`."""

    seconds: float
    reason: str
    wants_help: bool = False
    """Whether somebody has to change something before it can work."""


Verdict = Delivered | Split | Again


def judge(status: int, retry_after: str | None, body: bytes) -> Verdict:
    """What an answer means."""
    if status == 202:
        return _delivered(body)
    detail = _detail(status, body)
    # 413 may be a proxy's in between. What a stranger calls bad, such as plain HTTP to a port of HTTPS, is no event.
    if status == 413 or (status in (400, 422) and _is_ours(body)):
        return Split(detail)
    if status in (401, 403):
        return Again(SLOW_SECONDS, f"{detail} (LOOPCAST_TOKEN)", wants_help=True)
    if status in (408, 425, 429) or status >= 500:
        return Again(_seconds(retry_after), detail)
    return Again(SLOW_SECONDS, f"no producer answers at this address: {detail} (LOOPCAST_URL)", wants_help=True)


def lost_connection(error: Exception) -> Again:
    """The answer did not come."""
    return Again(0.0, f"{type(error).__name__}: {error}")


def pause(tries: int, at_least: float, chance: float) -> float:
    """
    How long to wait after `tries` failures in a row, from 0; `chance` is uniform in [0, 1).

    Full jitter under a doubling ceiling of 0.2, 0.4, 0.8, ... 30 s (AWS Architecture Blog, "Exponential Backoff And
    Jitter"), on top of what the producer asked for.
    """
    ceiling = min(CAP_SECONDS, FIRST_SECONDS * 2.0 ** min(tries, 32))
    return at_least + ceiling * chance


def _delivered(body: bytes) -> Verdict:
    try:
        answer = json.loads(body)
        refused = int(answer["invalid"])
        reason = next((str(event.get("error")) for event in answer["events"] if event["status"] == "invalid"), "")
    except (ValueError, TypeError, KeyError, AttributeError):
        return Again(SLOW_SECONDS, "202 without the results that a producer gives (LOOPCAST_URL)", wants_help=True)
    return Delivered(refused, reason)


def _detail(status: int, body: bytes) -> str:
    try:
        problem = json.loads(body)
        text = str(problem.get("detail") or problem.get("title") or "")
    except (ValueError, AttributeError):
        text = ""
    return f"{status} {text}".strip()[:500]


def _is_ours(body: bytes) -> bool:
    """Whether these are the problem details of a producer."""
    try:
        return str(json.loads(body)["type"]).startswith(PROBLEM)
    except (ValueError, TypeError, KeyError):
        return False


def _seconds(retry_after: str | None) -> float:
    """Retry-After in seconds; a date is not worth a clock's agreement and counts as a second (RFC 9110, 10.2.3)."""
    if retry_after is None:
        return 0.0
    return min(LONGEST_SECONDS, float(retry_after)) if retry_after.isascii() and retry_after.isdigit() else 1.0
