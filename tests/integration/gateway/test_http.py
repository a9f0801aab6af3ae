"""History and numbers over HTTP."""

import time
from urllib.parse import quote

import httpx
import pytest
from msgspec.structs import replace

from loopcast.position import Position
from loopcast.trace_ids import trace_id


async def ask(gateway, path, **parameters):
    async with httpx.AsyncClient(base_url=gateway.http) as client:
        return await client.get(path, params=parameters)


def numbers(answer):
    assert 200 == answer.status_code, answer.text
    return [one["event"]["data"]["n"] for one in answer.json()["events"]]


@pytest.mark.parametrize("ring_events", [2048, 4])
async def test_pages_cover_everything_once(start_gateway, feed, ring_events):
    """Page by page, from either end, an experiment's events come once each and in order, from memory or the log."""
    gateway = start_gateway(ring_events=ring_events)
    async with feed() as log:
        for n in range(25):
            await log.send("exp-1", *({"n": n * 10 + m} for m in range(10)))
            await log.send("exp-2", {"n": -1})
        await log.settle(gateway)
    found = {}
    for order, bound in (("oldest", "after"), ("newest", "before")):
        place, seen = {}, []
        for _ in range(20):
            page = await ask(gateway, "/v1/experiments/exp-1/events", order=order, limit=60, **place)
            seen += numbers(page)
            if page.json()["complete"]:
                break
            place = {bound: page.json()["next"]}
        found[order] = seen

    assert list(range(250)) == found["oldest"]
    assert list(range(249, -1, -1)) == found["newest"]


async def test_envelopes_are_those_of_the_log(start_gateway, feed):
    """An event over HTTP has the position and the bytes that viewers see."""
    gateway = start_gateway()
    async with feed() as log:
        [event] = await log.send("loops/ß", {"n": 1})
        await log.settle(gateway)
    page = await ask(gateway, f"/v1/experiments/{quote('loops/ß', safe='')}/events")

    assert event.encode() in page.content
    assert 26 == len(page.json()["events"][0]["pos"])
    assert (True, page.json()["events"][0]["pos"]) == (page.json()["complete"], page.json()["next"])


@pytest.mark.parametrize("ring_events", [2048, 2])
async def test_since_a_time(start_gateway, feed, ring_events):
    """With since_ts come the events that were recorded later, and no other."""
    gateway = start_gateway(ring_events=ring_events)
    async with feed() as log:
        await log.send("exp-1", *({"n": n} for n in range(50)))
        between = time.time()
        await log.send("exp-1", *({"n": n} for n in range(50, 60)))
        await log.settle(gateway)
    answers = [
        await ask(gateway, "/v1/experiments/exp-1/events", since_ts=between),
        await ask(gateway, "/v1/experiments/exp-1/events", since_ts=between, order="newest", limit=3),
        await ask(gateway, "/v1/experiments/exp-1/events", since_ts=time.time() + 3600),
    ]

    assert [list(range(50, 60)), [59, 58, 57], []] == [numbers(answer) for answer in answers]
    assert [True, False, True] == [answer.json()["complete"] for answer in answers]


@pytest.mark.parametrize("order", ["oldest", "newest"])
@pytest.mark.parametrize("partitions", [1, 3])
async def test_pages_of_everything(start_gateway, feed, partitions, order):
    """`*` is read page by page over several partitions too, each event once, by `next` as it was given."""
    gateway = start_gateway(partitions=partitions, ring_events=2)
    async with feed(partitions) as log:
        for n in range(20):
            await log.send(f"exp-{n % 6}", {"n": n})
        await log.settle(gateway)
        place, seen = {}, []
        while True:
            page = await ask(gateway, "/v1/experiments/*/events", order=order, limit=3, **place)
            seen += numbers(page)
            if page.json()["complete"]:
                break
            place = {"after" if order == "oldest" else "before": page.json()["next"]}

    assert seen == sorted(range(20), reverse=order == "newest")


async def test_a_long_scan_is_cut_and_goes_on(start_gateway, feed):
    """One request reads so many messages at most, says so, and the next goes on where it ended."""
    gateway = start_gateway(replay_max_scan=1000, ring_events=1)
    async with feed() as log:
        for n in range(10):
            await log.send("exp-1", {"n": n})
            await log.send("noise", *({"n": -1} for _ in range(900)))
        await log.settle(gateway)
        place, seen, pages = {}, [], 0
        for _ in range(40):
            page = await ask(gateway, "/v1/experiments/exp-1/events", **place)
            seen += numbers(page)
            pages += 1
            place = {"after": page.json()["next"]}
            if page.json()["complete"]:
                break

    assert list(range(10)) == seen
    assert pages >= 2


async def test_what_is_gone_is_410(start_gateway, feed):
    """A position that the log does not prove is gone, and the answer says why."""
    gateway = start_gateway()
    async with feed() as log:
        await log.send("exp-1", *({"n": n} for n in range(3)))
        await log.settle(gateway)
    [first, *_] = (await ask(gateway, "/v1/experiments/exp-1/events")).json()["events"]
    position = Position.parse(first["pos"])
    wrong = str(Position.of(position.partition, position.offset, "another id"))
    beyond = str(Position.of(position.partition, position.offset + 9999, "another id"))
    for bound in ("after", "before"):
        for token in (wrong, beyond):
            answer = await ask(gateway, "/v1/experiments/exp-1/events", **{bound: token})

            assert (410, "epoch_changed") == (answer.status_code, answer.json()["reason"])


@pytest.mark.parametrize(
    ("path", "status", "word"),
    [
        ("/v1/experiments/exp-1/events?limit=0", 422, "limit"),
        ("/v1/experiments/exp-1/events?limit=1001", 422, "limit"),
        ("/v1/experiments/exp-1/events?limit=%C2%B2", 422, "limit"),
        ("/v1/experiments/exp-1/events?order=random", 422, "order"),
        ("/v1/experiments/exp-1/events?since_ts=nan", 422, "since_ts"),
        ("/v1/experiments/exp-1/events?since_ts=yesterday", 422, "since_ts"),
        ("/v1/experiments/exp-1/events?after=x", 422, "after"),
        ("/v1/experiments/exp-1/events?after=x&before=y", 422, "after and before"),
        ("/v1/experiments/exp-1/events?afterr=x", 422, "afterr"),
        ("/v1/experiments/a%0Ab/events", 422, "control character"),
        ("/v1/experiments/%FF/events", 422, "UTF-8"),
        ("/v1/nothing", 404, "openapi"),
    ],
)
async def test_a_request_that_is_wrong_is_told_so(gateway, path, status, word):
    """A wrong parameter or path gets problem details that name it."""
    async with httpx.AsyncClient() as client:
        answer = await client.get(gateway.http + path)

    assert (status, "application/problem+json") == (answer.status_code, answer.headers["content-type"])
    assert word in answer.json()["detail"]


async def test_experiments_are_listed(start_gateway, feed):
    """Every experiment of the log is listed, the latest active first, with its count and its first and last event."""
    gateway = start_gateway()
    async with feed() as log:
        for name in ("exp-1", "exp-2", "exp-1"):
            await log.send(name, {"n": 1})
        await log.settle(gateway)
    answer = (await ask(gateway, "/v1/experiments")).json()

    assert [("exp-1", 2), ("exp-2", 1)] == [(one["experiment_id"], one["events"]) for one in answer["experiments"]]
    assert answer["experiments"][0]["first"]["pos"] < answer["experiments"][0]["last"]["pos"]
    assert answer["complete"]


async def test_a_gateway_that_starts_later_knows_them_too(start_gateway, feed):
    """What was in the log before a gateway started is listed and served like the rest."""
    async with feed() as log:
        await log.send("exp-1", *({"n": n} for n in range(5)))
        late = start_gateway()
        await log.settle(late)
    page = await ask(late, "/v1/experiments/exp-1/events")

    assert [0, 1, 2, 3, 4] == numbers(page)


async def test_the_page_comes_whole(gateway):
    """The page and everything that it needs come from here, and nothing may come from elsewhere."""
    async with httpx.AsyncClient(base_url=gateway.http) as client:
        page = await client.get("/")
        parts = [await client.get(path) for path in ("/static/page.js", "/static/client.js", "/static/page.css")]

    assert "text/html; charset=utf-8" == page.headers["content-type"]
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert "/static/page.js" in page.text
    assert [200, 200, 200] == [part.status_code for part in parts]


async def test_runs_are_listed(start_gateway, feed):
    """The runs of an experiment, or of all, come with their loop, state and status, the one that spoke last first."""
    gateway = start_gateway()
    async with feed() as log:
        for name, run in (("exp-1", "one"), ("exp-1", "two"), ("exp-2", "three")):
            started = [
                {"event": "loop_start", "loop": "tune"},
                {"event": "state_enter", "state": "draft", "iteration": 1},
            ]
            events = [replace(log.event(name, data), type=data["event"], run=run) for data in started]
            await log.publish(events)
        end = {"event": "loop_complete", "terminated_by": "terminal", "failure_terminal": False}
        await log.publish([replace(log.event("exp-1", end), type="loop_complete", run="one")])
        await log.settle(gateway)
    one = (await ask(gateway, "/v1/experiments/exp-1/runs")).json()
    everything = (await ask(gateway, "/v1/experiments/*/runs")).json()
    cut = (await ask(gateway, "/v1/experiments/*/runs", limit=1)).json()
    going = (await ask(gateway, "/v1/experiments/*/runs", limit=2, open="true")).json()
    unclear = await ask(gateway, "/v1/experiments/*/runs", open="yes")

    assert [("one", "completed"), ("two", "running")] == [
        (run["run"], run.get("status", "running")) for run in one["runs"]
    ]
    assert "draft" == one["runs"][1]["loops"][0]["state"]
    assert ["one", "three", "two"] == [run["run"] for run in everything["runs"]]
    assert (True, True, False) == (one["complete"], everything["complete"], cut["complete"])
    # The one that ended spoke last, and takes none of the places.
    assert (["three", "two"], True) == ([run["run"] for run in going["runs"]], going["complete"])
    assert (422, True) == (unclear.status_code, "open must be true" in unclear.json()["detail"])


async def test_a_run_s_trace_is_named_and_found(start_gateway, gateway):
    """The id that `loopcast otel trace-id` prints, and its address where the backend's is set; before the run, too."""
    linking = start_gateway(trace_url="https://traces.example/trace/{trace_id}")
    path = "/v1/experiments/a%2Fb/runs/run%201/trace"
    known, unknown = (await ask(linking, path, attempt=2)).json(), (await ask(gateway, path)).json()

    trace = trace_id("a/b", "run 1", 2).hex()
    assert {"trace_id": trace, "url": f"https://traces.example/trace/{trace}"} == known
    assert {"trace_id": trace_id("a/b", "run 1").hex(), "url": None} == unknown
