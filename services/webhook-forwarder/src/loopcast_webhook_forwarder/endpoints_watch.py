"""Reading the endpoints file again when it, or a secret that it names, changes; a bad file keeps the old endpoints."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import structlog

from loopcast import metrics as inventory
from loopcast.errors import ConfigurationError
from loopcast.metrics import Metrics
from loopcast_webhook_forwarder.setups import Setup

__all__ = ["watch_endpoints"]

log = structlog.get_logger(__name__)


async def watch_endpoints(
    read: Callable[[], Mapping[str, Setup]],
    known: Mapping[str, Setup],
    apply: Callable[[Mapping[str, Setup]], None],
    metrics: Metrics,
    *,
    seconds: float,
) -> None:
    """
    Call `apply` with the endpoints that `read` gives whenever they are not what they were, for ever.

    The files are read each time, not asked for their time: a mounted secret changes by a link that is exchanged.
    """
    taken, refused = (metrics.counter(inventory.WEBHOOK_RELOADS, result=r) for r in ("taken", "refused"))
    complaint = ""
    while True:
        await asyncio.sleep(seconds)
        try:
            setups = await asyncio.to_thread(read)
        except ConfigurationError as error:
            if str(error) != complaint:
                complaint = str(error)
                refused.inc()
                log.warning("endpoints_file_refused", reason=complaint, hint="the endpoints stay as they were")
            continue
        complaint = ""
        if setups != known:
            known = setups
            taken.inc()
            log.info("endpoints_file_read", endpoints=sorted(setups))
            apply(setups)
