"""What is counted on the hot paths: plain numbers, handed to the metrics once a second instead of once an event."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from loopcast import metrics as names
from loopcast.metrics import Definition, Metrics

__all__ = ["Tally"]


@dataclass(slots=True)
class Tally:
    """Counts since the last :meth:`report`."""

    events: int = 0
    repeats: int = 0
    deliveries: int = 0
    sent_bytes: int = 0
    closes: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    commands: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    resumes: Counter[str] = field(default_factory=Counter)
    slow: Counter[str] = field(default_factory=Counter)
    gaps: Counter[str] = field(default_factory=Counter)
    replays: Counter[str] = field(default_factory=Counter)
    replayed: int = 0
    replay_seconds: list[tuple[str, float]] = field(default_factory=list)
    command_seconds: list[tuple[str, float]] = field(default_factory=list)

    def report(self, metrics: Metrics) -> None:
        """Add everything to the counters, and begin anew."""
        metrics.counter(names.GATEWAY_EVENTS).inc(self.events)
        metrics.counter(names.GATEWAY_REPEATS).inc(self.repeats)
        metrics.counter(names.GATEWAY_DELIVERIES).inc(self.deliveries)
        metrics.counter(names.GATEWAY_SENT_BYTES).inc(self.sent_bytes)
        metrics.counter(names.GATEWAY_REPLAYED).inc(self.replayed)
        self.events = self.repeats = self.deliveries = self.sent_bytes = self.replayed = 0
        for source, seconds in self.replay_seconds:
            metrics.histogram(names.GATEWAY_REPLAY_SECONDS, source=source).observe(seconds)
        self.replay_seconds.clear()
        for action, seconds in self.command_seconds:
            metrics.histogram(names.GATEWAY_COMMAND_SECONDS, action=action).observe(seconds)
        self.command_seconds.clear()
        for definition, counts in self._labelled():
            for value, count in counts.items():
                metrics.counter(definition, **{definition.labels[0]: value}).inc(count)
            counts.clear()

    def _labelled(self) -> list[tuple[Definition, Counter[str]]]:
        return [
            (names.GATEWAY_CLOSES, self.closes),
            (names.GATEWAY_REJECTED, self.rejected),
            (names.GATEWAY_COMMANDS, self.commands),
            (names.GATEWAY_ERRORS, self.errors),
            (names.GATEWAY_RESUMES, self.resumes),
            (names.GATEWAY_SLOW, self.slow),
            (names.GATEWAY_GAPS, self.gaps),
            (names.GATEWAY_REPLAYS, self.replays),
        ]
