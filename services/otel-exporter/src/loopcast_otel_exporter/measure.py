"""
Metrics counted from events, behind the same position as the spans.

They are not derived from spans: a backend that counts spans counts repeats too. The counts are part of the folded
state, so a replica that takes over goes on from the checkpoint's, and the sums stay exact. No label holds an
experiment or run: their number has no bound, and an exemplar leads to the run.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Literal, NamedTuple

import msgspec

__all__ = ["DEFINITIONS", "OVERFLOW", "SECONDS", "Exemplar", "Histogram", "Instrument", "Measurements"]

SECONDS = (0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 43200.0)
"""Upper bounds of the durations: from a shell line to half a day."""

MAX_SERIES = 2000
"""Series of one metric, as the SDK specification has it ("Cardinality limits"); what comes after shares one."""

OVERFLOW = "otel.metric.overflow"


class Instrument(NamedTuple):
    """What a metric is called and means."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    unit: str
    description: str
    labels: tuple[str, ...]


EVENTS = Instrument("loop.events", "counter", "{event}", "Events by type.", ("loop.event.type",))
RUN_SECONDS = Instrument(
    "loop.run.duration", "histogram", "s", "Loops from start to end, by how they ended.", ("loop.name", "error.type")
)
STATE_SECONDS = Instrument(
    "loop.state.duration", "histogram", "s", "States.", ("loop.name", "loop.state.name", "error.type")
)
ACTION_SECONDS = Instrument(
    "loop.action.duration", "histogram", "s", "Actions.", ("loop.name", "loop.state.name", "error.type")
)
ACTIVE = Instrument("loop.active", "gauge", "{loop}", "Loops that run now, sub-loops not counted.", ("loop.name",))
ITERATIONS = Instrument("loop.iterations", "counter", "{iteration}", "States entered.", ("loop.name",))
TOKENS = Instrument("loop.tokens", "counter", "{token}", "Tokens by type.", ("loop.name", "gen_ai.token.type"))
EVALUATIONS = Instrument(
    "loop.evaluations", "counter", "{evaluation}", "Verdicts.", ("loop.name", "loop.state.name", "verdict")
)
ABANDONED = Instrument("loop.abandoned", "counter", "{loop}", "Loops that fell silent without an end.", ("loop.name",))

DEFINITIONS: dict[str, Instrument] = {v.name: v for v in list(globals().values()) if isinstance(v, Instrument)}
"""All of them by name."""

Series = tuple[str, ...]
"""A metric's name and the values of its labels; the name and OVERFLOW for what is over the limit."""


class Exemplar(msgspec.Struct, array_like=True, gc=False):
    """The last span that was counted."""

    trace_id: bytes
    span_id: bytes
    value: float
    time: int


class Histogram(msgspec.Struct, array_like=True, gc=False):
    """Counts by bound, the last one for what is over all of them."""

    counts: list[int]
    total: int = 0
    """Nanoseconds: whole numbers add up to the same in any order."""
    exemplar: Exemplar | None = None


class Measurements(msgspec.Struct):
    """The sums of one partition since `started`, in nanoseconds."""

    started: int = 0
    sums: dict[Series, int] = {}
    histograms: dict[Series, Histogram] = {}
    series: dict[str, int] = {}
    """How many series a metric has."""

    def at(self, time: int) -> None:
        """Something was counted at `time`."""
        if not self.started:
            self.started = time

    def add(self, instrument: Instrument, amount: int, *labels: str) -> None:
        """Count `amount` more, or fewer for a gauge."""
        key = (instrument[0], *labels)
        try:
            self.sums[key] += amount
        except KeyError:
            key = self._admit(key)
            self.sums[key] = self.sums.get(key, 0) + amount

    def record(self, instrument: Instrument, nanoseconds: int, exemplar: Exemplar, *labels: str) -> None:
        """Count a duration."""
        key = (instrument.name, *labels)
        histogram = self.histograms.get(key)
        if histogram is None:
            histogram = self.histograms.setdefault(self._admit(key), Histogram([0] * (len(SECONDS) + 1)))
        histogram.counts[bisect_left(SECONDS, exemplar.value)] += 1
        histogram.total += nanoseconds
        histogram.exemplar = exemplar

    def _admit(self, key: Series) -> Series:
        known = self.series.get(key[0], 0)
        if known >= MAX_SERIES:
            return (key[0], OVERFLOW)
        self.series[key[0]] = known + 1
        return key
