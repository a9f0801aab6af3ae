"""`loopcast webhooks`: what a person can see and do."""

import asyncio
import json
import os
import re
import sys
import time

from aiohttp import web
from structlog.testing import capture_logs

from loopcast.broker.interface import Message
from loopcast.wire import to_message
from loopcast_webhook_forwarder.operator import Operator


async def run(bench, *args, code=0):
    """Run the command as a person would; its output."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LOOPCAST_")}
    environment = {**kept, "LOOPCAST_AMQP_URL": bench.url, "LOOPCAST_WEBHOOKS_FILE": str(bench.file)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "from loopcast.cli import main; main()", "webhooks", *args,
        env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, error = await process.communicate()
    assert process.returncode == code, (out, error)
    return out.decode() + error.decode()


async def test_a_pause_holds_the_events_and_a_resume_lets_them_go(bench, receiver):
    """Nothing is posted while an endpoint is paused, nothing is lost, and the list says why."""
    async with bench.forwarding(bench.endpoint("ci", receiver.url)):
        await bench.bound("ci")
        await run(bench, "pause", "ci", "--reason", "moving house")
        ids = await bench.publish(*[bench.event() for _ in range(5)])
        await bench.until_depth("loopcast.webhook.ci", lambda depth: depth == 5)
        row = json.loads(await run(bench, "list", "--json"))[0]
        assert (row["name"], row["state"], row["queued"], row["last"]) == ("ci", "paused", 5, "moving house")
        assert receiver.calls == []
        await run(bench, "resume", "ci")
        await receiver.until(lambda: receiver.taken == ids)
        assert json.loads(await run(bench, "list", "--json"))[0]["state"] == "ok"


async def test_a_resume_ends_an_endpoint_s_long_wait(bench, receiver):
    """Whoever mended the receiver need not wait for the schedule."""
    receiver.answer = lambda call: 401
    retry = {"schedule": [3600], "give_up_after": "72h"}
    async with bench.forwarding(bench.endpoint("ci", receiver.url, retry=retry)):
        await bench.bound("ci")
        ids = await bench.publish(bench.event())
        await receiver.until(lambda: receiver.calls)
        await bench.until_depth("loopcast.webhook.ci", lambda depth: depth == 1)
        text = await run(bench, "list")
        receiver.answer = lambda call: 200
        await run(bench, "resume", "ci")
        await receiver.until(lambda: receiver.taken == ids)

    head, line = text.splitlines()
    assert head.split()[:4] == ["name", "state", "queued", "dead"]
    assert "misconfigured" in line
    assert "HTTP 401" in line
    # An hour, a fifth more or less.
    assert re.search(r" in ((4[89]|5\d)m \d+s|1h \d+m)", line)


async def test_dead_letters_are_shown_and_put_back_under_their_ids(bench, receiver):
    """A person sees why, mends the receiver, and replays; what was shown stayed, what was replayed is gone."""
    receiver.answer = lambda call: web.Response(status=422, text="unknown field")
    async with bench.forwarding(bench.endpoint("ci", receiver.url, bindings=["*.state_enter"])):
        await bench.bound("ci")
        ids = await bench.publish(*[bench.event() for _ in range(3)])
        await bench.until_depth("loopcast.webhook.ci.dead", lambda depth: depth == 3)
        shown = json.loads(await run(bench, "dead", "ci", "--json"))
        assert [letter["id"] for letter in shown] == ids
        assert shown[0]["reason"] == "HTTP 422"
        assert shown[0]["answer"] == "unknown field"
        head, *lines = (await run(bench, "dead", "ci", "-n", "2")).splitlines()
        assert ["id", "experiment", "type", "age", "attempts", "reason"] == head.split()
        assert [[i, "exp-42", "state_enter", "1", "HTTP 422"] for i in ids[:2]] == [
            [*re.split(r"\s{2,}", line)[:3], *re.split(r"\s{2,}", line)[4:]] for line in lines
        ]
        await bench.until_depth("loopcast.webhook.ci.dead", lambda depth: depth == 3)
        receiver.answer = lambda call: 200
        assert "2 events" in await run(bench, "replay", "ci", "-n", "2")
        await receiver.until(lambda: receiver.taken == ids[:2])
        await bench.until_depth("loopcast.webhook.ci.dead", lambda depth: depth == 1)


async def test_dead_letters_are_put_back_since_a_time(bench, receiver):
    """Only what a producer took since then, under its id, however many older ones lie before it."""
    bench.write(bench.endpoint("ci", receiver.url))
    async with bench.forwarding():
        await bench.bound("ci")
    long_ago = time.time() - 7200
    events = [bench.event(recorded=long_ago) for _ in range(2100)] + [bench.event() for _ in range(3)]
    letters = [
        Message(exchange="", routing_key="loopcast.webhook.ci.dead", body=m.body, message_id=m.message_id, type=m.type,
                headers=m.headers, content_type=m.content_type, app_id=m.app_id)
        for m in (to_message(event, 0) for event in events)
    ]  # fmt: skip
    await bench.publisher.publish(letters, timeout=20)
    async with bench.forwarding():
        await bench.bound("ci")
        assert "3 events" in await run(bench, "replay", "ci", "--dead", "--since", "1h")
        await receiver.until(lambda: len(receiver.taken) >= 3)
        await bench.until_depth("loopcast.webhook.ci.dead", lambda depth: depth == 2100)

    assert [event.id for event in events[2100:]] == receiver.taken


async def test_the_log_is_replayed_since_a_time(bench, receiver):
    """What an endpoint had already is posted again under the same ids, only what it asks for and only since then."""
    async with bench.forwarding(bench.endpoint("ci", receiver.url, bindings=["*.state_enter"])):
        await bench.bound("ci")
        await bench.publish(bench.event(recorded=time.time() - 7200))
        ids = await bench.publish(bench.event(), bench.event("other"), bench.event())
        await receiver.until(lambda: len(receiver.taken) == 3)
        assert "2 events" in await run(bench, "replay", "ci", "--since", "1h")
        await receiver.until(lambda: len(receiver.taken) == 5)

    assert receiver.taken[3:] == [ids[0], ids[2]]


async def test_a_test_event_is_posted_at_once(bench, receiver):
    """It says what came back, and its exit code says whether the endpoint took it."""
    bench.write(bench.endpoint("ci", receiver.url), bench.endpoint("outside", receiver.url, allow_private=False))

    assert "taken: HTTP 200" in await run(bench, "test", "ci")
    receiver.answer = lambda call: web.Response(status=401, text="who are you")
    assert "not taken: HTTP 401\nwho are you" in await run(bench, "test", "ci", code=1)
    assert "allow_private: true" in await run(bench, "test", "outside", code=1)
    assert receiver.calls[0].events[0]["type"] == "loopcast.test"


async def test_what_is_left_of_a_removed_endpoint_is_dropped_by_command(bench, receiver):
    """An endpoint of the file cannot be dropped; one that is no longer in it goes with what it holds."""
    receiver.answer = lambda call: 410
    async with bench.forwarding(bench.endpoint("ci", receiver.url)):
        await bench.bound("ci")
        await bench.publish(*[bench.event() for _ in range(4)])
        await bench.until_depth("loopcast.webhook.ci", lambda depth: depth == 4)
    assert "out of" in await run(bench, "drop", "ci", "--yes", code=2)
    bench.write()
    assert "4 events" in await run(bench, "drop", "ci", "--yes", "--dead")
    await bench.until_depth("loopcast.webhook.ci", lambda depth: depth is None)
    assert "no endpoint" in await run(bench, "drop", "ci", "--yes", code=2)


async def test_an_endpoint_that_left_the_file_while_no_forwarder_ran_is_told(bench, receiver):
    """Its queue goes on filling: the next forwarder, the metrics and the list say so until it is dropped, or back."""
    receiver.answer = lambda call: 410
    both = bench.endpoint("ci", receiver.url), bench.endpoint("old", receiver.url)
    async with bench.forwarding(*both):
        await bench.bound("ci", "old")
        # A mark, which shows where the stream ends, and what was written behind it.
        await bench.until_depth("loopcast.state.webhook._names", lambda depth: (depth or 0) >= 2)
    with capture_logs() as lines:
        async with bench.forwarding(both[0]):
            await bench.until_phase("old", "removed")
            await bench.publish(*[bench.event() for _ in range(4)])
            await bench.until_scraped('queue_messages{endpoint="old"} 4.0')
            async with Operator(bench.settings()) as operator:
                rows = await operator.rows()
            bench.write(*both)
            async with asyncio.timeout(20):
                while 'endpoint="old",phase="removed"' in bench.service.metrics.render().decode():  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        bench.write(both[0])
        async with bench.forwarding():
            await bench.until_phase("old", "removed")
            async with Operator(bench.settings()) as operator:
                assert 4 == await operator.drop("old", dead=False)
            await bench.until_unmeasured("old")
    told = [line for line in lines if line["event"] == "endpoint_left_over"]

    assert [("ci", 4), ("old", 4)] == [(row.name, row.queued) for row in rows]
    assert "removed" == rows[1].state != rows[0].state
    assert ["old", "old"] == [line["endpoint"] for line in told]
    assert all("loopcast webhooks drop old" in line["hint"] for line in told)


async def test_every_command_answers_a_program(bench, receiver):
    """With `--json` each prints one JSON value and nothing else, in success."""

    async def answer(*args):
        return json.loads(await run(bench, *args, "--json"))

    async with bench.forwarding(bench.endpoint("ci", receiver.url)):
        await bench.bound("ci")
        paused = await answer("pause", "ci", "--reason", "moving house")
        await bench.publish(bench.event())
        await bench.until_depth("loopcast.webhook.ci", lambda depth: depth == 1)
        listed, resumed = await answer("list"), await answer("resume", "ci")
        await receiver.until(lambda: receiver.taken)
        replayed, dead, tried = await answer("replay", "ci"), await answer("dead", "ci"), await answer("test", "ci")
    bench.write()
    dropped = await answer("drop", "ci", "--yes")

    assert {"name": "ci", "state": "paused", "reason": "moving house"} == paused
    assert [("ci", "paused", 1)] == [(row["name"], row["state"], row["queued"]) for row in listed]
    assert {"name": "ci", "state": "running"} == resumed
    assert ({"replayed": 0}, [], True) == (replayed, dead, tried["taken"])
    assert {"name": "ci", "dropped": 0} == dropped


async def test_an_unknown_name_is_said_with_the_known_ones(bench, receiver):
    """A typing error ends in one line."""
    bench.write(bench.endpoint("ci", receiver.url))

    assert "it has: ci" in await run(bench, "test", "cx", code=2)
