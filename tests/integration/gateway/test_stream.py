"""Server-Sent Events: the live feed for who has nothing but HTTP."""

import asyncio
import contextlib
import json

import httpx
import pytest

from loopcast.position import Position


class Stream:
    """Reads a stream as an EventSource does (HTML Standard, 9.2.6)."""

    def __init__(self, answer):
        self.answer = answer
        self.last_id = ""
        self.retry = None
        self._lines = answer.aiter_lines()

    async def event(self, timeout=10):
        """The next event: its name and data; None at the end."""
        name, data = "message", []
        async with asyncio.timeout(timeout):
            async for line in self._lines:
                field, _, value = line.partition(": ")
                if field == "id":
                    self.last_id = value
                elif field == "event":
                    name = value
                elif field == "data":
                    data.append(value)
                elif field == "retry":
                    self.retry = int(value)
                elif not line and data:
                    return name, json.loads("\n".join(data))
        return None

    async def numbers(self, count):
        found = [await self.event() for _ in range(count)]
        assert ["message"] * count == [name for name, _ in found]
        return [event["data"]["n"] for _, event in found]


@contextlib.asynccontextmanager
async def streaming(gateway, experiment, headers=None, **parameters):
    async with (
        httpx.AsyncClient(timeout=30) as client,
        client.stream(
            "GET", f"{gateway.http}/v1/experiments/{experiment}/stream", headers=headers, params=parameters
        ) as answer,
    ):
        assert 200 == answer.status_code, await answer.aread()
        yield Stream(answer)


async def test_events_as_they_come(gateway, feed):
    """A stream has the envelopes as the log has them, each with its position as the id."""
    async with feed() as log, streaming(gateway, "sse-1") as stream:
        name, subscribed = await stream.event()
        [event] = await log.send("sse-1", {"n": 1})
        found = await stream.event()
        page = (await asyncio.to_thread(httpx.get, f"{gateway.http}/v1/experiments/sse-1/events")).json()

    assert "text/event-stream; charset=utf-8" == stream.answer.headers["content-type"]
    assert 1000 <= stream.retry <= 3000
    assert ("subscribed", "sse-1") == (name, subscribed["experiment_id"])
    assert ("message", json.loads(event.encode())) == found
    assert page["events"][0]["pos"] == stream.last_id


async def test_the_last_id_brings_the_rest(start_gateway, feed):
    """Who comes back with the last id gets what it missed, once, and goes on live, at any gateway."""
    first, second = start_gateway(), start_gateway(ring_events=1)
    async with feed() as log:
        async with streaming(first, "sse-2") as stream:
            await stream.event()
            await log.send("sse-2", *({"n": n} for n in range(5)))
            seen = await stream.numbers(5)
            last = stream.last_id
        await log.send("sse-2", *({"n": n} for n in range(5, 300)))
        await log.settle(second)
        async with streaming(second, "sse-2", headers={"Last-Event-ID": last}) as stream:
            name, subscribed = await stream.event()
            seen += await stream.numbers(295)
            caught_up, _ = await stream.event()
            await log.send("sse-2", {"n": 300})
            seen += await stream.numbers(1)

    assert ("subscribed", True, "caught_up") == (name, subscribed["recovered"], caught_up)
    assert list(range(301)) == seen


async def test_everything_and_filters(gateway, feed):
    """`*` is every experiment, and patterns choose the types."""
    async with feed() as log, streaming(gateway, "*", types="loop_*,state_enter", exclude="*_complete") as stream:
        await stream.event()
        await log.send_types("sse-3", ["loop_start", "action_output", "loop_complete"])
        await log.send_types("sse-4", ["state_enter"])
        found = [(await stream.event())[1]["type"] for _ in range(2)]

    assert ["loop_start", "state_enter"] == found


@pytest.mark.parametrize("partitions", [1, 3])
async def test_everything_comes_back_by_its_last_id(start_gateway, feed, partitions):
    """On `*` the id says how far each partition was seen: whoever comes back with it sees each event once."""
    first, second = (start_gateway(partitions=partitions, ring_events=ring, ping_seconds=0.2) for ring in (2048, 2))
    names = [f"exp-{n}" for n in range(7)]
    seen, places, headers = [], set(), None
    async with feed(partitions) as log:
        for n in range(28):
            await log.send(names[n % 7], {"n": n})
        await log.settle(first, second)
        turn = 0
        while len(seen) < 34:
            if turn < 6:
                await log.send(names[turn], {"n": 28 + turn})
            async with streaming((first, second)[turn % 2], "*", headers=headers, **{"from": "earliest"}) as stream:
                # In the middle of history, between partitions, at its end, and live.
                while len(seen) < 34 and (event := await stream.event())[0] != "caught_up":
                    if event[0] == "message":
                        seen.append((event[1]["experimentid"], event[1]["data"]["n"]))
                        if len(seen) % 5 == 0:
                            break
                headers = {"Last-Event-ID": stream.last_id}
                places.add(len(stream.last_id.split(",")))
                assert event[0] != "gap"
                turn += 1
        async with streaming(first, "*", headers=headers) as stream:
            while (await stream.event())[0] != "caught_up":
                pass
            await asyncio.sleep(0.5)
            quiet = asyncio.create_task(stream.event())
            await asyncio.sleep(0.5)
            place = stream.last_id
            await log.send("exp-1", {"n": 34})
            assert 34 == (await quiet)[1]["data"]["n"]

    assert sorted(n for _, n in seen) == list(range(34))
    for name in names:
        mine = [n for of, n in seen if of == name]
        assert mine == sorted(mine)
    assert max(places) >= min(partitions, 2)
    assert partitions == len(place.split(","))


async def test_a_place_of_which_a_part_is_gone_is_410(start_gateway, feed):
    """Where one of several positions is not proven, none is resumed from: the answer has the earliest of that part."""
    gateway = start_gateway(partitions=3)
    async with feed(3) as log:
        await log.send("exp-1", {"n": 1})
        await log.settle(gateway)
        async with streaming(gateway, "*") as stream:
            await stream.event()
            good = stream.last_id.split(",")
    wrong = str(Position.of(1, 0, "of another log"))
    async with httpx.AsyncClient(base_url=gateway.http) as client:
        for path in ("stream", "events"):
            answer = await client.get(
                f"/v1/experiments/*/{path}", params={"after": ",".join([good[0], wrong, good[2]])}
            )
            assert 410 == answer.status_code
            assert 1 == Position.parse(answer.json()["earliest"]["pos"]).partition


async def test_from_the_earliest(gateway, feed):
    """With from=earliest, history comes first."""
    async with feed() as log:
        await log.send("sse-5", {"n": 1}, {"n": 2})
        await log.settle_events(gateway, "sse-5", 2)
        async with streaming(gateway, "sse-5", **{"from": "earliest"}) as stream:
            await stream.event()
            seen = await stream.numbers(2)

    assert [1, 2] == seen


async def test_a_quiet_stream_keeps_its_place(start_gateway, feed):
    """Without events, comments keep it open and the id goes on with the log's end."""
    gateway = start_gateway(ping_seconds=0.2)
    async with feed() as log, streaming(gateway, "quiet") as stream:
        await stream.event()
        before = stream.last_id
        await log.send("other", {"n": 1})
        await log.settle(gateway)
        with contextlib.suppress(TimeoutError):
            await stream.event(1)
        async with streaming(gateway, "quiet", headers={"Last-Event-ID": stream.last_id}) as again:
            _, subscribed = await again.event()

    assert before < stream.last_id
    assert subscribed["recovered"]


@pytest.mark.parametrize("recorder", ["", "http://recorder.example:8704/"])
async def test_a_place_that_is_gone_is_410(start_gateway, feed, recorder):
    """A position that the log does not prove is refused before the stream begins, with what there is instead."""
    gateway = start_gateway(recorder_url=recorder)
    async with feed() as log:
        await log.send("gone", {"n": 1})
        await log.settle(gateway)
        wrong = {"Last-Event-ID": str(Position.of(0, 0, "another"))}
        async with httpx.AsyncClient(base_url=gateway.http) as client:
            answer = await client.get("/v1/experiments/gone/stream", headers=wrong)
            page = await client.get("/v1/experiments/gone/events", params={"after": wrong["Last-Event-ID"]})
            problem = answer.json()
            again = await client.get("/v1/experiments/gone/events", params={"after": problem["earliest"]["pos"]})

    assert (410, 410, 200) == (answer.status_code, page.status_code, again.status_code)
    assert "epoch_changed" == problem["reason"]
    assert problem == page.json()
    assert ("http://recorder.example:8704/v1/experiments/gone/events" if recorder else None) == problem.get("recorder")


@pytest.mark.parametrize(
    ("query", "headers", "word"),
    [
        ("?from=yesterday", {}, "from must be"),
        ("?types=a%20b", {}, "no pattern"),
        ("?since_ts=1", {}, "since_ts"),
        ("", {"Last-Event-ID": "7"}, "Last-Event-ID"),
    ],
)
async def test_a_stream_that_cannot_be(gateway, query, headers, word):
    """What is wrong with a request for a stream is said in problem details."""
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"{gateway.http}/v1/experiments/e/stream{query}", headers=headers)

    assert (422, "application/problem+json") == (answer.status_code, answer.headers["content-type"])
    assert word in answer.json()["detail"]


async def test_streams_end_when_the_gateway_does(start_gateway, feed):
    """A gateway that stops ends its streams at once, so that it can; they are counted like other connections."""
    gateway = start_gateway()
    async with feed(), streaming(gateway, "end") as stream:
        await stream.event()
        stats = (await asyncio.to_thread(httpx.get, f"{gateway.http}/v1/stats")).json()
        await asyncio.to_thread(gateway.stop)
        end = await stream.event()

    assert (1, {"end": 1}) == (stats["total_connections"], stats["experiment_subscriptions"])
    assert end is None


async def test_a_reader_that_left_is_forgotten(gateway, feed):
    """A stream whose reader went follows nothing any more."""
    async with feed() as log:
        async with streaming(gateway, "left") as stream:
            await stream.event()
        async with asyncio.timeout(10), httpx.AsyncClient() as client:
            while "left" in (await client.get(f"{gateway.http}/v1/stats")).json()["experiment_subscriptions"]:
                await log.send("left", {"n": 1})
