"""
The runs of a partition's experiments: which go on, in which loop, state and iteration, and since when. Pure.

A run is shown from the first event that tells of a loop (`loop_start`, `loop_resume`, `state_enter`) until it is pushed
out by newer ones, those that have ended first. Only those few types are parsed; all else is told apart by its headers.

A killed process says nothing, so a run does not end by that. But one whose process told that it lives (its pulse), and
does not any more, is *silent*.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from loopcast import pulse
from loopcast.events import format_time, normalize_time, to_microseconds
from loopcast.outcome import RUNNING, WAITING, final_status

if TYPE_CHECKING:
    from loopcast.holes import Hole
    from loopcast_gateway.entry import Entry

__all__ = ["Level", "OpenRuns", "Run", "ended_run"]

MAX_RUNS = 5000
MAX_DEPTH = 64
MAX_TEXT = 200
FORGOTTEN_SECONDS = 24 * 3600
"""A run that said nothing for a day was killed, as far as anybody knows."""

VERSION = 1


class Level(msgspec.Struct, omit_defaults=True):
    """A loop that runs: the run's own, or a sub-loop."""

    loop: str | None = None
    state: str | None = None
    iteration: int | None = None
    since: str | None = None
    """When the state was entered."""
    started: str | None = None


class Run(msgspec.Struct, omit_defaults=True):
    """A run, as viewers are shown it."""

    experiment_id: str
    run: str
    attempt: int
    status: str
    """`running`, `awaiting_continuation`, or how it ended: `completed`, `failed`, `interrupted`, `timed_out`."""
    loop: str | None = None
    resumed: bool = False
    """Whether it was resumed without its beginning being known here."""
    parent_run: str | None = None
    started: str | None = None
    ended: str | None = None
    updated: str | None = None
    """When the last event was recorded."""
    pulse: str | None = None
    """When its process last told that it lives, where it does so (:mod:`loopcast.pulse`)."""
    silent: bool = False
    """Whether it runs, as far as it said, and its process tells no more that it lives."""
    missing: int = 0
    """How many of its events were numbered and never came: dropped by a full spool, or refused for good."""
    loops: list[Level] = []
    """The loops that run, the run's own first, each inside the one before."""

    @property
    def open(self) -> bool:
        """Whether it goes on, or waits to."""
        return self.status in (RUNNING, WAITING)


class _Record(msgspec.Struct, array_like=True):
    version: int
    runs: list[tuple[Run, int]]


class _Envelope(msgspec.Struct):
    data: msgspec.Raw
    time: str | None = None
    subject: str | None = None
    parentrunid: str | None = None
    attempt: int | None = None


_TOLD = frozenset(("loop_start", "loop_resume", "loop_complete", "handoff_detected", "state_enter"))
_OPENS = frozenset(("loop_start", "loop_resume", "state_enter"))
_envelope = msgspec.json.Decoder(_Envelope)
_data = msgspec.json.Decoder(dict[str, object])
_record = msgspec.msgpack.Decoder(_Record)


class _Known:
    __slots__ = ("recorded", "run")

    def __init__(self, run: Run, recorded: int) -> None:
        self.run = run
        self.recorded = recorded
        """Of its last event, in microseconds since 1970."""

    @property
    def lived(self) -> int:
        """When it last gave a sign of life, in microseconds since 1970."""
        return self.recorded if self.run.pulse is None else max(self.recorded, to_microseconds(self.run.pulse))


class OpenRuns:
    """The runs that spoke last, at most `limit`."""

    def __init__(self, limit: int = MAX_RUNS) -> None:
        self._limit = limit
        self._known: OrderedDict[tuple[str, str], _Known] = OrderedDict()
        self.forgotten = 0
        """How many open runs were pushed out."""

    def __len__(self) -> int:
        return len(self._known)

    @property
    def going(self) -> int:
        """How many go on, or wait to, as far as they have said."""
        return sum(known.run.open for known in self._known.values())

    def add(self, entry: Entry) -> None:
        """Take the next event of the log."""
        key = (entry.experiment, entry.run)
        known = self._known.get(key)
        if entry.type in _TOLD and entry.run and (told := _read(entry)) is not None:
            if known is None and entry.type in _OPENS:
                known = self._known[key] = _Known(
                    Run(*key, 1, RUNNING, resumed=entry.type == "loop_resume"), entry.recorded
                )
                self._bound()
            if known is not None:
                _step(known.run, entry.type, *told)
        if known is not None:
            known.recorded = entry.recorded
            self._known.move_to_end(key)

    def miss(self, hole: Hole) -> None:
        """Events of a run never came; one that is not known is not begun by it."""
        if (known := self._known.get((hole.experiment, hole.run))) is not None:
            known.run.missing += hole.events

    def beat(self, beat: pulse.Pulse) -> None:
        """Take a run's pulse: the next message of the log that is one. A run that is not known is not begun by it."""
        known = self._known.get((beat.experiment, beat.run))
        if known is not None and normalize_time(beat.recordedtime) == beat.recordedtime:
            known.run.pulse = beat.recordedtime

    def of(self, experiment: str | None, now: float) -> list[Run]:
        """The runs of `experiment` (None is all), open or ended, at `now` (Unix seconds); the last to speak first."""
        return [
            _shown(known, now) for (name, _), known in reversed(self._known.items()) if experiment in (None, name)
        ]  # fmt: skip

    def open(self, experiment: str | None, now: float) -> list[Run]:
        """Those that go on, or wait to, and gave a sign of life in the day before `now` (Unix seconds)."""
        since = (now - FORGOTTEN_SECONDS) * 1e6
        return [
            _shown(known, now)
            for (name, _), known in reversed(self._known.items())
            if experiment in (None, name) and known.run.open and known.lived >= since
        ]

    def dump(self) -> bytes:
        """The runs for a checkpoint."""
        return msgspec.msgpack.encode(_Record(VERSION, [(known.run, known.recorded) for known in self._known.values()]))

    def load(self, record: bytes) -> None:
        """
        Read back what :meth:`dump` gave.

        Raises:
            ValueError: it did not, or another version did.
        """
        try:
            stored = _record.decode(record)
        except msgspec.MsgspecError as error:
            raise ValueError(f"these are no runs: {error}") from None
        if stored.version != VERSION:
            raise ValueError(f"these runs have version {stored.version}; this program knows {VERSION}")
        self._known = OrderedDict(((run.experiment_id, run.run), _Known(run, at)) for run, at in stored.runs)
        self._bound()

    def _bound(self) -> None:
        while len(self._known) > self._limit:
            # The new one is the last, and not the one to go.
            gone = next((key for key, known in self._known.items() if not known.run.open), None)
            if gone is None:
                gone = next(iter(self._known))
                self.forgotten += 1
            del self._known[gone]


def ended_run(entry: Entry) -> str | None:
    """How the run of `entry` ended, where this is the event that says so."""
    if entry.type != "loop_complete" or not entry.run or (told := _read(entry)) is None or _depth(told[1]):
        return None
    return final_status(told[1])


def _read(entry: Entry) -> tuple[_Envelope, Mapping[str, object]] | None:
    try:
        envelope = _envelope.decode(entry.envelope)
        return envelope, _data.decode(envelope.data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        # Any object is an event; not every object tells of a loop.
        return None


def _step(run: Run, type_: str, envelope: _Envelope, data: Mapping[str, object]) -> None:
    time, depth = envelope.time, _depth(data)
    if depth > MAX_DEPTH:
        return
    run.parent_run = run.parent_run or envelope.parentrunid
    if type_ == "state_enter":
        _enter(run, depth, envelope, data)
    elif type_ in ("loop_start", "loop_resume"):
        name = _text(data, "loop") or envelope.subject
        del run.loops[depth:]
        if depth == 0:
            run.loop, run.status, run.ended = name or run.loop, RUNNING, None
            run.started = run.started or time
            run.attempt = envelope.attempt or run.attempt
        _pad(run, depth)
        run.loops.append(Level(loop=name, started=time))
    elif type_ == "handoff_detected" and depth == 0 and run.status == RUNNING:
        run.status = WAITING
    elif type_ == "loop_complete":
        del run.loops[depth:]
        if depth == 0:
            run.status, run.ended = final_status(data), time


def _enter(run: Run, depth: int, envelope: _Envelope, data: Mapping[str, object]) -> None:
    if not run.open:
        # What comes behind an end does not begin the run again.
        return
    del run.loops[depth + 1 :]
    _pad(run, depth + 1)
    level = run.loops[depth]
    level.state, level.iteration, level.since = _text(data, "state"), _whole(data, "iteration"), envelope.time
    if depth == 0:
        run.loop = run.loop or envelope.subject
        level.loop = level.loop or run.loop


def _pad(run: Run, depth: int) -> None:
    """Loops whose beginning nobody saw."""
    while len(run.loops) < depth:
        run.loops.append(Level())


def _shown(known: _Known, now: float) -> Run:
    run = known.run
    return msgspec.structs.replace(
        run,
        updated=format_time(known.recorded) if known.recorded else None,
        silent=run.status == RUNNING and run.pulse is not None and known.lived < (now - pulse.SILENT_SECONDS) * 1e6,
    )


def _depth(data: Mapping[str, object]) -> int:
    depth = data.get("depth")
    return depth if type(depth) is int and depth > 0 else 0


def _whole(data: Mapping[str, object], name: str) -> int | None:
    value = data.get(name)
    return value if type(value) is int and 0 <= value < 2**53 else None


def _text(data: Mapping[str, object], name: str) -> str | None:
    value = data.get(name)
    if not isinstance(value, str) or not value:
        return None
    return value[:MAX_TEXT].encode("utf-8", "replace").decode()
