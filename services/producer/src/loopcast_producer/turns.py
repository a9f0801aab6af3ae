"""
Whose turn it is to publish what a Redis channel says, and what is kept of it until it is published.

Pure: what Redis says comes in, in the order in which it says it to all replicas (decision 42).
"""

from __future__ import annotations

from collections import deque
from itertools import islice

__all__ = ["Turns"]

_CLAIM = " claims"
_HOLD = " holds"


class Turns:
    """
    What one replica makes of the two channels.

    Three words are said of turns. A name alone begins the turn of a replica that has the lease. `NAME claims` is said
    by one that came back and could not ask for the lease: it keeps what comes, those without the lease stop there, and
    the next name alone says that it was right. `NAME holds` says that it was wrong: the holder took all of it.

    Args:
        name: of this replica.
        most_bytes: what is kept at most.
    """

    def __init__(self, name: str, most_bytes: int) -> None:
        self._name = name
        self._most_bytes = most_bytes
        self._kept: deque[bytes] = deque()
        self._claimed: deque[bytes] = deque()
        self._bytes = 0
        self._is_claim = False
        self.active = False
        """Whether what comes now is this replica's."""
        self.undecided = True
        """Whether nobody has said anything of turns since this replica came back."""

    @property
    def beginning(self) -> str:
        """What says that this replica has the lease and begins."""
        return self._name

    @property
    def claim(self) -> str:
        """What says that this replica keeps what comes, until somebody has the lease."""
        return self._name + _CLAIM

    @property
    def holding(self) -> str:
        """What answers another one's claim."""
        return self._name + _HOLD

    def __len__(self) -> int:
        return len(self._kept)

    def come_back(self, *, leased: bool) -> None:
        """Begin to hear: what was said meanwhile nobody knows, and what was claimed before nobody contradicted."""
        self.begin(leased)
        self.undecided = not leased

    def begin(self, active: bool) -> None:
        """Decide that what was claimed is this replica's, and whether what comes is."""
        self._kept += self._claimed
        self._claimed.clear()
        self.active, self._is_claim = active, False

    def hear(self, message: bytes) -> bool:
        """Keep a message where it is this replica's; False if it is and there is no room."""
        if not self.active:
            return True
        if self._bytes + len(message) > self._most_bytes:
            return False
        (self._claimed if self._is_claim else self._kept).append(message)
        self._bytes += len(message)
        return True

    def hear_of_turns(self, word: str, *, leased: bool) -> bool:
        """Do what `word` says; whether :attr:`holding` has to be answered. `leased`: this replica has the lease."""
        self.undecided = False
        mine = word.startswith(self._name)
        if word.endswith(_CLAIM):
            return self._hear_claim(mine=mine, leased=leased)
        if not word.endswith(_HOLD):
            self.begin(mine)
        elif not mine:
            self._give_up_claim()
        return False

    def _hear_claim(self, *, mine: bool, leased: bool) -> bool:
        if mine:
            self._is_claim = not self.active or self._is_claim
            self.active = True
        elif self.active and leased and not self._is_claim:
            return True
        else:
            self.active = self._is_claim = False
        return False

    def _give_up_claim(self) -> None:
        self._bytes -= sum(map(len, self._claimed))
        self._claimed.clear()
        if self._is_claim:
            self.active = self._is_claim = False

    def first(self, count: int, most_bytes: int) -> list[bytes]:
        """The oldest messages to publish: `count` and `most_bytes` at most, but one at least."""
        found: list[bytes] = []
        for message in islice(self._kept, count):
            most_bytes -= len(message)
            if found and most_bytes < 0:
                break
            found.append(message)
        return found

    def drop_first(self, count: int) -> None:
        """Forget the oldest messages: they are published."""
        for _ in range(count):
            self._bytes -= len(self._kept.popleft())
