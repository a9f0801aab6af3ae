"""What is remembered of a run between its events, so that its rows can be written: plain records. Pure."""

from __future__ import annotations

import msgspec

__all__ = ["Action", "Loop", "RunState", "State"]


class Action(msgspec.Struct, array_like=True):
    """An action that has begun."""

    n: int
    action: str | None
    is_prompt: bool
    started: str
    lines: int = 0


class State(msgspec.Struct, array_like=True):
    """A state that was entered."""

    n: int
    state: str | None
    iteration: int | None
    started: str
    verdict: str | None = None


class Loop(msgspec.Struct, array_like=True):
    """A loop that runs: the run's own at depth 0, a sub-loop deeper."""

    n: int
    loop: str | None
    attempt: int
    started: str
    parent_state: str | None = None
    state: State | None = None
    action: Action | None = None
    ended: str | None = None
    status: str | None = None


class RunState(msgspec.Struct, array_like=True):
    """A run, as its row has it, and the loops of it that have not ended."""

    experiment: str
    run: str
    first_n: int
    loop: str | None = None
    own_run: str | None = None
    parent_run: str | None = None
    status: str | None = None
    attempts: int = 0
    resumed: bool = False
    started: str | None = None
    ended: str | None = None
    before_ms: float = 0.0
    """How long the attempts took that are over."""
    duration_ms: float | None = None
    final_state: str | None = None
    terminated_by: str | None = None
    error: str | None = None
    iterations: int | None = None
    current_state: str | None = None
    iteration: int | None = None
    events: int = 0
    actions: int = 0
    tokens: list[int] = msgspec.field(default_factory=lambda: [0, 0, 0, 0])
    cost_usd: float | None = None
    last_n: int = 0
    last_time: str = ""
    loops: dict[int, Loop] = {}
    continuation: str | None = None
    missing: int = 0
    """Events that were numbered and never came, as far as the numbers of those that came tell."""

    def dump(self) -> bytes:
        """The record, to be kept in the run's row."""
        return msgspec.msgpack.encode(self)

    @classmethod
    def load(cls, record: bytes) -> RunState:
        """
        Read a record back.

        Raises:
            msgspec.MsgspecError: :meth:`dump` did not write it.
        """
        return _decoder.decode(record)

    def row(self) -> tuple[object, ...]:
        """The row of the table `runs`."""
        return (
            self.experiment, self.run, self.loop, self.own_run, self.parent_run, self.status, self.attempts,
            int(self.resumed), self.started, self.ended, self.duration_ms, self.final_state, self.terminated_by,
            self.error, self.iterations, self.current_state, self.iteration, self.events, self.missing, self.actions,
            *self.tokens,
            self.cost_usd, self.first_n, self.last_n, self.last_time, self.dump(),
        )  # fmt: skip


_decoder = msgspec.msgpack.Decoder(RunState)
