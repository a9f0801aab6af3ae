"""Fewer frames for those who prefer it: filters, several frames a message, and events that wait for others."""

import asyncio
import json
import time

LINES = {"subprotocols": ["loopcast.v1.ndjson"]}


class Reader:
    """Reads messages of lines."""

    def __init__(self, viewer):
        self._viewer = viewer
        self.messages = []

    async def events(self, count, timeout=20):
        """The data of the next events, and nothing that is no event in between."""
        found = []
        async with asyncio.timeout(timeout):
            while len(found) < count:
                message = await self._viewer.socket.recv()
                frames = [json.loads(line) for line in message.split("\n")]
                found += [f["event"]["data"]["n"] for f in frames if f["type"] == "event"]
                self.messages.append(len(frames))
        return found


async def test_only_the_types_that_were_asked_for(gateway, feed, watch):
    """Patterns choose the types that come, of history and live, on one experiment and on all."""
    async with feed() as log, watch(gateway) as one, watch(gateway) as everything:
        kinds = ["loop_start", "state_enter", "action_output", "issue.completed", "loop_complete"]
        await log.send_types("filtered", kinds)
        await log.settle_events(gateway, "filtered", len(kinds))
        await one.follow("filtered", **{"from": "earliest"}, types=["loop_*", "state_enter"], exclude=["*_complete"])
        history = (await one.until("caught_up"))[:-1]
        await everything.follow("*", exclude=["action_*"])
        await log.send_types("filtered", kinds)
        live = await one.frames(2)
        of_all = await everything.frames(4)
        quiet = await one.quiet()

    assert ["loop_start", "state_enter"] == [frame["event"]["type"] for frame in history]
    assert ["loop_start", "state_enter"] == [frame["event"]["type"] for frame in live]
    assert [kind for kind in kinds if kind != "action_output"] == [frame["event"]["type"] for frame in of_all]
    assert quiet


async def test_a_filter_that_is_none_is_refused(gateway, watch):
    """A pattern that no type could match, or a window out of bounds, gets an error and no subscription."""
    async with watch(gateway) as viewer:
        for wrong in ({"types": ["a b"]}, {"types": []}, {"exclude": "action_*"}, {"coalesce_ms": 1001}):
            answer = await viewer.follow("exp-1", **wrong)

            assert ("error", "bad_request") == (answer["type"], answer["name"])
        stats = await viewer.ask(action="stats")

    assert "exp-1" not in stats["data"]["experiment_subscriptions"]


async def test_several_frames_a_message(gateway, feed, watch):
    """With loopcast.v1.ndjson, what was published together comes as lines of few messages, every line once."""
    async with feed() as log, watch(gateway, **LINES) as viewer:
        await viewer.follow("lines")
        reader = Reader(viewer)
        await log.send("lines", *({"n": n} for n in range(500)))
        seen = await reader.events(500)

    assert "loopcast.v1.ndjson" == viewer.socket.subprotocol
    assert list(range(500)) == seen
    assert len(reader.messages) < 250


async def test_several_commands_a_message(gateway, watch):
    """With loopcast.v1.ndjson a message may have several commands, and each is answered in its turn."""
    async with watch(gateway, **LINES) as viewer:
        await viewer.socket.send('{"id":1,"action":"ping"}\n\n{"id":2,"action":"pin"}\n{"id":3,"action":"ping"}\n')
        lines = []
        while len(lines) < 3:
            lines += [json.loads(line) for line in (await viewer.socket.recv()).split("\n")]

    assert [("pong", 1), ("error", 2), ("pong", 3)] == [(line["type"], line["id"]) for line in lines]


async def test_events_wait_for_others(gateway, feed, watch):
    """With coalesce_ms events wait so long and come together; an answer to a command waits for nothing."""
    async with feed() as log, watch(gateway, **LINES) as viewer:
        await viewer.follow("slowly", coalesce_ms=1000)
        reader = Reader(viewer)
        begun = time.monotonic()
        for n in range(20):
            await log.send("slowly", {"n": n})
        pong = asyncio.create_task(reader.events(20))
        seen = await pong
        took = time.monotonic() - begun
        await viewer.ask(action="ping")

    assert list(range(20)) == seen
    assert len(reader.messages) <= 2 + took


async def test_an_answer_does_not_wait(gateway, feed, watch):
    """A command is answered at once, and what waited for others comes before it, in its order."""
    async with feed() as log, watch(gateway) as viewer:
        await viewer.follow("slowly-2", coalesce_ms=1000)
        ahead = await log.send("slowly-2", {"n": 1})
        await log.settle_events(gateway, "slowly-2", len(ahead))
        first = await viewer.ask(action="ping")
        second = await viewer.frame()

    assert ("event", "pong") == (first["type"], second["type"])
