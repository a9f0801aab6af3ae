"""Coming back: nothing missing, nothing twice, or a hole that is said."""

import asyncio
import json

import pytest

from loopcast.position import Position


def numbers(frames):
    return [frame["event"]["data"]["n"] for frame in frames if frame["type"] == "event"]


async def test_earliest_then_live(start_gateway, feed, watch):
    """From the earliest event a viewer gets all there is, is told when that was all, and goes on live."""
    gateway = start_gateway()
    async with feed() as log, watch(gateway) as viewer:
        await log.send("exp-1", *({"n": n} for n in range(50)))
        await log.send("exp-2", {"n": 99})
        await log.settle(gateway)
        subscribed = await viewer.follow("exp-1", **{"from": "earliest"})
        history = await viewer.until("caught_up")
        await log.send("exp-1", {"n": 50})
        live = await viewer.frame()

    assert "recovered" not in subscribed
    assert list(range(50)) == numbers(history)
    assert all(frame["replay"] for frame in history[:-1])
    assert 50 == history[-1]["events"]
    assert (50, False) == (live["event"]["data"]["n"], live.get("replay", False))


@pytest.mark.parametrize("ring_events", [2048, 8])
async def test_resume_is_exact(start_gateway, feed, watch, ring_events):
    """A viewer that resumes by its last position gets exactly what came after it, from memory or from the log."""
    gateway = start_gateway(ring_events=ring_events)
    async with feed() as log:
        async with watch(gateway) as viewer:
            await viewer.follow("exp-1")
            await log.send("exp-1", *({"n": n} for n in range(5)))
            last = (await viewer.frames(5))[-1]["pos"]
        await log.send("exp-2", *({"n": -1} for _ in range(300)))
        await log.send("exp-1", *({"n": n} for n in range(5, 305)))
        await log.settle(gateway)
        async with watch(gateway) as viewer:
            subscribed = await viewer.follow("exp-1", resume=last)
            missed = await viewer.until("caught_up")
            again = await log.send("exp-1", {"n": 305})
            live = await viewer.frame()

    assert (True, last) == (subscribed["recovered"], subscribed["pos"])
    assert list(range(5, 305)) == numbers(missed)
    assert again[0].id == live["event"]["id"]


async def test_a_gateway_that_restarted_resumes(start_gateway, feed, watch):
    """A position of one gateway is good at another, which never saw that viewer."""
    first, second = start_gateway(), start_gateway()
    async with feed() as log:
        async with watch(first) as viewer:
            subscribed = await viewer.follow("*")
        await log.send("exp-1", *({"n": n} for n in range(20)))
        await log.settle(second)
        await asyncio.to_thread(first.stop)
        async with watch(second) as viewer:
            resumed = await viewer.follow("*", resume=subscribed["pos"])
            missed = await viewer.until("caught_up")

    assert resumed["recovered"]
    assert list(range(20)) == numbers(missed)


async def test_no_hole_and_no_repeat_while_events_come(start_gateway, feed, watch):
    """Viewers that connect, drop and resume while events come get each event once, in order."""
    gateway = start_gateway(ring_events=16)
    total, viewers = 1200, 8

    async def publish(log):
        for start in range(0, total, 20):
            await log.send("exp-1", *({"n": n} for n in range(start, start + 20)))
            await log.send("other", {"n": -1})

    async def see(number):
        seen, pos = [], None
        while not seen or seen[-1] != total - 1:
            async with watch(gateway) as viewer:
                where = "exp-1" if number % 2 else "*"
                answer = await viewer.follow(where, **({"resume": pos} if pos else {"from": "earliest"}))
                assert answer.get("recovered", True), answer
                # Leave after a while, in the middle of history or of the live feed.
                for _ in range(90 + 97 * number):
                    frame = await viewer.frame(20)
                    assert frame["type"] in ("event", "caught_up"), frame
                    pos = frame["pos"]
                    if frame["type"] == "event" and frame["event"]["experimentid"] == "exp-1":
                        seen.append(frame["event"]["data"]["n"])
                    if seen and seen[-1] == total - 1:
                        break
        return seen

    async with feed() as log, asyncio.timeout(90):
        publishing = asyncio.create_task(publish(log))
        seen = await asyncio.gather(*(see(number) for number in range(viewers)))
        await publishing

    assert [list(range(total))] * viewers == seen


async def test_a_repeat_is_left_out_of_history_too(start_gateway, feed, watch):
    """A retry that the live feed left out is left out of a replay from the log, also right behind the position."""
    gateway = start_gateway(ring_events=1)
    async with feed() as log:
        async with watch(gateway) as viewer:
            await viewer.follow("exp-1")
            first = await log.send("exp-1", {"n": 1}, {"n": 2}, {"n": 3})
            last = (await viewer.frames(3))[-1]["pos"]
        await log.publish(first)
        await log.send("exp-1", {"n": 4}, {"n": 5})
        await log.settle(gateway)
        async with watch(gateway) as viewer:
            await viewer.follow("exp-1", resume=last)
            missed = await viewer.until("caught_up")

    assert [4, 5] == numbers(missed)


async def test_a_position_of_another_log_is_noticed(gateway, feed, watch):
    """A position that the log does not have is not resumed from: the viewer is told why, and goes on live."""
    async with feed() as log, watch(gateway) as viewer:
        await viewer.follow("exp-1")
        [event] = await log.send("exp-1", {"n": 1})
        pos = Position.parse((await viewer.frame())["pos"])
        stranger = str(Position.of(pos.partition, pos.offset, "another id"))
        beyond = str(Position.of(pos.partition, pos.offset + 10_000, event.id))
        for token in (stranger, beyond):
            async with watch(gateway) as other:
                answer = await other.follow("exp-1", resume=token)
                caught_up = await other.frame()
                await log.send("exp-1", {"n": 2})
                live = await other.frame()

            assert (False, "epoch_changed") == (answer["recovered"], answer["reason"])
            assert 26 == len(answer["earliest"]["pos"])
            assert ("caught_up", 0) == (caught_up["type"], caught_up["events"])
            assert {"n": 2} == live["event"]["data"]


async def test_more_than_one_replay_may_read_is_said(start_gateway, feed, watch):
    """A resume from too far back is refused, and a replay of everything says that it begins later."""
    gateway = start_gateway(replay_max_scan=100, ring_events=4)
    async with feed() as log:
        async with watch(gateway) as viewer:
            subscribed = await viewer.follow("exp-1")
            await log.send("exp-1", *({"n": n} for n in range(400)))
            await viewer.frames(400)
        async with watch(gateway) as viewer:
            resumed = await viewer.follow("exp-1", resume=subscribed["pos"])
            await viewer.until("caught_up")
        async with watch(gateway) as viewer:
            earliest = await viewer.follow("exp-1", **{"from": "earliest"})
            history = await viewer.until("caught_up")

    assert (False, "limit") == (resumed["recovered"], resumed["reason"])
    assert (False, "limit") == (earliest["recovered"], earliest["reason"])
    found = numbers(history)
    assert list(range(400))[-len(found) :] == found
    assert 90 <= len(found) <= 100


@pytest.mark.parametrize("resume", ["", "x", "Z" * 26, "0" * 26, ["0" * 26], [], "04" * 13 + "ü"])
async def test_a_position_that_is_none_is_refused(gateway, watch, resume):
    """A resume by anything that no gateway gave is an error, and the connection goes on."""
    async with watch(gateway) as viewer:
        answer = await viewer.follow("exp-1", resume=resume)
        pong = await viewer.ask(action="ping")

    assert ("error", 107) == (answer["type"], answer["code"])
    assert "pong" == pong["type"]


async def test_everything_and_one_in_detail(start_gateway, feed, watch):
    """Beside a live *, the history of one experiment comes by itself, and live events still come once."""
    gateway = start_gateway(ring_events=4)
    async with feed() as log, watch(gateway) as viewer:
        await log.send("exp-1", *({"n": n} for n in range(200)))
        await log.settle(gateway)
        await viewer.follow("*")
        await viewer.follow("exp-1", **{"from": "earliest"})
        publishing = asyncio.create_task(log.send("exp-1", *({"n": n} for n in range(200, 260))))
        history = await viewer.until("caught_up")
        await publishing
        rest = [] if len(numbers(history)) == 260 else await viewer.frames(260 - len(numbers(history)))
        await viewer.ask(action="unsubscribe", experiment_id="exp-1")
        await log.send("exp-1", {"n": 260})
        live = await viewer.frame()

    assert list(range(260)) == numbers(history + rest)
    assert {"n": 260} == live["event"]["data"]


async def test_several_partitions_resume_together(start_gateway, feed, watch):
    """On * over several partitions a viewer resumes by one position of each."""
    gateway = start_gateway(partitions=3)
    names = [f"exp-{n}" for n in range(9)]
    async with feed(3) as log:
        async with watch(gateway) as viewer:
            positions = dict(enumerate((await viewer.follow("*"))["pos"]))
            for name in names:
                await log.send(name, {"n": 1})
            for frame in await viewer.frames(9):
                positions[frame["p"]] = frame["pos"]
        for name in names:
            await log.send(name, {"n": 2})
        await log.settle(gateway)
        async with watch(gateway) as viewer:
            answer = await viewer.follow("*", resume=list(positions.values()))
            missed = await viewer.until("caught_up")
            half = json.loads(json.dumps(list(positions.values())[:2]))
            await viewer.ask(action="unsubscribe", experiment_id="*")
            refused = await viewer.follow("*", resume=half)

    assert answer["recovered"]
    assert [2] * 9 == numbers(missed)
    assert set(names) == {frame["event"]["experimentid"] for frame in missed if frame["type"] == "event"}
    assert "error" == refused["type"]
