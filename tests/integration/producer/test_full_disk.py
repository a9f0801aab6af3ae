"""The broker's disk, really full: what the producer says, what the SDK keeps, and that nothing is lost."""

import asyncio

import pytest
from processes import Producer, read_log
from small_disk import fill, small_disk

from loopcast import LoopcastTransport
from loopcast.node import Node

DISK_BYTES = 256 * 1024 * 1024
LEFT_BYTES = 10 * 1024 * 1024
"""Less than the 50 MB that RabbitMQ wants free (`disk_free_limit`)."""


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_a_full_disk_of_the_broker_is_503_until_there_is_room(tmp_path, node_cache):
    """The producer refuses with Retry-After and says why; what the SDK was given meanwhile is in the log afterwards."""
    with (
        small_disk(tmp_path / "disk", DISK_BYTES) as disk,
        Node(disk / "node", cache=node_cache) as node,
        Producer(node.amqp_url, tmp_path / "log", LOOPCAST_CONFIRM_SECONDS="2") as producer,
    ):
        transport = LoopcastTransport(producer.url, "e", "r", spool=tmp_path / "spool")
        transport.send({"event": "x", "n": 0})
        assert (await asyncio.to_thread(transport.flush, 20)).complete
        filler = fill(disk / "filler", leave=LEFT_BYTES)
        # RabbitMQ looks every 10 s, and tells a connection once it publishes.
        async with asyncio.timeout(60):
            while 202 == producer.post(b'{"event":"probe"}').status_code:  # noqa: ASYNC110
                await asyncio.sleep(0.2)
        sentence = await asyncio.to_thread(producer.wait, status=503)
        answer = producer.post(b'{"event":"refused"}')
        for n in range(1, 101):
            transport.send({"event": "x", "n": n})
        await asyncio.sleep(1)
        kept = transport.stats
        filler.unlink()
        await asyncio.to_thread(producer.wait)
        report = await asyncio.to_thread(transport.close, 60)
        messages = [m for m in await read_log(node.amqp_url) if m.headers["experiment"] == "e" and m.type == "x"]

    assert "takes nothing for now" in sentence
    assert (503, "5", "urn:loopcast:problem:broker-blocked") == (
        answer.status_code,
        answer.headers["retry-after"],
        answer.json()["type"],
    )
    assert (100, 0) == (kept.spooled, kept.dropped)
    assert (True, 101, 0) == (report.complete, report.stats.accepted, report.stats.dropped)
    assert list(range(1, 102)) == sorted({m.headers["sequence"] for m in messages})
