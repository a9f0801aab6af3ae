"""
Identifiers made here: event ids (UUIDv7) and emitters.

Python has `uuid.uuid7` from 3.14 on; this one keeps the same layout (RFC 9562, 5.7) and adds a counter within the
millisecond (6.2, method 1), so that the ids of one process sort in the order in which they were made. The random bits
are drawn once a millisecond: a process that makes many ids within one tells them apart by the counter.
"""

from __future__ import annotations

import itertools
import os
import random
import secrets
import threading
import time
from collections.abc import Callable

__all__ = ["new_emitter", "new_suffix", "uuid7"]

_MILLISECOND = 1_000_000

# Ids must differ, they need not be secret, and one is made for every event: os.urandom for each would cost as much as
# all the rest of stamping it.
_random = random.Random(secrets.randbits(256))  # noqa: S311
# Reentrant: a signal handler may make an id in the middle of making one.
_lock = threading.RLock()


# The ids of one millisecond: when it ends in nanoseconds, a prefix, a counter and, drawn anew for each, 62 random bits.
# The counter is one call in C: neither a thread nor a signal handler comes between reading it and counting on.
_Tick = tuple[int, str, Callable[[], int], str]


def _tick(millisecond: int) -> _Tick:
    text = f"{millisecond & 0xFFFF_FFFF_FFFF:012x}"
    tail = _random.getrandbits(62)
    end = f"-{0x8000 | tail >> 48:04x}-{tail & 0xFFFF_FFFF_FFFF:012x}"
    return (millisecond + 1) * _MILLISECOND, f"{text[:8]}-{text[8:]}-7", itertools.count().__next__, end


_last = _tick(0)


def uuid7() -> str:
    """A UUIDv7 as text, greater than every one that this process made before."""
    now = time.time_ns()
    ends, prefix, following, tail = _last
    if now >= ends:
        ends, prefix, following, tail = _turn(now // _MILLISECOND)
    number = following()
    while number > 0xFFF:
        ends, prefix, following, tail = _turn(ends // _MILLISECOND)
        number = following()
    return f"{prefix}{number:03x}{tail}"


def _turn(millisecond: int) -> _Tick:
    """The tick of `millisecond`, or of a later one that it is already."""
    global _last  # noqa: PLW0603 - the counter is the process's, like the clock that it refines
    with _lock:
        if millisecond * _MILLISECOND >= _last[0]:
            _last = _tick(millisecond)
        return _last


def new_emitter() -> str:
    """Who numbers events: 16 hexadecimal digits, new for each process that does, so that no number comes twice."""
    return secrets.token_hex(8)


def new_suffix() -> str:
    """What sets a run's id apart from others of its loop and second: 6 hexadecimal digits."""
    return secrets.token_hex(3)


def _renew() -> None:
    """
    A fork's child gets a lock that no thread holds, and ids of its own.

    A fork while another thread held the lock would leave the child's locked for ever.
    """
    global _lock, _last  # noqa: PLW0603 - as above
    _lock = threading.RLock()
    _random.seed(secrets.randbits(256))
    _last = _tick(_last[0] // _MILLISECOND)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
