"""What a metric is: its name, kind, labels and meaning. Which there are is in :mod:`loopcast.metrics`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["LATENCY_BUCKETS", "WORK_BUCKETS", "Definition"]

LATENCY_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds in seconds."""

WORK_BUCKETS = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
"""Of what a process does by itself, without waiting for anybody."""


@dataclass(frozen=True, slots=True)
class Definition:
    """What a metric is called and means."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = LATENCY_BUCKETS
    """Of a histogram."""
