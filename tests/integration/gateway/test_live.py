"""The live feed: who follows what gets it, once, as it is."""

import asyncio
import json

import httpx
import pytest


async def test_an_event_arrives_byte_for_byte(gateway, feed, watch):
    """A follower gets the envelope exactly as it was published, with its position."""
    async with feed() as log, watch(gateway) as viewer:
        subscribed = await viewer.follow("exp-1")
        [event] = await log.send("exp-1", {"event": "größer", "n": 1.50})
        while (raw := await viewer.socket.recv()).startswith('{"type":"ping"'):
            pass

    assert "subscribed" == subscribed["type"]
    assert 26 == len(subscribed["pos"])
    frame = json.loads(raw)
    assert raw == f'{{"type":"event","pos":"{frame["pos"]}","event":{event.encode().decode()}}}'


async def test_the_path_names_the_experiment(gateway, feed, watch):
    """A viewer of /ws/experiments/{e} follows it from the start, whatever characters its id has."""
    async with feed() as log, watch(gateway, "loops/ß?") as viewer:
        subscribed = await viewer.frame()
        await log.send("loops/ß?", {"n": 1})
        await log.send("loops", {"n": 2})
        frame = await viewer.frame()
        quiet = await viewer.quiet()

    assert "loops/ß?" == subscribed["experiment_id"]
    assert {"n": 1} == frame["event"]["data"]
    assert quiet


async def test_an_experiment_is_seen_by_its_followers_alone(gateway, feed, watch):
    """Who follows one experiment gets nothing of another, and who follows * gets all of both."""
    async with feed() as log, watch(gateway) as one, watch(gateway) as everything:
        await one.follow("exp-1")
        await everything.follow("*")
        await log.send("exp-2", {"n": 1})
        await log.send("exp-1", {"n": 2})
        of_one = await one.frame()
        of_all = await everything.frames(2)

    assert {"n": 2} == of_one["event"]["data"]
    assert [1, 2] == [frame["event"]["data"]["n"] for frame in of_all]


async def test_two_subscriptions_one_copy(gateway, feed, watch):
    """A viewer of * that also follows an experiment gets each live event once."""
    async with feed() as log, watch(gateway) as viewer:
        await viewer.follow("*")
        await viewer.follow("exp-1")
        for n in range(5):
            await log.send("exp-1", {"n": n})
            await log.send("exp-2", {"n": n})
        frames = await viewer.frames(10)
        quiet = await viewer.quiet()

    assert sorted((f["event"]["experimentid"], f["event"]["data"]["n"]) for f in frames) == [
        (experiment, n) for experiment in ("exp-1", "exp-2") for n in range(5)
    ]
    assert quiet


async def test_unsubscribed_is_silent(gateway, feed, watch):
    """After the answer to an unsubscribe nothing of the experiment comes, and what else is followed goes on."""
    async with feed() as log, watch(gateway) as viewer:
        await viewer.follow("exp-1")
        await viewer.follow("exp-2")
        answer = await viewer.ask(action="unsubscribe", experiment_id="exp-1")
        await log.send("exp-1", {"n": 1})
        await log.send("exp-2", {"n": 2})
        frame = await viewer.frame()
        again = await viewer.ask(action="unsubscribe", experiment_id="exp-1")

    assert ("unsubscribed", 2000) == (answer["type"], answer["code"])
    assert {"n": 2} == frame["event"]["data"]
    assert "unsubscribed" == again["type"]


async def test_a_retry_is_seen_once(gateway, feed, watch):
    """An event that was published twice, because its confirm was lost, reaches a viewer once."""
    async with feed() as log, watch(gateway) as viewer:
        await viewer.follow("exp-1")
        first = await log.send("exp-1", {"n": 1}, {"n": 2})
        await log.publish(first)
        await log.send("exp-1", {"n": 3})
        frames = await viewer.frames(3)

    assert [1, 2, 3] == [frame["event"]["data"]["n"] for frame in frames]


async def test_what_a_stranger_publishes_is_an_event(gateway, feed, watch):
    """A message of some other program is shown as far as it is understood, in a frame that is JSON."""
    aio_pika = pytest.importorskip("aio_pika")
    async with feed(), watch(gateway) as viewer:
        await viewer.follow("exp-1")
        connection = await aio_pika.connect(gateway.url)
        async with connection:
            channel = await connection.channel()
            exchange = await channel.get_exchange("loopcast.events")
            await exchange.publish(aio_pika.Message(b'{"event":"hello",\n "n": 1}'), "exp-1.hello")
            await exchange.publish(aio_pika.Message(b'"}]}\xff'), "exp-1.noise")
        frames = await viewer.frames(2)

    assert ["hello", "message"] == [frame["event"]["type"] for frame in frames]
    assert {"event": "hello", "n": 1} == frames[0]["event"]["data"]


async def test_two_partitions_are_told_apart(start_gateway, feed, watch):
    """Over a log of several partitions a viewer of * gets all of them, and each frame says of which it is."""
    gateway = start_gateway(partitions=3)
    names = [f"exp-{n}" for n in range(12)]
    async with feed(3) as log, watch(gateway) as viewer:
        subscribed = await viewer.follow("*")
        for name in names:
            await log.send(name, {"n": 1})
        frames = await viewer.frames(len(names))

    assert 3 == len(subscribed["pos"])
    assert set(names) == {frame["event"]["experimentid"] for frame in frames}
    assert {0, 1, 2} == {frame["p"] for frame in frames}


async def test_many_viewers_get_all_in_order(gateway, feed, watch):
    """Fifty viewers each get every one of a thousand events, in the order of the log."""

    async def see(ready):
        async with watch(gateway) as viewer:
            await viewer.follow("exp-1")
            ready.release()
            return [frame["event"]["data"]["n"] for frame in await viewer.frames(1000, timeout=60)]

    async with feed() as log:
        ready = asyncio.Semaphore(0)
        viewers = [asyncio.create_task(see(ready)) for _ in range(50)]
        for _ in viewers:
            await ready.acquire()
        await log.send("exp-1", *({"n": n} for n in range(1000)))
        seen = await asyncio.gather(*viewers)

    assert [list(range(1000))] * 50 == seen


async def test_pings_both_ways(start_gateway, watch):
    """A ping is answered with its id, a WebSocket ping by a pong, and a quiet viewer is pinged with the log's end."""
    gateway = start_gateway(ping_seconds=0.2)
    async with watch(gateway) as viewer:
        pong = await viewer.ask(action="ping")
        await asyncio.wait_for(await viewer.socket.ping(), 5)
        subscribed = await viewer.follow("exp-1")
        ping = json.loads(await viewer.socket.recv())

    assert {"type": "pong", "id": 1} == pong
    assert 200 == viewer.welcome["ping_ms"]
    assert "ping" == ping["type"]
    assert [subscribed["pos"]] == ping["pos"]


async def test_stats_and_metrics_count(start_gateway, feed, watch):
    """The numbers of /v1/stats and of the metrics are those of what happened."""
    gateway = start_gateway()
    async with feed() as log, watch(gateway) as one, watch(gateway) as everything:
        await one.follow("exp-1")
        await everything.follow("*")
        await log.send("exp-1", {"n": 1}, {"n": 2})
        await one.frames(2)
        await everything.frames(2)
        stats = await one.ask(action="stats")
        over_http = (await asyncio.to_thread(httpx.get, f"{gateway.http}/v1/stats")).json()
        await asyncio.sleep(1.2)
        deliveries = gateway.metric("loopcast_gateway_deliveries_total")
        connections = gateway.metric("loopcast_gateway_connections")

    assert "stats" == stats["type"]
    keys = ("total_connections", "global_subscribers", "experiment_subscriptions", "replay_buffer_sizes")
    assert (2, 1, {"exp-1": 1}, {"exp-1": 2}) == tuple(over_http[key] for key in keys)
    assert {key: stats["data"][key] for key in keys} == {key: over_http[key] for key in keys}
    assert 4 == deliveries
    assert 2 == connections
