"""What comes before the live feed: snapshots, the newest, since a time, and a start that reads little of a long log."""

import asyncio
import time

import httpx
import pytest

from loopcast.position import Position


def numbers(frames):
    return [frame["event"]["data"]["n"] for frame in frames if frame["type"] == "event"]


async def loop(log, experiment, *steps):
    """Publish loop events: (type, data) each."""
    for type_, data in steps:
        event = log.event(experiment, {"event": type_, **data})
        await log.publish([type(event)(**{**{f: getattr(event, f) for f in event.__struct_fields__}, "type": type_})])


async def ready(gateway, name="loopcast_gateway_log_known"):
    """Wait until a metric of partition 0 is 1 or more."""
    async with asyncio.timeout(60):
        while (await asyncio.to_thread(gateway.metric, f'{name}{{partition="0"}}') or 0) < 1:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("ring_events", [2048, 3])
async def test_a_snapshot_then_history_then_live(start_gateway, feed, watch, ring_events):
    """The runs that go on, then what was asked for of the past, then what comes, and an eof at the end of a run."""
    gateway = start_gateway(ring_events=ring_events)
    async with feed() as log, watch(gateway) as viewer:
        await log.send("exp-1", *({"n": n} for n in range(20)))
        await loop(
            log,
            "exp-1",
            ("loop_start", {"loop": "outer"}),
            ("state_enter", {"state": "plan", "iteration": 3}),
            ("loop_start", {"loop": "inner", "depth": 1}),
        )
        await log.settle(gateway)
        subscribed = await viewer.follow("exp-1", **{"from": "last"}, limit=5, snapshot=True)
        snapshot = await viewer.frame()
        history = await viewer.until("caught_up")
        await loop(log, "exp-1", ("loop_complete", {"terminated_by": "terminal"}))
        end = await viewer.frames(2)
        async with watch(gateway) as later:
            await later.follow("exp-1", snapshot=True)
            empty = await later.frame()

    assert ("subscribed", None) == (subscribed["type"], subscribed.get("recovered"))
    [run] = snapshot["runs"]
    assert ("exp-1", "outer", "running") == (run["experiment_id"], run["loop"], run["status"])
    assert [("outer", "plan", 3), ("inner", None, None)] == [
        (level["loop"], level.get("state"), level.get("iteration")) for level in run["loops"]
    ]
    assert ["loop_start", "state_enter", "loop_start"] == [frame["event"]["type"] for frame in history[2:5]]
    assert [18, 19] == numbers(history[:2])
    assert 5 == history[-1]["events"]
    assert all(frame["pos"] <= snapshot["pos"] for frame in history[:-1])
    assert ["event", "eof"] == [frame["type"] for frame in end]
    assert (run["run"], "completed") == (end[1]["run"], end[1]["status"])
    assert ("snapshot", []) == (empty["type"], empty["runs"])


@pytest.mark.parametrize("ring_events", [2048, 3])
async def test_since_and_limits(start_gateway, feed, watch, ring_events):
    """A time is an anchor or a bound, a limit keeps the newest, and what is left out of an answer is said."""
    gateway = start_gateway(ring_events=ring_events)
    async with feed() as log:
        events = await log.send("exp-1", *({"n": n} for n in range(30)))
        await log.send("noise", *({"n": -1} for n in range(30)))
        await log.settle(gateway)
        anchor = events[9].recorded / 1e6
        found = {}
        for name, asked in {
            "exactly": {"since_ts": anchor},
            "between": {"since_ts": anchor - 1e-6 if events[8].recorded < events[9].recorded - 1 else anchor},
            "newest": {"since_ts": anchor, "limit": 4},
            "all": {"from": "earliest", "limit": 1000},
            "none": {"from": "earliest", "limit": 0},
            "future": {"since_ts": time.time() + 3600},
        }.items():
            async with watch(gateway) as viewer:
                subscribed = await viewer.follow("exp-1", **asked)
                found[name] = subscribed.get("reason"), numbers(await viewer.until("caught_up"))
        async with watch(gateway) as viewer:
            await viewer.follow("exp-1", **{"from": "earliest"})
            first = (await viewer.frame())["pos"]
        async with watch(gateway) as viewer:
            resumed = await viewer.follow("exp-1", resume=first, limit=3)
            rest = numbers(await viewer.until("caught_up"))

    assert (None, list(range(10, 30))) == found["exactly"]
    assert found["between"][1][-20:] == list(range(10, 30))
    assert ("limit", [26, 27, 28, 29]) == found["newest"]
    assert (None, list(range(30))) == found["all"]
    assert ("limit", []) == found["none"]
    assert (None, []) == found["future"]
    assert (False, "limit", [27, 28, 29]) == (resumed["recovered"], resumed["reason"], rest)


async def test_a_start_is_the_checkpoint_and_the_log_after_it(start_gateway, feed, watch):
    """A gateway that starts knows the whole log by what another one wrote down, and reads little of it."""
    first = start_gateway(checkpoint_seconds=0.5, replay_max_scan=500)
    async with feed() as log:
        await loop(log, "old", ("loop_start", {"loop": "still open"}))
        await log.send("old", *({"n": n} for n in range(10)))
        for part in range(6):
            await log.send(f"noise-{part}", *({"n": n} for n in range(1000)))
        again = log.event("old", {"n": 10})
        await log.publish([again])
        await log.settle(first)
        await ready(first, "loopcast_gateway_checkpoints_total")
        first.stop()
        second = start_gateway(replay_max_scan=500, ring_events=10)
        async with httpx.AsyncClient(base_url=second.http) as client:
            listed = (await client.get("/v1/experiments")).json()
            page = (await client.get("/v1/experiments/old/events", params={"limit": 1000})).json()
            newest = (await client.get("/v1/experiments/old/events", params={"limit": 3, "order": "newest"})).json()
        # The repeat of an event whose first copy stands before the checkpoint.
        await log.publish([again])
        async with watch(second) as viewer:
            await viewer.follow("old", **{"from": "earliest"}, snapshot=True)
            snapshot = await viewer.frame()
            history = await viewer.until("caught_up")
            await log.send("old", {"n": 11})
            live = await viewer.frame()

    assert listed["complete"]
    assert {"old": 12, **{f"noise-{part}": 1000 for part in range(6)}} == {
        one["experiment_id"]: one["events"] for one in listed["experiments"]
    }
    assert (True, 12) == (page["complete"], len(page["events"]))
    assert [10, 9, 8] == [one["event"]["data"]["n"] for one in newest["events"]]
    assert ["still open"] == [run["loop"] for run in snapshot["runs"]]
    assert list(range(11)) == [n for n in (f["event"]["data"].get("n") for f in history[:-1]) if n is not None]
    assert 11 == live["event"]["data"]["n"]


async def test_a_log_without_a_checkpoint_is_read_beside_the_viewers(start_gateway, feed, watch):
    """Ready after the last part of a long log, a gateway goes on to read all of it, and then knows everything."""
    async with feed() as log:
        await loop(log, "old", ("loop_start", {"loop": "still open"}))
        for part in range(4):
            await log.send(f"noise-{part}", *({"n": n} for n in range(1000)))
        gateway = start_gateway(replay_max_scan=500, checkpoint_seconds=3600)
        async with watch(gateway) as viewer:
            await viewer.follow("noise-3")
            await log.send("noise-3", {"n": 1000})
            live = await viewer.frame()
            await ready(gateway)
            await viewer.ask(action="unsubscribe", experiment_id="noise-3")
            await viewer.follow("old", **{"from": "earliest"}, snapshot=True)
            snapshot = await viewer.frame()
            history = await viewer.until("caught_up")
        async with httpx.AsyncClient(base_url=gateway.http) as client:
            listed = (await client.get("/v1/experiments")).json()

    assert 1000 == live["event"]["data"]["n"]
    assert ["still open"] == [run["loop"] for run in snapshot["runs"]]
    assert ["event", "caught_up"] == [frame["type"] for frame in history]
    assert (True, 4002) == (listed["complete"], sum(one["events"] for one in listed["experiments"]))


async def test_a_checkpoint_of_another_log_is_not_used(start_gateway, feed, vhost_url):
    """When the log was deleted and made anew, nothing of the old one is told, and later checkpoints count."""
    aio_pika = pytest.importorskip("aio_pika")
    first = start_gateway(checkpoint_seconds=0.5)
    async with feed() as log:
        await log.send("old", *({"n": n} for n in range(500)))
        await log.settle(first)
        await ready(first, "loopcast_gateway_checkpoints_total")
        first.stop()
        async with await aio_pika.connect(vhost_url) as connection:
            channel = await connection.channel()
            await channel.queue_delete("loopcast.log.0")
    listings = []
    async with feed() as log:
        for n in range(2):
            await log.send("new", {"n": n})
            gateway = start_gateway(checkpoint_seconds=0.5)
            if n == 0:
                await ready(gateway, "loopcast_gateway_checkpoints_total")
            async with httpx.AsyncClient(base_url=gateway.http) as client:
                listings.append((await client.get("/v1/experiments")).json()["experiments"])
            gateway.stop()

    assert [["new"], ["new"]] == [[one["experiment_id"] for one in listed] for listed in listings]
    assert [1, 2] == [listed[0]["events"] for listed in listings]


async def test_a_page_is_bounded_in_bytes(start_gateway, feed):
    """A page of large events ends before it takes too much memory, says so, and the next one goes on."""
    gateway = start_gateway()
    async with feed() as log:
        for n in range(12):
            await log.send("exp-1", {"n": n, "pad": "x" * 900_000})
        await log.settle(gateway)
        async with httpx.AsyncClient(base_url=gateway.http, timeout=30) as client:
            found = {}
            for order, bound in (("oldest", "after"), ("newest", "before")):
                place, seen, sizes = {}, [], []
                while len(seen) < 12:
                    answer = await client.get("/v1/experiments/exp-1/events", params={"order": order, **place})
                    page = answer.json()
                    sizes.append(len(answer.content))
                    seen += [one["event"]["data"]["n"] for one in page["events"]]
                    place = {bound: page["next"]}
                found[order] = seen, page["complete"], max(sizes) < 9_000_000

    assert (list(range(12)), True, True) == found["oldest"]
    assert (list(range(11, -1, -1)), True, True) == found["newest"]
    assert Position.parse(place["before"])


async def test_many_who_ask_for_the_same_share_a_read(start_gateway, feed, watch):
    """Twenty viewers that come back at once for the same stretch of the log cost one read of it."""
    gateway = start_gateway(ring_events=1)
    async with feed() as log:
        await log.send("exp-1", *({"n": n} for n in range(1500)))
        await log.settle(gateway)

        async def come_back():
            async with watch(gateway) as viewer:
                await viewer.follow("exp-1", **{"from": "earliest"})
                return numbers(await viewer.until("caught_up"))

        everybody = await asyncio.gather(*(come_back() for _ in range(20)))
        await asyncio.sleep(1.5)
        reads = gateway.metric("loopcast_gateway_history_reads_total")

    assert [list(range(1500))] * 20 == everybody
    assert reads <= 4


async def test_an_experiment_that_is_rare_in_a_busy_log(start_gateway, feed, watch):
    """Its few events come whole and in order, whatever the broker leaves out of the rest."""
    gateway = start_gateway(ring_events=1, checkpoint_seconds=3600)
    async with feed() as log:
        for part in range(6):
            await log.send(f"busy-{part}", *({"n": n} for n in range(500)))
            await log.send("rare", {"n": 2 * part}, {"n": 2 * part + 1})
            await log.send(f"busy-{part}", *({"n": n} for n in range(500, 1000)))
        await log.settle(gateway)
        async with httpx.AsyncClient(base_url=gateway.http, timeout=30) as client:
            queries = ({}, {}, {"order": "newest"})
            pages = [(await client.get("/v1/experiments/rare/events", params=query)).json() for query in queries]
            busy = (await client.get("/v1/experiments/busy-0/events", params={"limit": 2})).json()["events"]
            behind = {"after": pages[0]["events"][2]["pos"]}
            rest = (await client.get("/v1/experiments/rare/events", params=behind)).json()
        async with watch(gateway) as viewer:
            # A position of another experiment, as that of a ping is.
            resumed = await viewer.follow("rare", resume=busy[1]["pos"])
            history = await viewer.until("caught_up")
            await log.send("rare", {"n": 12})
            live = await viewer.frame()

    found = [[one["event"]["data"]["n"] for one in page["events"]] for page in (*pages, rest)]
    assert [[*range(12)], [*range(12)], [*range(11, -1, -1)], [*range(3, 12)]] == found
    assert [True] * 4 == [page["complete"] for page in (*pages, rest)]
    assert (True, [*range(12)], 12) == (resumed["recovered"], numbers(history), live["event"]["data"]["n"])
