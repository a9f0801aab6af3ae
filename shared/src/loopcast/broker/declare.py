"""
Making or checking the topology, and watching that the log stays there.

The broker confirms what it could route anywhere. With a webhook's queue bound and the log gone, an event would be
confirmed and yet be in no log: so the log is bound again at every connect, and looked for every ten seconds.
"""

from __future__ import annotations

import asyncio
from typing import Literal

import structlog

from loopcast.broker.interface import AdminLink, Client
from loopcast.broker.meter import ConnectionMeter
from loopcast.broker.supervised import Supervised
from loopcast.broker.supervisor import Backoff, Supervisor
from loopcast.errors import BrokerError, LogMissing
from loopcast.topology import Topology

__all__ = ["WATCH_SECONDS", "LogWatch", "Mode", "ensure"]

Mode = Literal["declare", "verify"]
"""What `LOOPCAST_TOPOLOGY` says: make what is missing, or only check."""

WATCH_SECONDS = 10.0


async def ensure(client: Client, url: str, topology: Topology, *, mode: Mode, name: str) -> None:
    """
    Make what is missing of `topology`, or check that all is there, over a connection of its own.

    Raises:
        BrokerUnavailable: no connection, or the broker refused it.
        LogMissing: something is not there, and `mode` is `verify`.
        TopologyMismatch: the broker has it otherwise; this one does not go away by waiting.
    """
    link = await client.open_admin(url, name=name)
    try:
        await _ensure(link, topology, mode)
    finally:
        await link.close()


async def _ensure(link: AdminLink, topology: Topology, mode: Mode) -> None:
    if mode == "declare":
        await link.apply(topology)
    else:
        await link.verify(topology)


class LogWatch(Supervised[AdminLink]):
    """
    Knows which logs are missing, at most `seconds` late. Makes them again at a new connection, never in between.

    Somebody who deletes a log means to: it is not made again under their hands, but its absence is not hidden either.
    """

    def __init__(
        self,
        client: Client,
        url: str,
        topology: Topology,
        *,
        mode: Mode,
        name: str,
        seconds: float = WATCH_SECONDS,
        backoff: Backoff | None = None,
        meter: ConnectionMeter | None = None,
    ) -> None:
        self._client = client
        self._url = url
        self._topology = topology
        self._mode: Mode = mode
        self._name = name
        self._seconds = seconds
        self._log = structlog.get_logger("loopcast.broker", connection=name)
        super().__init__(
            Supervisor(
                self._connect,
                name=name,
                on_up=lambda _: None if meter is None else meter.up(),
                on_down=lambda _: None if meter is None else meter.down(),
                backoff=backoff,
            )
        )
        self._task: asyncio.Task[None] | None = None
        self.missing: frozenset[str] = frozenset()
        """The logs that were not there at the last look."""

    async def __aenter__(self) -> LogWatch:
        self._supervisor.start()
        self._task = asyncio.create_task(self._look_again_and_again())
        return self

    def require(self, *streams: str) -> None:
        """
        Refuse where one of `streams`, or the stray queue, is missing.

        Raises:
            LogMissing: it is.
        """
        absent = self.missing.intersection((*streams, self._topology.stray))
        if absent:
            raise LogMissing(f"The log {min(absent)} is not there: nothing was accepted.")

    async def close(self) -> None:
        """Stop looking."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        await self._supervisor.close()

    async def _connect(self) -> AdminLink:
        link = await self._client.open_admin(self._url, name=self._name)
        try:
            await _ensure(link, self._topology, self._mode)
            self._found(await link.missing(self._topology))
        except BaseException:
            await link.close()
            raise
        return link

    async def _look_again_and_again(self) -> None:
        while True:
            await asyncio.sleep(self._seconds)
            link = self._supervisor.link
            if link is None:
                continue
            try:
                self._found(await link.missing(self._topology))
            except BrokerError as error:
                self._log.warning("log_watch_failed", reason=str(error))

    def _found(self, missing: frozenset[str]) -> None:
        if missing != self.missing:
            event = self._log.error if missing else self._log.info
            event("log_missing" if missing else "log_there", logs=sorted(missing))
        self.missing = missing
