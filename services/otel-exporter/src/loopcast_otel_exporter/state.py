"""
What the fold remembers: the runs, their open spans, and nothing that the log before it does not say.

It lies in the checkpoint, so every part is a plain value with one encoding.
"""

from __future__ import annotations

from collections import OrderedDict

import msgspec

from loopcast.trace_ids import LOOP, span_id
from loopcast_otel_exporter.measure import Measurements
from loopcast_otel_exporter.semconv import VERSION
from loopcast_otel_exporter.signals import Link, Scalar, SpanEvent

__all__ = ["FORMAT", "Kind", "Open", "Run", "State", "Trace"]

FORMAT = f"otel-1.{VERSION}"
"""Of the checkpoint: with another one the state is folded anew from the log."""


class Kind:
    """What a span is of."""

    LOOP = 0
    STATE = 1
    ACTION = 2


class Open(msgspec.Struct, array_like=True, gc=False):
    """A span that has begun."""

    kind: int
    depth: int
    path: str
    span_id: bytes
    parent_id: bytes
    title: str
    """The name of the loop or state; of an action, the tool or agent."""
    start: int
    latest: int
    """The end of what ended last inside it, or its start: it does not end before."""
    attributes: dict[str, Scalar]
    events: list[SpanEvent] = []
    dropped: int = 0
    actions: int = 0
    loops: int = 0
    iteration: int = -1
    """Of a loop: the last one that was entered."""
    lines: int = 0
    size: int = 0
    """Bytes of the lines."""
    links: list[Link] = []


class Trace(msgspec.Struct, array_like=True, gc=False):
    """One attempt of a run, in its present chapter."""

    instance: str
    attempt: int
    trace_id: bytes
    started: int
    """When the attempt began."""
    began: int
    """When the chapter did."""
    chapter: int = 1
    spans: int = 0
    """Opened in this chapter."""
    stack: list[Open] = []
    resuming: bool = False
    """Opened by `loop_resume`, whose `loop_start` has yet to come."""
    chapters: list[Link] = []
    """The loop's spans in the chapters before, the latest of them."""
    loop: str = ""
    abandoned: bool = False

    @property
    def root(self) -> Link:
        """The loop's span of this chapter."""
        return Link(self.trace_id, span_id(self.trace_id, LOOP), "")


class Run(msgspec.Struct, array_like=True, gc=False):
    """What is known of a run; after its end for as long as late events are told from new ones."""

    experiment: str
    run: str
    touched: int
    """The log's time at its last event, in microseconds."""
    latest: int = 0
    """The time of its last event, in nanoseconds."""
    attempts: int = 0
    """The highest attempt that has a trace."""
    trace: Trace | None = None

    @property
    def is_open(self) -> bool:
        """Whether a loop of it runs."""
        return self.trace is not None and bool(self.trace.stack)


class _Record(msgspec.Struct, array_like=True):
    format: str
    runs: list[Run]
    measurements: Measurements
    swept: int


class State:
    """All of it. The runs stand in the order of their last events."""

    __slots__ = ("measurements", "runs", "swept")

    def __init__(self) -> None:
        self.runs: OrderedDict[tuple[str, str], Run] = OrderedDict()
        self.measurements = Measurements()
        self.swept = 0
        """The log's time when the runs were last looked through."""

    @property
    def open_spans(self) -> int:
        """How many spans have begun and not ended."""
        return sum(len(run.trace.stack) for run in self.runs.values() if run.trace is not None)

    def dump(self) -> bytes:
        """All of it, for a checkpoint."""
        return _encoder.encode(_Record(FORMAT, list(self.runs.values()), self.measurements, self.swept))

    @classmethod
    def load(cls, record: bytes) -> State:
        """
        Read back what :meth:`dump` wrote.

        Raises:
            ValueError: it did not, or another version's did.
        """
        try:
            stored = _decoder.decode(record)
        except msgspec.MsgspecError as error:
            raise ValueError(f"this is no folded state: {error}") from None
        if stored.format != FORMAT:
            raise ValueError(f"this state has the format {stored.format}; this program knows {FORMAT}")
        state = cls()
        state.runs.update(((run.experiment, run.run), run) for run in stored.runs)
        state.measurements, state.swept = stored.measurements, stored.swept
        return state


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Record)
