"""
Endpoints that went out of the file while no forwarder ran: their queues stay bound and grow, and nobody delivers them.

The broker cannot be asked for its queues, so forwarders write down which endpoints they run. What has a queue and is in
no file is told, again and again, and left to a person: it may be a mistake in the file, and it holds events.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping

import structlog

from loopcast import metrics as inventory
from loopcast.broker.publisher import Publisher
from loopcast.errors import BrokerError
from loopcast.topology import webhook_names, webhook_queue
from loopcast_webhook_forwarder.fleet import Fleet
from loopcast_webhook_forwarder.objects import Objects
from loopcast_webhook_forwarder.runner import AGENT, Shared
from loopcast_webhook_forwarder.state import Record
from loopcast_webhook_forwarder.state_stream import StateStream

__all__ = ["REMOVED", "Leftovers"]

REMOVED = "removed"
"""The phase that the metrics show, and `loopcast webhooks list`."""

log = structlog.get_logger(__name__)


class Leftovers:
    """Looks for them as often as queues are measured."""

    def __init__(self, shared: Shared, fleet: Fleet) -> None:
        url = shared.settings.amqp_url
        self._fleet = fleet
        self._metrics = shared.metrics
        self._seconds = shared.settings.webhooks_depth_seconds
        self._objects = Objects(shared.client, url, name=f"{AGENT} leftovers")
        self._publisher = Publisher(shared.client, url, name=f"{AGENT} leftovers publish", prepare=self._prepare)
        self._stream = StateStream(shared.client, url, webhook_names().name, self._publisher, on_change=lambda: None)
        self._read = False
        self._told: set[str] = set()

    async def run(self) -> None:
        """Look, for ever."""
        async with contextlib.aclosing(self._objects), self._publisher:
            await self._publisher.wait_connected()
            async with self._stream.following():
                while True:
                    try:
                        await self._look()
                    except BrokerError as error:
                        log.debug("leftovers_not_seen", reason=str(error))
                    await asyncio.sleep(self._seconds)

    async def _prepare(self) -> None:
        await self._objects.declare(webhook_names())

    async def _look(self) -> None:
        if not self._read:
            await self._stream.sync()
            self._read = True
        known, mine = set(self._stream.state.names), set(self._fleet.names)
        depths = {name: await self._objects.depth(webhook_queue(name).name) for name in sorted(known - mine)}
        left = {name: depth for name, depth in depths.items() if depth is not None}
        if (there := mine | left.keys()) != known:
            await self._stream.sync(Record(names=tuple(sorted(there))))
        # One that came into the file meanwhile has its own levels.
        self._tell({name: depth for name, depth in left.items() if name not in self._fleet.names})

    def _tell(self, left: Mapping[str, int]) -> None:
        for name, depth in left.items():
            self._metrics.gauge(inventory.WEBHOOK_PHASE, endpoint=name, phase=REMOVED).set(1)
            self._metrics.gauge(inventory.WEBHOOK_QUEUE, endpoint=name).set(depth)
            if name not in self._told:
                hint = f"put it back into the file, or delete it with its events: loopcast webhooks drop {name}"
                log.error("endpoint_left_over", endpoint=name, queued=depth, hint=hint)
        for name in self._told - left.keys():
            self._metrics.remove(inventory.WEBHOOK_PHASE, endpoint=name, phase=REMOVED)
            if name not in self._fleet.names:
                self._metrics.remove(inventory.WEBHOOK_QUEUE, endpoint=name)
        self._told = set(left)
