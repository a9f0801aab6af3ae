"""`*` is all that a token permits, whatever way events come: live, from history, on request, by stream, in lists."""

import json
import time

import httpx
import pytest
from tests.support.served import Served
from websockets.asyncio.client import connect

from loopcast.auth.tokens import make_token

SECRET = "integration-secret-of-more-than-32-bytes"


def headers(*subscribe, ttl=600):
    token = make_token(SECRET, subscribe=subscribe, now=time.time(), ttl=ttl, subject="me")
    return {"Authorization": f"Bearer {token}"}


async def frames(socket, last):
    """The frames up to and with the first of a kind; pings aside."""
    found = []
    while not found or found[-1]["type"] != last:
        frame = json.loads(await socket.recv())
        found += [frame] if frame["type"] != "ping" else []
    return found


def experiments(found):
    return [frame["event"]["data"]["of"] for frame in found if frame["type"] == "event"]


@pytest.fixture
async def served():
    """A gateway that asks, whose log has two experiments that may be seen and one that may not."""
    async with Served(jwt_secret=SECRET, jwt_leeway_seconds=0).running() as running:
        for experiment in ("exp-1", "prod", "exp-2", "~"):
            running.publish(experiment, of=experiment, type_="loop_start")
        await running.until(lambda: running.gateway.tails[0].partition.tail >= 0)
        await running.until(lambda: len(running.gateway.tails[0].partition.catalog.listing(0)) >= 3)
        yield running


def dial(served, *, protocol="loopcast.v1.json", **options):
    given = {"subprotocols": [protocol] if protocol else None, "compression": None, **options}
    return connect(f"ws://127.0.0.1:{served.port}/ws", **given)


async def test_history_and_live(served):
    """From the earliest on, and then live, only what is permitted comes, beside a subscription of its own too."""
    async with dial(served, additional_headers=headers("exp-*")) as socket:
        await frames(socket, "welcome")
        await socket.send('{"id":1,"action":"subscribe","experiment_id":"*","from":"earliest","snapshot":true}')
        found = await frames(socket, "caught_up")
        assert ["exp-1", "exp-2"] == experiments(found)
        runs = [run["experiment_id"] for frame in found if frame["type"] == "snapshot" for run in frame["runs"]]
        assert {"exp-1", "exp-2"} >= set(runs)

        await socket.send('{"id":2,"action":"subscribe","experiment_id":"exp-1"}')
        await frames(socket, "subscribed")
        for experiment in ("prod", "exp-1", "~", "exp-3", "exp-2"):
            served.publish(experiment, of=experiment)
        await socket.send('{"id":3,"action":"subscribe","experiment_id":"prod"}')
        error = (await frames(socket, "error"))[-1]
        assert (3, "permission_denied") == (error["id"], error["name"])
        live = []
        while len(live) < 3:
            live += experiments(await frames(socket, "event"))
        assert ["exp-1", "exp-2", "exp-3"] == sorted(live)


async def test_on_request_and_in_lists(served):
    """Replays, pages, runs, lists and numbers of everything have nothing of what is not permitted."""
    mine = headers("exp-*")
    async with dial(served, additional_headers=mine) as socket:
        await frames(socket, "welcome")
        await socket.send('{"id":1,"action":"replay","experiment_id":"*"}')
        found = await frames(socket, "replay_end")
        await socket.send('{"id":2,"action":"stats"}')
        stats = (await frames(socket, "stats"))[-1]["data"]
    assert (["exp-1", "exp-2"], 2) == (experiments(found), found[-1]["count"])
    assert {"exp-1", "exp-2"} == set(stats["replay_buffer_sizes"])
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{served.port}", headers=mine) as client:
        page = (await client.get("/v1/experiments/*/events")).json()
        listed = (await client.get("/v1/experiments")).json()["experiments"]
        runs = (await client.get("/v1/experiments/%2A/runs")).json()["runs"]
        refused = await client.get("/v1/experiments/prod/events")
    assert ["exp-1", "exp-2"] == [one["event"]["data"]["of"] for one in page["events"]]
    assert {"exp-1", "exp-2"} == {one["experiment_id"] for one in listed} >= {run["experiment_id"] for run in runs}
    assert 403 == refused.status_code


async def test_promptloopers_clients(served):
    """Who speaks PromptLooper's protocol shows a token first, and then sees what it permits."""
    async with dial(served, protocol=None) as socket:
        token = headers("exp-*")["Authorization"].partition(" ")[2]
        await socket.send(json.dumps({"id": 1, "action": "auth", "token": token}))
        assert "authenticated" == json.loads(await socket.recv())["type"]
        for experiment in ("prod", "exp-1"):
            served.publish(experiment, of=experiment)
        assert "exp-1" == json.loads(await socket.recv())["data"]["of"]
        await socket.send('{"action":"subscribe","experiment_id":"prod"}')
        await socket.wait_closed()
    assert 4507 == socket.close_code


async def test_a_stream_ends_with_its_token(served):
    """Server-Sent Events show what is permitted, and end when the token does."""
    url = f"http://127.0.0.1:{served.port}/v1/experiments/*/stream?from=earliest"
    began = time.monotonic()
    async with httpx.AsyncClient() as client, client.stream("GET", url, headers=headers("exp-*", ttl=3)) as answer:
        assert 200 == answer.status_code
        lines = [line async for line in answer.aiter_lines() if line.startswith("data:") and '"of"' in line]
        seen = [json.loads(line.removeprefix("data:"))["data"]["of"] for line in lines]

    assert ["exp-1", "exp-2"] == seen
    assert time.monotonic() - began < 20


@pytest.mark.parametrize(("experiment", "name"), [("exp-2", "permission_denied"), ("*", "not_available")])
async def test_a_narrower_token_ends_a_replay(served, experiment, name):
    """A replay that is running for what the new token does not permit ends there and is answered with an error."""
    for _ in range(400):
        served.publish("exp-2", of="exp-2", pad=50_000)
    await served.until(lambda: served.gateway.tails[0].partition.tail >= 400)
    async with dial(served, additional_headers=headers("exp-1", "exp-2"), max_queue=1, max_size=None) as socket:
        await frames(socket, "welcome")
        for id_ in (1, 2):
            replay = {"id": id_, "action": "replay", "experiment_id": experiment, "limit": 1000}
            await socket.send(json.dumps(replay))
        await frames(socket, "event")
        token = headers("exp-1")["Authorization"].partition(" ")[2]
        await socket.send(json.dumps({"id": 9, "action": "auth", "token": token}))
        before = experiments(await frames(socket, "authenticated"))
        after = [*await frames(socket, "error"), *await frames(socket, "error")]

    assert "exp-2" in before
    assert len(before) < 400
    assert [(1, name), (2, name)] == [(frame["id"], frame["name"]) for frame in after]


async def test_a_narrower_token_ends_what_has_no_word_for_it(served):
    """A client of PromptLooper's, which would not be told that it sees less now, is closed and comes back."""
    async with dial(served, protocol=None) as socket:
        for id_, permitted in ((1, ("exp-1", "exp-2")), (2, ("exp-1",))):
            token = headers(*permitted)["Authorization"].partition(" ")[2]
            await socket.send(json.dumps({"id": id_, "action": "auth", "token": token}))
            assert "authenticated" == json.loads(await socket.recv())["type"]
        await socket.wait_closed()

    assert 4010 == socket.close_code


async def test_a_narrower_token_while_history_is_sent(served):
    """After a renewal with fewer permissions nothing of what was lost comes any more, and each loss is said."""
    async with dial(served, additional_headers=headers("exp-1", "exp-2")) as socket:
        await frames(socket, "welcome")
        for number, experiment in enumerate(("exp-1", "exp-2", "*")):
            command = {"id": number, "action": "subscribe", "experiment_id": experiment}
            await socket.send(json.dumps(command))
            await frames(socket, "subscribed")
        token = headers("exp-1")["Authorization"].partition(" ")[2]
        await socket.send(json.dumps({"id": 9, "action": "auth", "token": token}))
        await frames(socket, "authenticated")
        ended = [*await frames(socket, "unsubscribed"), *await frames(socket, "unsubscribed")]
        for experiment in ("exp-2", "exp-1"):
            served.publish(experiment, of=experiment)
        seen = experiments(await frames(socket, "event"))
        await socket.send('{"id":10,"action":"ping"}')
        seen += experiments(await frames(socket, "pong"))

    assert {("exp-2", 2003), ("*", 2503)} == {(frame["experiment_id"], frame["code"]) for frame in ended}
    assert ["exp-1"] == seen
