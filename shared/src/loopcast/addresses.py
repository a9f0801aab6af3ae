"""The base address of a service, as a person writes it. Pure, and the standard library alone: the SDK has it."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urlsplit

from loopcast.errors import ConfigurationError

__all__ = ["parse_address"]

_LOGIN = re.compile(r"^(?:[^/@]*//)?(.*@)", re.DOTALL)
_TAIL = re.compile(r"[?#].*", re.DOTALL)


def parse_address(given: str, name: str, what: str, example: str) -> SplitResult:
    """
    The parts of `given`: an http or https URL of a host, with a port and a path where they are said.

    Args:
        given: what a person wrote.
        name: where it was written, such as `LOOPCAST_URL`.
        what: what answers there, such as `a producer`.
        example: one as it should be.

    Raises:
        ConfigurationError: it is none, or has a login in it: who asks is known by a token alone, and an address stands
            in logs. The sentence shows neither a login nor a query.
    """
    try:
        parts = urlsplit(given)
        there = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 0) >= 0
    except ValueError:  # A port that is no number, a bracket that is not closed.
        there = False
    if there and "@" in parts.netloc:
        raise ConfigurationError(
            f"{name} {_shown(given)!r} has a user name or a password in it, which is shown to nobody: leave it out, "
            "and put a token into LOOPCAST_TOKEN where one is asked for."
        )
    path = parts.path if there else ""
    if not there or parts.query or parts.fragment or re.search(r"[^!-~]", path):
        raise ConfigurationError(f"{name} {_shown(given)!r} is no address of {what}: write it as {example}.")
    return parts


def _shown(given: str) -> str:
    """Without what may be a secret."""
    login = _LOGIN.match(given)
    hidden = given if login is None else f"{given[: login.start(1)]}…@{given[login.end(1) :]}"
    return _TAIL.sub("…", hidden)
