"""
From a dict to the bytes of its CloudEvent: identity, time, run and number, around the object's own JSON.

Pure but for clock and randomness. The envelope is put together from pieces that are encoded once a run, because this
runs inside the agent's loop, for every event.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Mapping

from loopcast.coerce import encode
from loopcast.events import event_type, format_time, normalize_time, source_of
from loopcast.ids import new_emitter, new_suffix, uuid7
from loopcast.routing import coerce_type
from loopcast.runs import Identity, Runs
from loopcast.sdk.run_memory import RunMemory
from loopcast.strands import Strands
from loopcast.trace_context import TraceContext

__all__ = ["Stamper"]

MAX_RUNS = 10_000
"""How many runs are counted before the numbers start anew, under a new emitter."""


MAX_TYPES = 1000
NO_CONTEXT = TraceContext()


class Stamper:
    """
    Stamps the events of one source, in their order. Not thread-safe.

    Args:
        experiment: what the events are of.
        run: the run of all of them, where the caller knows it.
        parent_run: the run that spawned this source.
        memory: what is known of runs beyond this process; None to know nothing.
        alive: the process that heartbeats of its open runs name, None while it is not known to live.
        context: the trace context that all events are made in.
        new_id: makes the ids of events.
        new_suffix: makes what sets a run's id apart.
        now: microseconds since 1970, for a run whose first event has no time.

    Raises:
        InvalidExperiment: the run breaks its grammar.
    """

    def __init__(
        self,
        experiment: str,
        run: str | None = None,
        parent_run: str | None = None,
        memory: RunMemory | None = None,
        *,
        alive: Callable[[], int | None] = os.getpid,
        context: TraceContext = NO_CONTEXT,
        new_id: Callable[[], str] = uuid7,
        new_suffix: Callable[[], str] = new_suffix,
        now: Callable[[], int] | None = None,
    ) -> None:
        self.alive = alive
        self._new_id = new_id
        self._experiment = experiment
        self._memory = memory
        self._context = context
        recall = None if memory is None else memory.recall

        def make() -> Runs:
            return Runs(now=now or _now, suffix=new_suffix, run=run, parent_run=parent_run, recall=recall)

        self.runs = Strands(make, split=run is None)
        self._identity: Identity | None = None
        self._prepared: tuple[object, ...] = ()
        self._before_type = self._before_time = self._before_number = self._before_data = ""
        self._numbers: dict[str, int] = {}
        # What lies between the id and the time, by the type that the event names; of one run.
        self._types: dict[str, str] = {}
        self._second = ""
        self.emitter = new_emitter()
        self.coerced = 0
        """Values and keys that JSON has no place for and that were changed."""

    def renew(self) -> None:
        """Number under another name, as another process has to (after a fork)."""
        self.emitter = new_emitter()
        self._numbers.clear()
        self._identity, self._prepared = None, ()

    def dump(self) -> dict[str, object]:
        """Where the numbers and runs are, as plain JSON types."""
        return {"emitter": self.emitter, "numbers": dict(self._numbers), "runs": self.runs.dump()}

    def load(self, memory: Mapping[str, object]) -> None:
        """
        Go on where :meth:`dump` was taken, as the same emitter: only for who stamps the very same events again.

        Raises:
            ValueError: it is not what this version's `dump` gives.
        """
        emitter, numbers = memory.get("emitter"), memory.get("numbers")
        if not isinstance(emitter, str) or not isinstance(numbers, dict):
            raise ValueError("this is no memory of a stamper")  # noqa: TRY004 - as for other faults
        self.runs.load(memory.get("runs"))
        self.emitter = emitter
        self._numbers = {str(run): int(number) for run, number in numbers.items()}
        self._identity, self._prepared = None, ()

    def stamp(self, event: Mapping[str, object], named: Mapping[str, object] | None = None) -> bytes:
        """The CloudEvent of `event`, compact, `data` last; `named` says the run where the event itself does not."""
        data, coerced = encode(event)
        self.coerced += coerced
        type_ = event_type(event)
        identity = self.runs.identify(event, type_) if named is None else self.runs.identify(named)
        if identity is not self._identity:
            self._turn(identity)
        run, numbers = identity[0], self._numbers
        number = numbers[run] = numbers.get(run, 0) + 1
        ts = event.get("ts")
        # As little-loops writes it, in the same second as the one before: only the digits behind that differ.
        if type(ts) is str and ts[:20] == self._second and ts[26:] == "+00:00" and ts[20:26].isdigit() and ts.isascii():
            time_ = ts[:26] + "Z"
        else:
            time_ = self._time(ts)
        head = (
            f'{{"specversion":"1.0","id":"{self._new_id()}{self._types.get(type_) or self._type(type_)}{time_}'
            f"{self._before_number}{str(number).zfill(20)}{self._before_data}"
        )
        return b"".join((head.encode("ascii"), data, b"}"))

    def _turn(self, identity: Identity) -> None:
        """Go on with `identity`, which is not the one of the event before, or does something to the run."""
        if identity.change is not None:
            self._remember(identity)
        if identity.run not in self._numbers and len(self._numbers) >= MAX_RUNS:
            self.renew()
        if _shown(identity) != self._prepared:
            self._prepare(identity)
        self._identity = identity

    def _time(self, ts: object) -> str:
        """The event's own time, else this moment."""
        time_ = (None if ts is None else normalize_time(ts)) or format_time(_now())
        if isinstance(ts, str) and ts[26:] == "+00:00" and time_ == ts[:26] + "Z":
            self._second = ts[:20]
        return time_

    def _remember(self, identity: Identity) -> None:
        """Let other processes know, before the event is anywhere: they may come the moment after."""
        if self._memory is None or identity.loop is None:
            return
        with contextlib.suppress(OSError):  # The run's events say the same; a resume elsewhere opens a run then.
            self._memory.remember(identity.loop, self.runs.runs.known(identity.loop))

    def _type(self, named: str) -> str:
        if len(self._types) >= MAX_TYPES:
            self._types.clear()
        type_ = self._types[named] = f"{self._before_type}{coerce_type(named)}{self._before_time}"
        return type_

    def _prepare(self, identity: Identity) -> None:
        source = source_of(self._experiment, identity.run)
        subject = f',"subject":{json.dumps(identity.loop)}' if identity.loop else ""
        parent = f',"parentrunid":{json.dumps(identity.parent_run)}' if identity.parent_run else ""
        self._before_type = f'","source":"{source}","type":"'
        self._before_time = f'"{subject},"time":"'
        self._before_number = (
            f'","experimentid":{json.dumps(self._experiment)},"runid":{json.dumps(identity.run)},'
            f'"attempt":{identity.attempt}{parent},"emitter":"{self.emitter}","sequence":"'
        )
        resumed = ',"resumed":true' if identity.resumed else ""
        self._before_data = f'"{_members(self._context)}{resumed},"data":'
        self._types.clear()
        self._prepared = _shown(identity)


def _members(context: TraceContext) -> str:
    return "".join(
        f',"{name}":{json.dumps(value)}'
        for name, value in (("traceparent", context.parent), ("tracestate", context.state))
        if value is not None
    )


def _shown(identity: Identity) -> tuple[object, ...]:
    """What of an identity is in the envelope."""
    return (identity.run, identity.attempt, identity.loop, identity.resumed)


def _now() -> int:
    return time.time_ns() // 1000
