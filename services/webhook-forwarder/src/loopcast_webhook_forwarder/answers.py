"""
What an endpoint's answer means: pure, one table.

2xx is success and nothing else is. What no retry by itself can mend (401, 403, 404, redirects) is not the events'
fault, so it never sends them to the dead letters by itself; what is the body's fault (400, 413, 422) is narrowed down.
Redirects are a failure: following one would post signed events to a place that nobody configured
(CloudEvents HTTP webhooks 1.0, 2.1: "MUST NOT").
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Answer", "Delivered", "Fault", "Gone", "Refused", "Retry", "Slowly", "Verdict", "judge"]

RETRIED = frozenset({408, 425, 429})


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back."""

    status: int
    body: bytes = b""
    """The beginning of it."""
    retry_after: float | None = None

    @property
    def sentence(self) -> str:
        """For people and headers."""
        return f"HTTP {self.status}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Nothing came back, or not all of an answer's head, in time."""

    reason: str
    mendable_by_people_only: bool = False
    """The address is refused, or what stands in the file cannot be used."""

    @property
    def sentence(self) -> str:
        """For people and headers."""
        return self.reason


@dataclass(frozen=True, slots=True)
class Delivered:
    """The endpoint has it."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Try the same again, after a wait."""

    reason: str
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Slowly:
    """Try again seldom: only a person can mend it."""

    reason: str
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """The body is at fault: a smaller one may pass, and one event alone that does not is a dead letter."""

    reason: str


@dataclass(frozen=True, slots=True)
class Gone:
    """410: the endpoint wants no more."""

    reason: str


Verdict = Delivered | Retry | Slowly | Refused | Gone


def judge(outcome: Answer | Fault) -> Verdict:
    """What is to be done about it."""
    reason = outcome.sentence
    if isinstance(outcome, Fault):
        return Slowly(reason) if outcome.mendable_by_people_only else Retry(reason)
    status = outcome.status
    if 200 <= status < 300:
        return Delivered()
    if status in RETRIED or status >= 500:
        return Retry(reason, outcome.retry_after)
    if status in (400, 413, 422):
        return Refused(reason)
    if status == 410:
        return Gone(reason)
    return Slowly(reason, outcome.retry_after)
