"""
Being the replica that delivers: claiming the endpoint's state, and writing it.

The broker decides who is active (single active consumer) and tells nobody, so a replica claims the state when the first
events come: with a new epoch, and read back, so that it knows all that its predecessor wrote before.
"""

from __future__ import annotations

import structlog
from msgspec.structs import replace

from loopcast.errors import BrokerBlocked, BrokerError
from loopcast_webhook_forwarder.state import Control, Progress, Record, State
from loopcast_webhook_forwarder.state_stream import StateStream

__all__ = ["Holding"]

log = structlog.get_logger(__name__)


class Holding:
    """The active replica's view of an endpoint's state."""

    def __init__(self, stream: StateStream, replica: str) -> None:
        self._stream = stream
        self._replica = replica
        self._progress: Progress | None = None

    @property
    def state(self) -> State:
        """The state as it is known here: while held, with this replica's own progress."""
        known = self._stream.state
        return known if self._progress is None else State(known.control, self._progress, known.bindings)

    @property
    def held(self) -> bool:
        """Whether this replica claimed the endpoint and no other has since."""
        mine, known = self._progress, self._stream.state.progress
        return mine is not None and (known.epoch < mine.epoch or known.holder == self._replica)

    async def claim(self, *, event_bytes: float = 0.0, ahead: int = 0) -> bool:
        """
        Take the endpoint over: whether this replica has it. What is known of its events and queue is written down too.

        Raises:
            BrokerError: it is not known who has it.
        """
        known = self._stream.state.progress
        claimed = replace(
            known,
            epoch=known.epoch + 1,
            holder=self._replica,
            event_bytes=event_bytes or known.event_bytes,
            ahead=max(ahead, known.ahead),
        )
        try:
            state = await self._stream.sync(Record(progress=claimed))
        except BrokerBlocked:
            # An alarm stops what is written, not what is delivered, and delivering is what ends the alarm.
            self._progress = claimed
            return True
        if state.progress.holder != self._replica:
            return False
        self._progress = state.progress
        return True

    def release(self) -> None:
        """The channel is closed: what others write counts again."""
        self._progress = None

    async def note(self, progress: Progress) -> None:
        """Go on with `progress`, and tell. Where the broker does not take it, it is known here alone."""
        assert self._progress is not None
        self._progress = replace(progress, epoch=self._progress.epoch, holder=self._replica)
        await self._tell(Record(progress=self._progress))

    async def insist(self, progress: Progress) -> None:
        """
        Go on with `progress` once it is written.

        Raises:
            BrokerError: it was not confirmed and may have been written, or another replica has the endpoint by now.
        """
        assert self._progress is not None
        after = replace(progress, epoch=self._progress.epoch, holder=self._replica)
        state = await self._stream.sync(Record(progress=after))
        if state.progress.holder != self._replica:
            raise BrokerError("Another replica has this endpoint by now.")
        self._progress = after

    async def stop(self, reason: str, now: float) -> None:
        """Stop the endpoint until somebody resumes it."""
        version = self._stream.state.control.version + 1
        control = Control(version=version, mode="stopped", reason=reason, at=now)
        await self._stream.sync(Record(control=control))

    async def _tell(self, record: Record) -> None:
        try:
            await self._stream.write(record)
        except BrokerError as error:
            log.warning("state_not_written", reason=str(error))
