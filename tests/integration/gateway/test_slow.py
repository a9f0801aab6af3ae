"""
Viewers that do not read, or hardly, over real sockets; and every metric, seen to move.

The broker is in memory: here it is the sockets that matter, and a broker that does what it is told to.
"""

import asyncio
import contextlib
import json
import os
import re
from functools import partial
from pathlib import Path

import prometheus_client
from tests.support.memory_broker import Stream
from tests.support.served import LOG, Served
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from loopcast.broker.log import LogReader
from loopcast.metrics import INVENTORY
from loopcast.position import Position


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def frames_until(viewer, kind):
    found = []
    async with asyncio.timeout(30):
        while not found or found[-1]["type"] != kind:
            found.append(json.loads(await viewer.recv()))
    return found


async def test_a_viewer_that_stops_reading_is_closed_by_time():
    """A socket that takes nothing for a while is given up, though what waits is far below the limit in bytes."""
    async with Served(stall_seconds=0.5).running() as served:
        lazy = await served.lazy(experiment_id="*")
        for _ in range(100):
            served.publish("a", pad=10_000)
        await served.until(lambda: served.gateway.connections == 0)
        await served.until(lambda: served.value("loopcast_gateway_slow_disconnects_total", reason="time") == 1)
        await served.until(lambda: served.value("loopcast_gateway_closes_total", code="4008") == 1)
        lazy.close()


async def test_a_viewer_that_reads_a_byte_now_and_then_costs_a_bounded_amount():
    """Reading a little does not let what waits grow: the viewer is closed by bytes or by time, and is told why."""
    async with Served(stall_seconds=1, outbox_bytes=1_000_000).running() as served:
        lazy = await served.lazy(experiment_id="*")
        loop, read, most = asyncio.get_running_loop(), bytearray(), 0
        before = resident()
        while served.gateway.connections:
            served.publish("a", pad=10_000)
            read += await loop.sock_recv(lazy, 1)
            most = max(most, sum(viewer.waiting_bytes for viewer in served.gateway.stalls))
            await asyncio.sleep(0.002)
        with contextlib.suppress(ConnectionError):
            while part := await loop.sock_recv(lazy, 65536):
                read += part
        lazy.close()

    assert most < 1_200_000
    assert resident() - before < 100 * 2**20
    assert b"slow consumer" in read[-200:]


async def test_who_reads_too_slowly_is_told_before_it_is_closed():
    """Beyond a quarter of the limit a viewer gets `lagging`, in front of what waits, and nothing is lost by it."""
    async with Served(outbox_bytes=4_000_000).running() as served:
        options = {"compression": None, "max_size": None, "max_queue": 1}
        url = f"ws://127.0.0.1:{served.port}/ws"
        async with connect(url, subprotocols=["loopcast.v1.json"], **options) as viewer:
            await viewer.send('{"action":"subscribe","experiment_id":"*"}')
            await frames_until(viewer, "subscribed")
            while not any(one.waiting_bytes > 1_500_000 for one in served.gateway.stalls):
                served.publish("a", pad=50_000)
                await asyncio.sleep(0.001)
            found = [json.loads(await asyncio.wait_for(viewer.recv(), 10)) for _ in range(served.count + 1)]
    numbers = [frame["event"]["data"]["n"] for frame in found if frame["type"] == "event"]
    [place] = [place for place, frame in enumerate(found) if frame["type"] == "lagging"]

    assert list(range(served.count)) == numbers
    assert place < served.count - 10
    assert found[place]["outbox_bytes"] > 1_000_000


async def test_stalled_replays_keep_nobody_waiting():
    """Far more viewers than there are reads stall in the middle of their replays; one that reads gets its own."""
    async with Served(stall_seconds=3600, ring_events=1, replay_cache_bytes=0).running() as served:
        for _ in range(2000):
            served.publish("a", pad=2000)
        lazy = [await served.lazy(experiment_id="a", **{"from": "earliest"}) for _ in range(20)]
        await served.until(lambda: len(served.gateway.stalls) == 20 and served.gateway.history.waiting == 0)
        async with served.watch() as viewer:
            await viewer.send('{"action":"subscribe","experiment_id":"a","from":"earliest"}')
            found = await frames_until(viewer, "caught_up")
        waiting = sum(viewer.waiting_bytes for viewer in served.gateway.stalls)
        for one in lazy:
            one.close()

    assert list(range(2000)) == [frame["event"]["data"]["n"] for frame in found if frame["type"] == "event"]
    # A quarter of its outbox each, of the 4 MB that it asked for.
    assert waiting < 20 * 1_400_000


async def test_a_stalled_viewer_does_not_stop_the_others():
    """While one viewer reads nothing, another gets every event."""
    async with Served(stall_seconds=3600, outbox_bytes=200_000).running() as served, served.watch() as good:
        lazy = await served.lazy(experiment_id="*")
        await good.send('{"action":"subscribe","experiment_id":"*"}')
        await frames_until(good, "subscribed")
        found = []
        while len(found) < 100:
            if len(found) == served.count:
                for _ in range(5):
                    served.publish("a", pad=10_000)
            frame = json.loads(await asyncio.wait_for(good.recv(), 10))
            found += [frame["event"]["data"]["n"]] if frame["type"] == "event" else []
        await served.until(lambda: served.value("loopcast_gateway_slow_disconnects_total", reason="bytes") == 1)
        lazy.close()

    assert list(range(100)) == found


async def test_every_metric_moves(monkeypatch):  # noqa: PLR0915 - one story
    """Each metric of the gateway's inventory is there after what it counts has happened, and says that it has."""
    monkeypatch.setattr("loopcast_gateway.gateway.REPORT_SECONDS", 0.05)
    monkeypatch.setattr("loopcast_gateway.tail.HEARTBEAT_SECONDS", 0.05)
    monkeypatch.setattr("loopcast_gateway.tail.SILENT_SECONDS", 1.5)
    monkeypatch.setattr("loopcast_gateway.tail.RETRY_SECONDS", 0.05)
    monkeypatch.setattr("loopcast_gateway.tail.LogReader", partial(LogReader, proof_seconds=0.3))
    settings = {"stall_seconds": 0.5, "ring_events": 1, "checkpoint_seconds": 0.2, "max_connections": 3}
    settings["ping_seconds"] = 0.5
    async with Served(**settings).running() as served:
        served.publish("a", type_="loop_start", loop="l")
        for n in range(300):
            served.publish("a", n=n)
        served.publish("a", sequence=300)
        async with served.watch() as viewer, served.watch():
            await viewer.send('{"action":"subscribe","experiment_id":"a","from":"earliest"}')
            caught_up = (await frames_until(viewer, "caught_up"))[-1]
            await viewer.send('{"action":"nothing"}')
            await frames_until(viewer, "error")
            await viewer.send('{"action":"unsubscribe","experiment_id":"a"}')
            await frames_until(viewer, "unsubscribed")
            for pos in (caught_up["pos"], str(Position.of(0, 5, "another"))):
                await viewer.send(json.dumps({"action": "subscribe", "experiment_id": "a", "resume": pos}))
                await frames_until(viewer, "caught_up")
                await viewer.send('{"action":"unsubscribe","experiment_id":"a"}')
                await frames_until(viewer, "unsubscribed")
            lazy = await served.lazy(experiment_id="*")
            with contextlib.suppress(InvalidStatus):
                async with served.watch():
                    pass
            [dead] = [link for link in served.broker.links if link.name == "loopcast-gateway"]
            dead.silent = True
            for _ in range(100):
                served.publish("a", pad=10_000)
            await served.until(lambda: served.gateway.tails[0].silences == 1)
            await served.until(lambda: served.value("loopcast_gateway_outbox_bytes") > 0)
            congested = served.value("loopcast_gateway_congested_connections")
            await served.until(lambda: served.gateway.connections == 2)
            await viewer.send('{"action":"subscribe","experiment_id":"*","coalesce_ms":20}')
            await frames_until(viewer, "subscribed")
            served.publish("a")
            await frames_until(viewer, "event")
            await served.until(lambda: served.value("loopcast_gateway_checkpoint_bytes", partition="0"))
            served.broker.delete(LOG)
            served.broker.streams[LOG] = Stream()
            await frames_until(viewer, "gap")
            await served.gateway.drain()
            with contextlib.suppress(ConnectionClosed):
                await frames_until(viewer, "goaway")
            lazy.close()
        await served.until(lambda: served.value("loopcast_gateway_closes_total", code="1012"))
        text = prometheus_client.generate_latest(served.metrics.registry).decode()
    moved = {
        re.sub(r"_(bucket|sum|count|created)$", "", line.split("{")[0].split(" ")[0])
        for line in text.splitlines()
        if not line.startswith("#")
    }

    assert {name for name in INVENTORY if name.startswith("loopcast_gateway_")} - moved == set()
    assert congested == 1
    for name, labels in {"command": {"action": "subscribe"}, "broadcast": {}, "ping": {}}.items():
        assert served.value(f"loopcast_gateway_{name}_seconds_count", **labels) > 0, name
    assert served.value("loopcast_gateway_coalesced_events_total") == 1
    for name in ("repeats", "deliveries", "sent_bytes", "history_reads", "replayed_events", "events"):
        assert served.value(f"loopcast_gateway_{name}_total") > 0, name
    for name in ("silent_consumers", "checkpoints"):
        assert served.value(f"loopcast_gateway_{name}_total", partition="0") > 0, name
    for name, labels in {
        "slow_disconnects": {"reason": "time"},
        "handshakes_rejected": {"reason": "limit"},
        "errors": {"name": "method_not_found"},
        "resumes": {"result": "recovered"},
        "gaps": {"reason": "epoch_changed"},
        "replays": {"source": "stream"},
    }.items():
        assert served.value(f"loopcast_gateway_{name}_total", **labels) > 0, name
    assert served.value("loopcast_broker_reconnects_total", connection="log.0") > 0
    assert served.value("loopcast_gateway_draining") == 1
