"""Viewers that do not read, a gateway that stops, a broker that goes and comes back."""

import asyncio
import contextlib
import json
import signal
import socket

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from loopcast.errors import BrokerError


async def test_a_viewer_that_does_not_read_is_closed_alone(start_gateway, feed, watch):
    """A viewer that stops reading is closed with 4008 while the others get everything, and resumes without a loss."""
    gateway = start_gateway(outbox_bytes=262_144)
    lazy = socket.socket()
    # What the kernel keeps for it is not the gateway's.
    lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    lazy.setblocking(False)
    await asyncio.get_running_loop().sock_connect(lazy, ("127.0.0.1", gateway.port))
    seen = []
    async with feed() as log, watch(gateway) as good, watch(gateway, sock=lazy) as slow:
        await good.follow("exp-1")
        pos = (await slow.follow("exp-1"))["pos"]
        slow.socket.transport.pause_reading()
        left = 2
        while left == 2:
            start = len(seen)
            await log.send("exp-1", *({"n": n, "pad": "x" * 4000} for n in range(start, start + 50)))
            seen += [frame["event"]["data"]["n"] for frame in await good.frames(50)]
            left = (await good.ask(action="stats"))["data"]["total_connections"]
        # It still has a moment to find out why.
        slow.socket.transport.resume_reading()
        with pytest.raises(ConnectionClosed):
            while True:
                pos = (await slow.frame(20)).get("pos", pos)
        async with watch(gateway) as back:
            resumed = await back.follow("exp-1", resume=pos)
            rest = await back.until("caught_up", timeout=60)

    assert list(range(len(seen))) == seen
    assert (4008, "slow consumer") == (slow.socket.close_code, slow.socket.close_reason)
    assert resumed["recovered"]
    assert len(seen) - 1 == rest[-2]["event"]["data"]["n"]
    await asyncio.sleep(1.2)
    assert 1 == gateway.metric('loopcast_gateway_closes_total{code="4008"}')


async def test_one_large_event_is_no_reason_to_close(start_gateway, feed, watch):
    """A viewer that has read everything may be sent an event that is larger than its whole outbox."""
    # A ping behind such an event would be one thing too many.
    gateway = start_gateway(outbox_bytes=65_536, ping_seconds=600)
    async with feed() as log, watch(gateway) as viewer:
        await viewer.follow("exp-1")
        for n in range(3):
            await log.send("exp-1", {"n": n, "pad": "x" * 900_000})
            frame = await viewer.frame()
            assert n == frame["event"]["data"]["n"]


async def the_rest(socket):
    """What still comes before the connection is closed, but for pings."""
    frames = []
    with contextlib.suppress(ConnectionClosed):
        while True:
            frames.append(json.loads(await socket.recv()))
    return [frame for frame in frames if frame["type"] != "ping"]


async def test_a_stop_asks_everybody_to_leave(start_gateway, feed, watch):
    """SIGTERM sends each viewer what waits, a time to come back and 1012, and the process ends well."""
    gateway = start_gateway()
    async with feed() as log:
        sockets = [
            await connect(gateway.ws, subprotocols=["loopcast.v1.json"], compression=None, close_timeout=2)
            for _ in range(20)
        ]
        for one in sockets:
            await one.send('{"action":"subscribe","experiment_id":"exp-1"}')
            while json.loads(await one.recv())["type"] != "subscribed":
                pass
        await log.send("exp-1", {"n": 1})
        await log.settle(gateway)
        gateway.process.send_signal(signal.SIGTERM)
        last = await asyncio.gather(*map(the_rest, sockets))

    assert [["event", "goaway"]] * 20 == [[frame["type"] for frame in frames] for frames in last]
    assert all(0 <= frames[-1]["reconnect_in_ms"] < 25_000 for frames in last)
    assert {1012} == {one.close_code for one in sockets}
    assert await asyncio.to_thread(gateway.process.wait, 10) == 0


async def test_a_stopping_gateway_takes_nobody_in(start_gateway, watch):
    """While viewers are still leaving, readiness is off and a new handshake gets 503."""
    gateway = start_gateway(drain_seconds=20)
    lingering = [await connect(gateway.ws, subprotocols=["loopcast.v1.json"], compression=None) for _ in range(1500)]
    gateway.process.send_signal(signal.SIGTERM)
    await asyncio.sleep(0.5)
    with pytest.raises(InvalidStatus) as refused:
        await connect(gateway.ws, subprotocols=["loopcast.v1.json"])
    ready = await asyncio.to_thread(httpx.get, f"http://127.0.0.1:{gateway.ops_port}/readyz")

    assert (503, 503) == (refused.value.response.status_code, ready.status_code)
    for one in lingering:
        await one.wait_closed()


async def test_a_gateway_waits_for_its_broker(start_gateway, feed, watch, broker):
    """Without a broker a gateway says that it waits, lets viewers in, and serves them when the broker is there."""
    async with feed():
        pass
    await asyncio.to_thread(broker.stop)
    try:
        gateway = await asyncio.to_thread(start_gateway(wait=False).wait_ready, 503)
        async with httpx.AsyncClient(base_url=gateway.http) as client:
            history = await client.get("/v1/experiments/exp-1/events")
        alive = await asyncio.to_thread(httpx.get, f"http://127.0.0.1:{gateway.ops_port}/livez")
        async with watch(gateway) as viewer:
            pong = await viewer.ask(action="ping")
            await viewer.socket.send('{"id":2,"action":"subscribe","experiment_id":"exp-1"}')
            quiet = await viewer.quiet()
            await asyncio.sleep(3.5)
            await asyncio.to_thread(broker.start)
            subscribed = await viewer.frame(60)
            async with feed() as log:
                await log.send("exp-1", {"n": 1})
                live = await viewer.frame()
    finally:
        await asyncio.to_thread(broker.start)

    assert (503, 200) == (history.status_code, alive.status_code)
    assert ("pong", True, "subscribed") == (pong["type"], quiet, subscribed["type"])
    assert {"n": 1} == live["event"]["data"]
    assert False is viewer.logs[0]


async def test_a_broker_that_restarts_costs_nothing(start_gateway, feed, watch, broker):
    """Viewers stay connected over a restart of the broker, and get every event once, in order."""
    gateway = start_gateway()
    async with feed() as log, watch(gateway) as one, watch(gateway) as everything:
        await one.follow("exp-1")
        await everything.follow("*")
        await log.send("exp-1", *({"n": n} for n in range(100)))
        await one.frames(100)
        await asyncio.to_thread(broker.restart)
        again = [log.event("exp-1", {"n": n}) for n in range(100, 200)]
        async with asyncio.timeout(60):
            while True:
                # Under the same ids: what was lost may only have been the confirm.
                with contextlib.suppress(BrokerError):
                    await log.publish(again)
                    break
                await asyncio.sleep(0.2)
        late = [frame["event"]["data"]["n"] for frame in await one.frames(100, timeout=60)]
        seen = [frame["event"]["data"]["n"] for frame in await everything.frames(200, timeout=60)]
        resumed = await everything.ask(action="stats")

    assert list(range(100, 200)) == late
    assert list(range(200)) == seen
    assert 2 == resumed["data"]["total_connections"]


async def test_a_log_that_was_deleted_is_a_gap(start_gateway, feed, watch, vhost_url):
    """When the log is deleted and made anew, live viewers are told that there is a gap and go on with the new one."""
    aio_pika = pytest.importorskip("aio_pika")
    gateway = start_gateway()
    async with feed() as log, watch(gateway) as viewer:
        await viewer.follow("exp-1")
        await log.send("exp-1", *({"n": n} for n in range(10)))
        await viewer.frames(10)
        async with await aio_pika.connect(vhost_url) as connection:
            channel = await connection.channel()
            await channel.queue_delete("loopcast.log.0")
        # Something in it proves at once that it is another one; an empty one is only found out by waiting.
        async with feed() as anew:
            await anew.send("exp-2", {"n": 0})
        gap = await viewer.until("gap", timeout=60)
        await log.send("exp-1", {"n": 10})
        live = await viewer.frame(20)

    assert "exp-1" == gap[-1]["experiment_id"]
    assert gap[-1]["reason"] in ("epoch_changed", "truncated")
    assert {"n": 10} == live["event"]["data"]


async def test_a_gap_ends_a_connection_that_has_no_word_for_it(start_gateway, feed, vhost_url):
    """A client of PromptLooper's, which no frame could tell, is closed so that it comes back and asks."""
    aio_pika = pytest.importorskip("aio_pika")
    gateway = start_gateway()
    async with feed() as log, connect(gateway.ws) as socket:
        await log.send("exp-1", {"n": 1})
        assert 1 == json.loads(await asyncio.wait_for(socket.recv(), 20))["n"]
        async with await aio_pika.connect(vhost_url) as connection:
            channel = await connection.channel()
            await channel.queue_delete("loopcast.log.0")
        async with feed() as anew:
            await anew.send("exp-2", {"n": 0})
        await asyncio.wait_for(socket.wait_closed(), 60)

    assert (4010, "insufficient state") == (socket.close_code, socket.close_reason)
