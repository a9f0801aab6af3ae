"""
PromptLooper's protocol on a real gateway: a client written for it works unchanged, and what was broken there is not.

The client here does what PromptLooper's own hook does: connects without a subprotocol, keeps the last `_ts` that it
saw, and after a lost connection asks for what came since.
"""

import asyncio
import contextlib
import json
import time

import pytest
from websockets.asyncio.client import connect


class Hook:
    """A connection as PromptLooper's frontend has it: every message is an event, unless it asked for an answer."""

    def __init__(self, socket):
        self.socket = socket
        self.last_ts = None

    async def send(self, **command):
        await self.socket.send(json.dumps(command))

    async def message(self, timeout=20):
        async with asyncio.timeout(timeout):
            message = json.loads(await self.socket.recv())
        self.last_ts = message.get("_ts", self.last_ts)
        return message

    async def messages(self, count):
        return [await self.message() for _ in range(count)]

    async def numbers(self, count):
        return [message["n"] for message in await self.messages(count)]

    async def answer(self, **command):
        """Send a command with an id, and read until its answer; what came before it is left out."""
        await self.send(id="k", **command)
        while (message := await self.message()).get("id") != "k":
            pass
        return message

    async def replayed(self, **command):
        """The events that a replay sends."""
        await self.send(id="r", action="replay", **command)
        found = []
        while (message := await self.message()).get("id") != "r":
            found.append(message)
        assert ("replay_end", len(found)) == (message["type"], message["count"]), message
        return found

    async def quiet(self, seconds=0.3):
        try:
            await self.message(seconds)
        except TimeoutError:
            return True
        return False


@contextlib.asynccontextmanager
async def hook(gateway, path=""):
    async with connect(gateway.ws + path, compression=None, max_queue=None) as socket:
        yield Hook(socket)


async def test_who_names_nothing_sees_everything(start_gateway, feed):
    """A client without experiments gets the events of all as they are, and not one message of any other kind."""
    gateway = start_gateway(ping_seconds=0.2)
    async with feed() as log, hook(gateway) as client:
        await client.answer(action="ping")
        await log.send("exp-1", {"event": "run.started", "experiment_id": "exp-1", "n": 1})
        await log.send("exp-2", {"type": "new_best_found", "score": 0.5, "n": 2})
        first, second = await client.messages(2)
        quiet = await client.quiet(0.6)

    assert quiet
    assert ["event", "experiment_id", "n", "_ts", "_seq", "_pos"] == list(first)
    assert {"type": "new_best_found", "score": 0.5, "n": 2} == {k: second[k] for k in ("type", "score", "n")}
    assert first["_ts"] < second["_ts"] < time.time()


async def test_events_without_an_experiment_reach_global_clients(start_gateway, feed):
    """What names no experiment is seen by who sees everything, live and replayed, and by nobody else."""
    gateway = start_gateway()
    async with feed() as log, hook(gateway) as everything, hook(gateway, "?experiment_id=exp-1") as one:
        await everything.answer(action="ping")
        await one.answer(action="ping")
        await log.send("~", {"event": "sweep.paused", "n": 1})
        live = await everything.message()
        replayed = await everything.replayed()
        quiet = await one.quiet()

    assert [live] == replayed
    assert "sweep.paused" == live["event"]
    assert quiet


@pytest.mark.parametrize("path", ["?experiment_id=exp-1&experiment_id=exp-2", "/experiments/exp-1?experiment_id=exp-2"])
async def test_who_names_experiments_sees_those(gateway, feed, path):
    """Experiments in the address are followed from the start, and nothing else."""
    async with feed() as log, hook(gateway, path) as client:
        await client.answer(action="ping")
        for n, name in enumerate(("exp-1", "exp-2", "exp-3")):
            await log.send(name, {"n": n})
        seen = await client.numbers(2)
        quiet = await client.quiet()

    assert [0, 1] == seen
    assert quiet


async def test_subscribe_and_unsubscribe_at_any_time(gateway, feed):
    """Experiments come and go, by name or number, silently where no id asks, and twice is no fault."""
    async with feed() as log, hook(gateway, "?experiment_id=first") as client:
        for experiment in ("8", 8, "unknown"):
            await client.send(action="subscribe", experiment_id=experiment)
        subscribed = await client.answer(action="subscribe", experiment_id="8")
        await log.send("8", {"n": 1})
        seen = await client.message()
        await client.send(action="unsubscribe", experiment_id="never")
        unsubscribed = await client.answer(action="unsubscribe", experiment_id=8)
        await log.send("8", {"n": 2})
        await log.send("first", {"n": 3})
        after = await client.message()

    assert ("subscribed", "unsubscribed") == (subscribed["type"], unsubscribed["type"])
    assert (1, 3) == (seen["n"], after["n"])


async def test_live_and_replayed_are_alike(gateway, feed):
    """There, replayed copies alone had a `_ts`: here an event is the same bytes, live or replayed."""
    async with feed() as log, hook(gateway, "?experiment_id=alike") as client:
        await client.answer(action="ping")
        await log.send("alike", *({"n": n} for n in range(5)))
        live = await client.messages(5)
        replayed = await client.replayed(experiment_id="alike")

    assert live == replayed
    assert [1, 2, 3, 4, 5] == [message["_seq"] for message in live]


async def test_everything_and_one_is_one_copy(gateway, feed):
    """There, a global client that also subscribed got two copies."""
    async with feed() as log, hook(gateway) as client:
        await client.answer(action="subscribe", experiment_id="twice")
        await log.send("twice", {"n": 1}, {"n": 2})
        await log.send("other", {"n": 3})
        seen = await client.numbers(3)
        quiet = await client.quiet()

    assert [1, 2, 3] == sorted(seen)
    assert quiet


async def test_a_limit_of_zero_is_none(gateway, feed):
    """There, `limit: 0` replayed everything; the newest come, in the order of the log."""
    async with feed() as log, hook(gateway, "?experiment_id=none") as client:
        await log.send("limits", *({"n": n} for n in range(10)))
        await log.settle_events(gateway, "limits", 10)
        none = await client.replayed(experiment_id="limits", limit=0)
        newest = await client.replayed(experiment_id="limits", limit=3)
        unknown = await client.replayed(experiment_id="nobody")

    assert ([], [7, 8, 9], []) == (none, [message["n"] for message in newest], unknown)


@pytest.mark.parametrize("ring_events", [2048, 8])
async def test_history_outlives_a_gateway_and_fifty_events(start_gateway, feed, ring_events):
    """There, 50 events of one process were kept: here all of them, at any gateway, from memory or the log."""
    async with feed() as log:
        await log.send("long", *({"n": n} for n in range(1500)))
        gateway = start_gateway(ring_events=ring_events)
        await log.settle_events(gateway, "long", 1500)
        async with hook(gateway, "?experiment_id=long") as client:
            seen = [message["n"] for message in await client.replayed(experiment_id="long")]
            newest = [message["n"] for message in await client.replayed(experiment_id="long", limit=1200)]

    assert list(range(1500)) == seen
    assert list(range(300, 1500)) == newest


@pytest.mark.parametrize(("ring_events", "partitions"), [(2048, 1), (2, 1), (2, 3)])
async def test_the_last_time_seen_is_an_exact_cursor(start_gateway, feed, ring_events, partitions):
    """A client that comes back with the last `_ts` that it saw, at another gateway, gets the rest, once, in order."""
    first, second = (start_gateway(ring_events=ring_events, partitions=partitions) for _ in range(2))
    async with feed(partitions) as log:
        async with hook(first, "?experiment_id=cut") as client:
            await client.answer(action="ping")
            await log.send("cut", *({"n": n} for n in range(20)))
            seen = [(await client.message())["n"] for _ in range(7)]
            since = client.last_ts
        await log.send("noise", *({"n": -1} for _ in range(50)))
        await log.send("cut", *({"n": n} for n in range(20, 40)))
        await log.settle(second)
        async with hook(second, "?experiment_id=cut") as client:
            seen += [message["n"] for message in await client.replayed(experiment_id="cut", since_ts=since)]
            everything = await client.replayed(since_ts=since)

    assert list(range(40)) == seen
    assert [-1] * 50 == [message["n"] for message in everything if message["n"] == -1]
    assert list(range(7, 40)) == [message["n"] for message in everything if message["n"] != -1]


async def test_an_event_that_came_late_is_not_skipped(start_gateway, feed):
    """What stands behind the anchor in the log comes, though it was recorded before it."""
    gateway = start_gateway()
    async with feed() as log, hook(gateway, "?experiment_id=late") as client:
        await client.answer(action="ping")
        early = log.event("late", {"n": 2}, sequence=9)
        await log.send("late", {"n": 1})
        since = (await client.message())["_ts"]
        await log.publish([early])
        assert 2 == (await client.message())["n"]
        anchored = await client.replayed(experiment_id="late", since_ts=since)
        between = await client.replayed(experiment_id="late", since_ts=since - 1e-6)

    assert [2] == [message["n"] for message in anchored]
    assert [1, 2] == [message["n"] for message in between]


async def test_what_is_no_object_stops_nothing(gateway, feed):
    """There, a list on the bridge ended it: here it is an event as any other, and the next one comes, too."""
    aio_pika = pytest.importorskip("aio_pika")
    async with feed() as log, hook(gateway, "?experiment_id=noise") as client:
        await client.answer(action="ping")
        connection = await aio_pika.connect(gateway.url)
        async with connection:
            exchange = await (await connection.channel()).get_exchange("loopcast.events")
            for body in (b"[1,2]", b"\xff\xfe", b"null", b'{"n": 3, "_ts": 1}'):
                await exchange.publish(aio_pika.Message(body), "noise.message")
        await log.send("noise", {"n": 4})
        messages = await client.messages(5)

    assert ["[1,2]", None, "null"] == [message.get("text") for message in messages[:3]]
    assert (3, 4) == tuple(message["n"] for message in messages[3:])
    assert "_ts" not in messages[3]


async def test_faults_are_no_end(gateway, feed):
    """Noise is answered where it carries an id, and never closes the connection of a client that has no codes."""
    async with feed() as log, hook(gateway, "?experiment_id=faults") as client:
        for noise in ["x", "[]", '{"action":"heartbeat"}'] * 10:
            await client.socket.send(noise)
        error = await client.answer(action="heartbeat")
        await client.socket.send("ping")
        pong = await client.socket.recv()
        await log.send("faults", {"n": 1})
        seen = await client.message()

    assert ("error", "method_not_found") == (error["type"], error["name"])
    assert "pong" == pong
    assert 1 == seen["n"]


async def test_many_replays_at_once_are_answered_in_turn(gateway, feed):
    """Replays of one client do not mix, and one too many is refused, not forgotten."""
    async with feed() as log, hook(gateway, "?experiment_id=none") as client:
        for name in ("turn-1", "turn-2"):
            await log.send(name, *({"n": name} for _ in range(300)))
            await log.settle_events(gateway, name, 300)
        for number, name in enumerate(["turn-1", "turn-2"] * 5):
            await client.send(id=number, action="replay", experiment_id=name)
        found = []
        while len([m for m in found if "id" in m]) < 10:
            found.append(await client.message())

    refused = [m["id"] for m in found if m.get("type") == "error"]
    blocks = [m["n"] for m in found if "id" not in m]
    assert [8, 9] == refused
    assert (["turn-1"] * 300 + ["turn-2"] * 300) * 4 == blocks
