"""
Identifiers made here: event ids (UUIDv7) and emitters.

Python has `uuid.uuid7` from 3.14 on; this one keeps the same layout (RFC 9562, 5.7) and adds a counter within the
millisecond (6.2, method 1), so that the ids of one process sort in the order in which they were made.
"""

from __future__ import annotations

import os
import secrets
import threading
import time

__all__ = ["new_emitter", "new_suffix", "uuid7"]

_COUNTER_BITS = 12
_lock = threading.Lock()
_last = 0


def uuid7() -> str:
    """A UUIDv7 as text, greater than every one that this process made before."""
    global _last  # noqa: PLW0603 - the counter is the process's, like the clock that it refines
    now = (time.time_ns() // 1_000_000) << _COUNTER_BITS
    with _lock:
        _last = tick = max(now, _last + 1)
    milliseconds, counter = tick >> _COUNTER_BITS, tick & 0xFFF
    tail = int.from_bytes(os.urandom(8)) & 0x3FFF_FFFF_FFFF_FFFF | 0x8000_0000_0000_0000
    digits = f"{milliseconds:012x}7{counter:03x}{tail:016x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def new_emitter() -> str:
    """Who numbers events: 16 hexadecimal digits, new for each process that does, so that no number comes twice."""
    return secrets.token_hex(8)


def new_suffix() -> str:
    """What sets a run's id apart from others of its loop and second: 6 hexadecimal digits."""
    return secrets.token_hex(3)


def _renew_lock() -> None:
    global _lock  # noqa: PLW0603 - a fork while another thread held it would leave the child's locked for ever
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)
