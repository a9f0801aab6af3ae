"""
How long to wait before the next try, and when to stop trying: pure, chance and time are given.

The waits are the endpoint's own schedule, its last entry again and again, each made longer or shorter by up to a fifth:
what a person wrote keeps its meaning, and endpoints that failed together do not come back together (the spread that
Svix uses). `Retry-After` (RFC 9110, 10.2.3) may lengthen a wait, to an hour at most, and never shortens it.
"""

from __future__ import annotations

import datetime as dt
from email.utils import parsedate_to_datetime

from loopcast_webhook_forwarder.endpoints import Retry

__all__ = ["MAX_RETRY_AFTER", "Schedule", "parse_retry_after"]

MAX_RETRY_AFTER = 3600.0
JITTER = 0.2


class Schedule:
    """The waits of one endpoint."""

    def __init__(self, retry: Retry) -> None:
        self._waits = retry.schedule
        self._give_up_after = retry.give_up_after

    def wait(self, failures: int, chance: float, retry_after: float | None = None) -> float:
        """Seconds to wait after `failures` in a row, from 1; `chance` is uniform in [0, 1)."""
        base = self._waits[min(failures, len(self._waits)) - 1]
        wait = base * (1 - JITTER + 2 * JITTER * chance)
        return wait if retry_after is None else max(wait, min(retry_after, MAX_RETRY_AFTER))

    def slow(self, chance: float, retry_after: float | None = None) -> float:
        """Seconds to wait where only a person can mend it: the longest there is."""
        longest = max(self._waits)
        wait = longest * (1 - JITTER + 2 * JITTER * chance)
        return wait if retry_after is None else max(wait, min(retry_after, MAX_RETRY_AFTER))

    def gives_up(self, *, now: float, failing_since: float | None, taken: float) -> bool:
        """
        Whether an event, taken by a producer at `taken`, has been tried for long enough.

        Both have to be old: the event, and the endpoint's row of failures. An endpoint that just broke does not lose
        what waited in its queue, and one that stays broken does not try each event anew for days.
        """
        if failing_since is None:
            return False
        return now - failing_since >= self._give_up_after and now - taken >= self._give_up_after


def parse_retry_after(value: str | None, now: float) -> float | None:
    """Seconds from a `Retry-After` header, which holds seconds or a date; None where it holds neither."""
    if not value or len(value) > 64:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.UTC)
    return max(0.0, moment.timestamp() - now)
