"""Carrying out the command `replay`: one after the other for each viewer, as fast as it reads."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from loopcast.auth import Grants, Patterns
from loopcast.errors import BrokerError
from loopcast.routing import ANYWHERE
from loopcast_gateway.chase import Patient, parts
from loopcast_gateway.entry import Entry
from loopcast_gateway.hub import Hub, Viewer
from loopcast_gateway.pages import Gone
from loopcast_gateway.protocol import ErrorName, Refused, Replay, ReplayEnd
from loopcast_gateway.replay import Reading, Replays, query_of
from loopcast_gateway.tail import Tail

if TYPE_CHECKING:
    from loopcast.history_query import Query

__all__ = ["Answering"]

MAX_WAITING = 8
"""Replays that one viewer may have asked for and not got yet."""


class _Job:
    """One replay, from the command to its last event."""

    __slots__ = ("command", "ended", "scope")

    def __init__(self, command: Replay, scope: Patterns | None) -> None:
        self.command = command
        self.scope = scope
        self.ended: Refused | None = None
        """Why nothing more of it is sent."""

    def narrow(self, permitted: Patterns) -> None:
        """End it where it is of more than what is permitted from now on."""
        command = self.command
        if command.experiment_id == ANYWHERE:
            detail = "The token's permissions changed while this was sent: ask again."
            self.ended = Refused(ErrorName.NOT_AVAILABLE, detail, command.id)
        elif not permitted.permit(command.experiment_id):
            detail = f"The token does not permit {command.experiment_id!r} any more."
            self.ended = Refused(ErrorName.PERMISSION_DENIED, detail, command.id)

    def go_on(self) -> None:
        """
        Check that it may.

        Raises:
            Refused: it was ended.
        """
        if self.ended is not None:
            raise self.ended


class Answering:
    """The replays of one gateway's viewers."""

    def __init__(self, hub: Hub, tails: Sequence[Tail], replays: Replays) -> None:
        self._hub = hub
        self._tails = tails
        self._replays = replays
        self._turns: dict[Viewer, tuple[asyncio.Lock, list[_Job]]] = {}

    def begin(self, viewer: Viewer, command: Replay, scope: Patterns | None = None) -> Coroutine[object, object, None]:
        """
        The work that answers `command`, with events of experiments in `scope` only; None is all.

        Raises:
            Refused: it asks for what cannot be, or the viewer has asked for too much already.
        """
        polite = viewer.dialect.polite
        if polite and command.id is None:
            raise Refused(ErrorName.BAD_REQUEST, 'Give a replay an "id": its events carry it.')
        query = query_of(command, self._hub.covered(command.experiment_id))
        turn, waiting = self._turns.setdefault(viewer, (asyncio.Lock(), []))
        if len(waiting) >= MAX_WAITING:
            raise Refused(ErrorName.REPLAY_BUSY, f"{MAX_WAITING} replays are waiting: try again after one.", command.id)
        job = _Job(command, scope)
        waiting.append(job)
        return self._answer(viewer, job, replace(query, anchored=not polite), turn)

    def narrow(self, viewer: Viewer, grants: Grants) -> None:
        """A viewer's permissions changed: what it asked for under others is sent no further."""
        for job in self._turns[viewer][1] if viewer in self._turns else ():
            job.narrow(grants.subscribe)

    def closed(self, viewer: Viewer) -> None:
        """Forget a viewer that went."""
        self._turns.pop(viewer, None)

    async def _answer(self, viewer: Viewer, job: _Job, query: Query, turn: asyncio.Lock) -> None:
        command = job.command
        async with turn:
            for number in self._hub.covered(command.experiment_id):
                await self._tails[number].ready.wait()
            try:
                await self._send(viewer, job, query)
            except Gone as error:
                detail = f"The log does not prove this position any more ({error}): replay by time."
                raise Refused(ErrorName.UNRECOVERABLE_POSITION, detail, command.id) from None
            except (BrokerError, TimeoutError):
                raise Refused(ErrorName.NOT_AVAILABLE, "The log does not answer: try again.", command.id) from None
            finally:
                if viewer in self._turns:
                    self._turns[viewer][1].remove(job)

    async def _send(self, viewer: Viewer, job: _Job, query: Query) -> None:
        reading, count, command, scope = Reading(), 0, job.command, job.scope
        job.go_on()
        async for found in self._replays.read(command.experiment_id, query, reading):
            entries = found if scope is None else [e for e in found if scope.permit(e.experiment)]
            if query.order == "newest" and not viewer.dialect.polite:
                entries.reverse()
            for part in parts(entries):
                job.go_on()
                self._put(viewer, command, part)
                count += len(part)
                await asyncio.sleep(0)
                if (patient := cast("Patient", viewer)).congested:
                    await patient.room()
        job.go_on()
        viewer.say(
            ReplayEnd(
                id=command.id,
                experiment_id=command.experiment_id,
                count=count,
                complete=reading.complete,
                next=reading.next,
                reason=reading.reason,
            )
        )

    def _put(self, viewer: Viewer, command: Replay, entries: Sequence[Entry]) -> None:
        dialect, several = viewer.dialect, self._hub.partitions > 1
        for chunk in dialect.join([dialect.answered(entry, command.id, several=several) for entry in entries]):
            viewer.put(chunk)
