"""Forks and the end of the process: every living transport is told. Imported once, registers once."""

from __future__ import annotations

import atexit
import os
import time
from typing import Protocol

__all__ = ["EXIT_SECONDS", "enrol", "withdraw"]

EXIT_SECONDS = 2.0
"""How long the end of the process may wait for what is still to be sent."""


class Member(Protocol):
    """What a process's transports have to do."""

    def before_fork(self) -> None:
        """Hold still."""
        ...

    def after_fork_in_parent(self) -> None:
        """Go on."""
        ...

    def after_fork_in_child(self) -> None:
        """Begin anew: the parent sends what is its own."""
        ...

    def at_exit(self, seconds: float) -> None:
        """Send what can still be sent in so long."""
        ...


# In the order of enrolment, and kept alive: a transport that nobody refers to any more may still have events to send.
_members: dict[int, Member] = {}


def enrol(member: Member) -> None:
    """Tell `member` from now on."""
    _members[id(member)] = member


def withdraw(member: Member) -> None:
    """Tell `member` no more."""
    _members.pop(id(member), None)


def _each(name: str) -> None:
    for member in list(_members.values()):
        getattr(member, name)()


def _before() -> None:
    _each("before_fork")


def _in_parent() -> None:
    _each("after_fork_in_parent")


def _in_child() -> None:
    _each("after_fork_in_child")


def _at_exit() -> None:
    """One budget for all: their threads send at the same time, and a program of ten does not end ten times later."""
    deadline = time.monotonic() + EXIT_SECONDS
    for member in list(_members.values()):
        member.at_exit(max(0.0, deadline - time.monotonic()))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
atexit.register(_at_exit)
