"""What a link does with its socket; what it says on it is the connection's business (test_connection.py)."""

import asyncio

import pytest

from loopcast.amqp.events import Closed, Ready
from loopcast.amqp.link import Link
from loopcast.amqp.uri import parse_url


class Agreed:
    """A connection that is ready with the first byte that comes, and has nothing to say."""

    def receive(self, _):
        return [Ready(heartbeat=0)]

    def output(self):
        return b""

    def lost(self, _):
        return [Closed(None)]


@pytest.fixture
async def broker():
    """A server that greets with one byte; `gone` is set when its client has hung up."""
    gone = asyncio.Event()

    async def serve(reader, writer):
        writer.write(b"!")
        await reader.read()
        gone.set()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1], gone


async def test_who_gives_up_in_the_moment_the_broker_is_ready_leaves_no_connection(broker):
    """Nobody would hold it: its consumer would take what a queue has, and never acknowledge it."""
    port, gone = broker

    class GivenUp(Link):
        def _begin(self, tick_seconds):
            super()._begin(tick_seconds)
            opening.cancel()

    opening = asyncio.create_task(GivenUp(Agreed()).open(parse_url(f"amqp://127.0.0.1:{port}/", name="given up")))
    with pytest.raises(asyncio.CancelledError):
        await opening
    async with asyncio.timeout(5):
        await gone.wait()

    assert gone.is_set()
