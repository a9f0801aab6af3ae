"""
Connections of aio-pika: plain ones, with a supervisor of our own above them.

Not its robust ones: after a reconnect they consume a stream from the original offset again
(:mod:`loopcast.broker.supervisor`). What is under a connection or a channel, and is asked for here and there, is
aio-pika's own lower half, aiormq.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable
from typing import Protocol
from urllib.parse import unquote, urlsplit

import aio_pika
from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import AMQPError
from aiormq.abc import AbstractConnection as Underlay

from loopcast.broker.aio_pika_errors import unavailable
from loopcast.broker.aio_pika_url import translate
from loopcast.broker.login import current
from loopcast.errors import BrokerUnavailable

__all__ = ["CLOSE_TIMEOUT", "CONNECT_TIMEOUT", "close", "connect", "underlay"]

CONNECT_TIMEOUT = 10.0
CLOSE_TIMEOUT = 2.0

# It logs each failed try, and the end of each connection with its traceback. The supervisor says it once.
for _name in ("aiormq.connection", "aiormq.channel"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)


class _Closable(Protocol):
    def close(self) -> Awaitable[None]: ...


class _Closed(aio_pika.Connection):
    """
    A connection that is closed by :func:`close`, never by being forgotten.

    aio-pika's finalizer leaves a coroutine that nobody awaits where a connection that never came about is collected
    outside of an event loop.
    """

    def __del__(self) -> None:
        pass


async def connect(url: str, *, name: str, heartbeat: int | None = None) -> AbstractConnection:
    """
    Connect to `url`; `name` is what the broker's listings show, `heartbeat` (seconds) goes before the URL's.

    Raises:
        BrokerUnavailable: no connection, or the broker refused it; the sentence says why.
    """
    url = current(url)
    parts = urlsplit(url)
    where = parts.netloc.rpartition("@")[2]  # Never the password.
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            return await aio_pika.connect(
                translate(url, heartbeat=heartbeat),
                client_properties={"connection_name": name},
                connection_class=_Closed,
            )
    except TimeoutError:
        raise BrokerUnavailable(f"The broker at {where} did not answer within {CONNECT_TIMEOUT:g} s.") from None
    except (OSError, AMQPError, EOFError) as error:
        raise unavailable(error, where, unquote(parts.path[1:]) or "/") from error


def underlay(connection: AbstractConnection) -> Underlay:
    """
    The connection that `connection` is made of, which tells more of its state.

    Raises:
        BrokerUnavailable: it was closed.
    """
    if connection.transport is None:
        raise BrokerUnavailable("The connection ended.")
    return connection.transport.connection


async def close(*resources: _Closable, seconds: float = CLOSE_TIMEOUT) -> None:
    """Close `resources` in this order, each within `seconds`. Never raises: what is gone is closed."""
    for resource in resources:
        with contextlib.suppress(Exception):
            async with asyncio.timeout(seconds):
                await resource.close()
