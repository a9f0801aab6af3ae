"""What somebody may do, once it is known who that is. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from loopcast.auth.patterns import EVERYTHING, Patterns

__all__ = ["ANYBODY", "BURST_SECONDS", "Grants", "Rate"]

BURST_SECONDS = 10.0
"""Without a burst of its own, a rate lets at once what it lets in so long."""


@dataclass(frozen=True, slots=True)
class Rate:
    """How much somebody may send: `events` a second in the long run, `burst` at once."""

    events: float
    burst: float

    @classmethod
    def of(cls, events: float, burst: float | None = None) -> Rate:
        """The rate with the burst that it has where nobody named one."""
        return cls(events, burst or BURST_SECONDS * events)


@dataclass(frozen=True, slots=True)
class Grants:
    """What a token or an API key permits."""

    user: str
    """Who it is, for limits and for the log: never the token or the key itself. Empty for anybody."""
    publish: Patterns
    subscribe: Patterns
    expires: float | None = None
    """Unix time from which on it permits nothing; None is never."""
    key: str | None = None
    """The API key's name, where it is one."""
    rate: Rate | None = None
    """None where the service's own default counts."""


_ALL = Patterns((EVERYTHING,))

ANYBODY = Grants(user="", publish=_ALL, subscribe=_ALL)
"""Who uses a service that asks nobody."""
