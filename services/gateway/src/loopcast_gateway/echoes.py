"""How long viewers take to answer a ping: of a few of them each time, so that it costs nothing."""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

__all__ = ["SAMPLE", "Echoes"]

V = TypeVar("V", bound=Hashable)

SAMPLE = 20
"""Viewers of one round whose answers are timed."""


class Echoes(Generic[V]):
    """The pings that are timed; `observe` takes the seconds of each that came back."""

    def __init__(self, observe: Callable[[float], object]) -> None:
        self._observe = observe
        self._sent: dict[V, float] = {}

    def sent(self, viewers: Sequence[V], now: float) -> None:
        """Each of `viewers` is being sent a ping."""
        for viewer in random.sample(viewers, min(SAMPLE, len(viewers))):
            self._sent[viewer] = now

    def came(self, viewer: V, now: float) -> None:
        """A pong came from `viewer`."""
        if (sent := self._sent.pop(viewer, None)) is not None:
            self._observe(now - sent)

    def gone(self, viewer: V) -> None:
        """Wait for nothing from `viewer` any more."""
        self._sent.pop(viewer, None)
