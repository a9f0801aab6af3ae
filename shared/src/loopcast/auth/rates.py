"""Token buckets: how much somebody may do in the long run, and at once. Pure."""

from __future__ import annotations

from collections import OrderedDict

from loopcast.auth.grants import Rate

__all__ = ["Bucket", "Buckets"]


class Bucket:
    """
    Fills with `rate` a second up to `burst`.

    What is taken may be more than there is: the debt is paid by waiting. So a batch, whose size is known only when it
    was read, is taken whole, and whoever sent it waits for the next one.
    """

    __slots__ = ("_at", "_burst", "_level", "_rate")

    def __init__(self, rate: float, burst: float, *, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._level = burst
        self._at = now

    def wait(self, now: float, least: float = 1.0) -> float:
        """In how many seconds there is at least `least` (or all that there can be); 0 for at once."""
        self._fill(now)
        missing = min(least, self._burst) - self._level
        return max(0.0, missing / self._rate)

    def take(self, amount: float, now: float) -> None:
        """Take `amount`, into debt if it is more than there is."""
        self._fill(now)
        self._level -= amount

    def full(self, now: float) -> bool:
        """Whether it is as it was made, so that nothing is lost by forgetting it."""
        self._fill(now)
        return self._level >= self._burst

    def _fill(self, now: float) -> None:
        if now > self._at:
            self._level = min(self._burst, self._level + (now - self._at) * self._rate)
        self._at = now


class Buckets:
    """
    A bucket for each user, made when first asked for.

    There are at most `most`, so that invented users cost no memory; the one that was used longest ago goes first, and
    only where none is full does somebody get a burst too much.
    """

    def __init__(self, default: Rate | None, *, most: int = 10_000) -> None:
        self._default = default
        self._most = most
        self._of: OrderedDict[tuple[str, Rate], Bucket] = OrderedDict()

    def of(self, user: str, rate: Rate | None, now: float) -> Bucket | None:
        """The bucket of `user`, whose own rate counts if there is one; None where nothing limits it."""
        rate = rate or self._default
        if rate is None:
            return None
        bucket = self._of.get((user, rate))
        if bucket is None:
            bucket = self._of[user, rate] = Bucket(rate.events, rate.burst, now=now)
            if len(self._of) > self._most:
                self._of.popitem(last=False)
        else:
            self._of.move_to_end((user, rate))
        return bucket
