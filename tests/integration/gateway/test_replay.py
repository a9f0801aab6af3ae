"""The command `replay` of loopcast.v1: history on request, beside what is followed."""

import json
import time

import pytest


async def replayed(viewer, **command):
    """The numbers of the events that a replay sends, and how it ended."""
    await viewer.socket.send(json.dumps({"id": "r", "action": "replay", **command}))
    *events, end = await viewer.until("replay_end")
    assert all((e["type"], e["id"], e["replay"]) == ("event", "r", True) for e in events)
    assert ("r", len(events)) == (end["id"], end["count"])
    return [e["event"]["data"]["n"] for e in events], end


@pytest.mark.parametrize(("ring_events", "partitions"), [(2048, 1), (4, 1), (4, 3)])
async def test_either_end_of_history(start_gateway, feed, watch, ring_events, partitions):
    """The oldest or the newest, of one experiment or of all, since and until a time, as many as asked for."""
    gateway = start_gateway(ring_events=ring_events, partitions=partitions)
    async with feed(partitions) as log, watch(gateway) as viewer:
        await log.send("one", *({"n": n} for n in range(10)))
        between = time.time()
        for n in range(10, 20):
            await log.send("one" if n % 2 else "two", {"n": n})
        await log.settle(gateway)
        answers = [
            await replayed(viewer, experiment_id="one"),
            await replayed(viewer, experiment_id="one", limit=3),
            await replayed(viewer, experiment_id="one", limit=3, order="newest"),
            await replayed(viewer, experiment_id="one", since_ts=between),
            await replayed(viewer, experiment_id="one", until_ts=between, order="newest", limit=2),
            await replayed(viewer, experiment_id="*"),
            await replayed(viewer, experiment_id="*", since_ts=between, limit=4),
            await replayed(viewer, experiment_id="*", order="newest", limit=12),
            await replayed(viewer, experiment_id="one", limit=0),
            await replayed(viewer, experiment_id="nobody"),
        ]

    odd = [11, 13, 15, 17, 19]
    assert [
        [*range(10), *odd],
        [0, 1, 2],
        [19, 17, 15],
        odd,
        [9, 8],
        [*range(20)],
        [10, 11, 12, 13],
        [*range(19, 7, -1)],
        [],
        [],
    ] == [numbers for numbers, _ in answers]
    assert [True, False, False, True, False, True, False, False, False, True] == [e["complete"] for _, e in answers]


@pytest.mark.parametrize(("order", "bound"), [("oldest", "after"), ("newest", "before")])
@pytest.mark.parametrize(("experiment", "partitions"), [("paged", 1), ("*", 1), ("*", 3)])
async def test_page_by_page(start_gateway, feed, watch, *, order, bound, experiment, partitions):
    """With `next` a replay goes on where the last one ended, until it is complete; `*` over several partitions too."""
    gateway = start_gateway(ring_events=4, partitions=partitions)
    async with feed(partitions) as log, watch(gateway) as viewer:
        for n in range(25):
            await log.send("paged" if experiment != "*" else f"exp-{n % 5}", {"n": n})
        await log.settle(gateway)
        seen, place, complete, pages = [], {}, False, 0
        while not complete:
            numbers, end = await replayed(viewer, experiment_id=experiment, order=order, limit=4, **place)
            seen += numbers
            place, complete, pages = {bound: end["next"]}, end["complete"], pages + 1
            if pages == 2 and order == "oldest":
                # What comes meanwhile belongs to it: the positions say what was seen.
                await log.send("paged" if experiment != "*" else "exp-0", {"n": 25})
                await log.settle(gateway)
        if order == "oldest":
            again, _ = await replayed(viewer, experiment_id=experiment, order=order, limit=100, **place)

    assert sorted(seen) == list(range(26 if order == "oldest" else 25))
    assert seen == sorted(seen, reverse=order == "newest")
    assert pages >= 7
    assert order == "newest" or again == []


async def test_live_goes_on_beside_it(gateway, feed, watch):
    """What is followed comes during a replay, without the id that tells a replay's events."""
    async with feed() as log, watch(gateway) as viewer:
        await log.send("beside", *({"n": n} for n in range(3)))
        await log.settle_events(gateway, "beside", 3)
        await viewer.follow("beside")
        numbers, _ = await replayed(viewer, experiment_id="beside")
        await log.send("beside", {"n": 3})
        live = await viewer.frame()

    assert [0, 1, 2] == numbers
    assert (3, False, False) == (live["event"]["data"]["n"], "id" in live, "replay" in live)


@pytest.mark.parametrize(
    ("command", "name", "word"),
    [
        ({}, "bad_request", "experiment_id"),
        ({"experiment_id": "a", "limit": 10_001}, "bad_request", "limit"),
        ({"experiment_id": "a", "order": "random"}, "bad_request", "order"),
        ({"experiment_id": "a", "after": "x"}, "bad_request", "after"),
        ({"experiment_id": "a", "after": "x", "before": "x"}, "bad_request", "after and before"),
        ({"experiment_id": "a", "since_ts": -1}, "bad_request", "Unix seconds"),
        ({"experiment_id": "a", "after": "04000000000000000000000000"}, "unrecoverable_position", "by time"),
        ({"experiment_id": "~"}, "bad_request", "subscribers of *"),
    ],
)
async def test_a_replay_that_cannot_be(gateway, feed, watch, *, command, name, word):
    """What is wrong with a replay is said under its id."""
    async with feed() as log, watch(gateway) as viewer:
        await log.send("a", {"n": 1})
        answer = await viewer.ask(action="replay", **command)

    assert (1, name) == (answer["id"], answer["name"])
    assert word in answer["message"]


async def test_a_replay_needs_an_id(gateway, watch):
    """Without an id nobody could tell its events from those that are followed."""
    async with watch(gateway) as viewer:
        await viewer.socket.send('{"action":"replay","experiment_id":"a"}')
        answer = await viewer.frame()

    assert ("error", "bad_request") == (answer["type"], answer["name"])
