"""Delivered, or in the dead letters: one endpoint and its answers."""

import asyncio
import json
import re
from pathlib import Path

import pytest
import yaml
from aiohttp import web
from standardwebhooks.webhooks import Webhook

from .conftest import SECRET


async def test_events_arrive_in_order_signed_and_whole(bench, receiver):
    """What is published reaches the endpoint in its order, byte for byte, and an independent verifier accepts it."""
    (bench.folder / "key").write_text(SECRET)
    async with bench.forwarding(bench.endpoint("ci", receiver.url, secret={"file": "key"}, headers={"X-Team": "a"})):
        await bench.bound("ci")
        events = [bench.event() for _ in range(250)]
        ids = await bench.publish(*events)
        await receiver.until(lambda: len(receiver.taken) >= 250)

    assert receiver.taken == ids
    assert b"".join(call.body[1:-1] + b"," for call in receiver.calls) == b"".join(e.encode() + b"," for e in events)
    for call in receiver.calls:
        assert call.headers["Content-Type"] == "application/cloudevents-batch+json"
        assert call.headers["X-Team"] == "a"
        Webhook(SECRET).verify(call.body, dict(call.headers.items()))
    assert len({call.headers["webhook-id"] for call in receiver.calls}) == len(receiver.calls)
    assert max(len(call.ids) for call in receiver.calls) <= 100


async def test_a_retry_is_the_same_call_again(bench, receiver):
    """While an endpoint fails, the same events come under the same id with the same bytes, and nothing overtakes."""
    statuses = iter([503, 503, 429, 500])
    receiver.answer = lambda call: next(statuses, 200)
    async with bench.forwarding(bench.endpoint("ci", receiver.url)):
        await bench.bound("ci")
        ids = await bench.publish(bench.event(), bench.event())
        await receiver.until(lambda: len(receiver.taken) >= 2)
        later = await bench.publish(bench.event())
        await receiver.until(lambda: len(receiver.taken) >= 3)

    assert receiver.taken == ids + later
    first = [call for call in receiver.calls if call.ids == ids]
    assert len(first) == 5
    assert len({call.headers["webhook-id"] for call in first}) == 1
    assert len({call.body for call in first}) == 1


async def test_retry_after_is_obeyed(bench, receiver):
    """An endpoint that asks for a second gets it."""
    answers = iter([web.Response(status=429, headers={"Retry-After": "1"})])
    receiver.answer = lambda call: next(answers, 200)
    async with bench.forwarding(bench.endpoint("ci", receiver.url)):
        await bench.bound("ci")
        await bench.publish(bench.event())
        await receiver.until(lambda: len(receiver.calls) >= 2)

    assert receiver.calls[1].at - receiver.calls[0].at >= 0.99


@pytest.mark.parametrize("status", [400, 422])
async def test_the_event_at_fault_alone_is_a_dead_letter(bench, receiver, status):
    """A batch that is refused is narrowed down; its other events are delivered, in order."""
    events = [bench.event() for _ in range(60)]
    poison = {events[7].id, events[41].id}

    def answer(call):
        bad = poison & set(call.ids)
        return web.Response(status=status, text="no such state") if bad else 200

    receiver.answer = answer
    async with bench.forwarding(bench.endpoint("ci", receiver.url)):
        await bench.bound("ci")
        ids = await bench.publish(*events)
        await receiver.until(lambda: len(receiver.taken) >= 58)
        dead = await bench.dead("ci", 2)

    assert receiver.taken == [i for i in ids if i not in poison]
    assert [d.message_id for d in dead] == [i for i in ids if i in poison]
    assert dead[0].body == events[7].encode()
    assert dead[0].headers["loopcast-dead-reason"] == f"HTTP {status}"
    assert dead[0].headers["loopcast-dead-answer"] == "no such state"
    assert dead[0].headers["loopcast-dead-attempts"] == 1
    assert dead[0].headers["loopcast-key"] == "exp-42.state_enter"


async def test_413_halves_the_batch(bench, receiver):
    """What is too large together is delivered in parts, in order, and nothing is a dead letter."""
    receiver.answer = lambda call: 413 if len(call.ids) > 6 else 200
    async with bench.forwarding(bench.endpoint("ci", receiver.url)):
        await bench.bound("ci")
        ids = await bench.publish(*[bench.event() for _ in range(50)])
        await receiver.until(lambda: len(receiver.taken) >= 50)
        await bench.until_depth("loopcast.webhook.ci", lambda depth: depth == 0)
        assert await bench.until_depth("loopcast.webhook.ci.dead", lambda depth: depth is not None) == 0

    assert receiver.taken == ids


async def test_an_event_that_is_too_large_alone_is_a_dead_letter(bench, receiver):
    """Halving ends with one event: what even then is answered with 413 is set aside, and its neighbours arrive."""
    events = [bench.event() for _ in range(9)]
    large = events[4].id
    receiver.answer = lambda call: 413 if large in call.ids else 200
    async with bench.forwarding(bench.endpoint("ci", receiver.url)):
        await bench.bound("ci")
        ids = await bench.publish(*events)
        dead = await bench.dead("ci", 1)
        await receiver.until(lambda: len(receiver.taken) >= 8)

    assert [i for i in ids if i != large] == receiver.taken
    assert [(large, "HTTP 413")] == [(d.message_id, d.headers["loopcast-dead-reason"]) for d in dead]


async def test_an_event_stays_in_its_queue_until_its_dead_letter_is_confirmed(bench, receiver):
    """The dead letters' queue was deleted: the refused event waits, the queue is made again, and then has it."""
    receiver.answer = lambda call: 422
    async with bench.forwarding(bench.endpoint("ci", receiver.url)):
        await bench.bound("ci")
        link = await bench.client.open_admin(bench.url, name="test")
        await link.delete("loopcast.webhook.ci.dead")
        await link.close()
        ids = await bench.publish(bench.event())
        await bench.until_depth("loopcast.webhook.ci.dead", lambda depth: depth == 1)
        dead = await bench.dead("ci", 1)

    assert ids == [d.message_id for d in dead]


async def test_a_queue_that_somebody_deleted_is_made_and_bound_again(bench, receiver, capsys):
    """What was in it is gone and that is said; what comes afterwards arrives."""
    async with bench.forwarding(bench.endpoint("ci", receiver.url)):
        await bench.bound("ci")
        link = await bench.client.open_admin(bench.url, name="test")
        await link.delete("loopcast.webhook.ci")
        await link.close()
        await bench.until_depth("loopcast.webhook.ci", lambda depth: depth is not None)
        ids = []
        while not receiver.taken:
            # It is made first and bound a moment later.
            ids += await bench.publish(bench.event())
            await asyncio.sleep(0.1)
        await receiver.until(lambda: receiver.taken[-1] == ids[-1])

    assert ids[-len(receiver.taken) :] == receiver.taken
    assert "queue_gone" in capsys.readouterr().out


async def test_what_nobody_takes_is_given_up_with_its_history(bench, receiver):
    """After the stated time an event is a dead letter that says why, how often it was tried and what came back last."""
    receiver.answer = lambda call: web.Response(status=502, text="upstream away")
    retry = {"schedule": [0.1], "give_up_after": "1s"}
    async with bench.forwarding(bench.endpoint("ci", receiver.url, retry=retry)):
        await bench.bound("ci")
        ids = await bench.publish(*[bench.event() for _ in range(5)])
        dead = await bench.dead("ci", 5)
        fresh = bench.event()
        receiver.answer = lambda call: 200
        await bench.publish(fresh)
        await receiver.until(lambda: receiver.taken == [fresh.id])

    assert [d.message_id for d in dead] == ids
    assert "HTTP 502" in dead[0].headers["loopcast-dead-reason"]
    assert dead[0].headers["loopcast-dead-answer"] == "upstream away"
    assert dead[0].headers["loopcast-dead-attempts"] >= 3
    assert {"loopcast-dead-failing-since", "loopcast-dead-at", "loopcast-dead-endpoint"} <= set(dead[0].headers)


async def test_410_stops_the_endpoint_and_keeps_its_queue(bench, receiver):
    """An endpoint that is gone is called no more, by any replica, and loses nothing."""
    receiver.answer = lambda call: 410
    async with bench.forwarding(bench.endpoint("ci", receiver.url)):
        await bench.bound("ci")
        await bench.publish(*[bench.event() for _ in range(10)])
        await receiver.until(lambda: receiver.calls)
        await bench.until_depth("loopcast.webhook.ci", lambda depth: depth == 10)
    receiver.answer = lambda call: 200
    async with bench.forwarding():
        await bench.bound("ci")
        await bench.publish(bench.event())
        await bench.until_depth("loopcast.webhook.ci", lambda depth: depth == 11)
        await asyncio.sleep(0.5)

    assert len(receiver.calls) == 1
    assert receiver.taken == []


@pytest.mark.parametrize("status", [301, 401, 403, 404])
async def test_what_people_must_mend_is_tried_seldom_and_with_one_event(bench, receiver, status):
    """A wrong address or token costs no event, is called at the slowest pace, and goes on by itself when mended."""
    receiver.answer = lambda call: web.Response(status=status, headers={"Location": receiver.url + "/elsewhere"})
    retry = {"schedule": [0.01, 0.5], "give_up_after": "72h"}
    async with bench.forwarding(bench.endpoint("ci", receiver.url, retry=retry)) as service:
        await bench.bound("ci")
        ids = await bench.publish(*[bench.event() for _ in range(10)])
        await receiver.until(lambda: len(receiver.calls) >= 3)
        await asyncio.sleep(0.3)
        text = service.metrics.render().decode()
        receiver.answer = lambda call: 200
        await receiver.until(lambda: len(receiver.taken) >= 10)

    assert receiver.taken == ids
    gaps = [b.at - a.at for a, b in zip(receiver.calls[:3], receiver.calls[1:3], strict=False)]
    assert min(gaps) >= 0.39
    assert receiver.calls[1].ids == ids[:1]
    assert 'loopcast_webhook_phase{endpoint="ci",phase="misconfigured"} 1.0' in text


async def test_the_breaker_probes_with_one_event(bench, receiver):
    """After enough failures in a row an endpoint that is still ill gets one event, and the rest when it is well."""
    receiver.answer = lambda call: 500 if len(receiver.calls) <= 5 else 200
    async with bench.forwarding(bench.endpoint("ci", receiver.url, breaker_failures=3)):
        await bench.bound("ci")
        ids = await bench.publish(*[bench.event() for _ in range(20)])
        await receiver.until(lambda: len(receiver.taken) >= 20)

    sizes = [len(call.ids) for call in receiver.calls if call.ids[0] == ids[0]]
    assert sizes[:3] == [20, 20, 20]
    assert sizes[3:] == [1, 1, 1]
    assert receiver.taken == ids


async def test_a_long_wait_gives_the_events_back_in_their_place(bench, receiver):
    """What would be held too long lies in the queue meanwhile, and afterwards comes in its order."""
    receiver.answer = lambda call: 503 if len(receiver.calls) == 1 else 200
    retry = {"schedule": [2], "give_up_after": "72h"}
    async with bench.forwarding(bench.endpoint("ci", receiver.url, retry=retry), webhooks_hold_seconds=0.5):
        await bench.bound("ci")
        ids = await bench.publish(*[bench.event() for _ in range(30)])
        await receiver.until(lambda: receiver.calls)
        await bench.until_depth("loopcast.webhook.ci", lambda depth: depth == 30)
        ids += await bench.publish(*[bench.event() for _ in range(30)])
        await receiver.until(lambda: len(receiver.taken) >= 60)

    assert receiver.taken == ids
    assert receiver.calls[1].at - receiver.calls[0].at >= 1.5


async def test_little_loops_gets_what_it_would_have_posted(bench, receiver):
    """The format of little-loops' own webhook is a bare array of the loop's own objects."""
    receiver.answer = lambda call: 200
    data = {"event": "loop_start", "ts": "2026-11-20T17:38:28.606955+00:00", "loop": "demo"}
    bodies = []
    receiver.answer = lambda call: bodies.append(json.loads(call.body)) or web.Response(status=500)
    async with bench.forwarding(bench.endpoint("ci", receiver.url, format="little-loops")):
        await bench.bound("ci")
        await bench.publish(bench.event("loop_start", data=data))
        await receiver.until(lambda: bodies)

    assert bodies[0] == [data]


def as_github(call):
    """What `POST /repos/{owner}/{repo}/dispatches` answers (docs.github.com/rest/repos/repos)."""
    body = json.loads(call.body)
    if call.headers.get("Authorization") != "Bearer github_pat_1":
        return 401
    whole = set(body) <= {"event_type", "client_payload"} and 0 < len(body["event_type"]) <= 100
    return 204 if whole and len(body["client_payload"]) <= 10 and len(call.body) < 65536 else 422


async def test_the_page_s_example_starts_a_workflow(bench, receiver):
    """The GitHub example as it stands in the documentation, at another address: a dispatch for each loop that ends."""
    page = (Path(__file__).parents[3] / "docs/architecture/webhooks.md").read_text()
    example = yaml.safe_load(re.search(r"### GitHub\n.*?```yaml\n(.*?)```", page, re.DOTALL)[1])
    (endpoint,) = example["endpoints"]
    (bench.folder / "token").write_text("Bearer github_pat_1\n")
    endpoint |= {"url": receiver.url, "allow_private": True}
    endpoint["headers"]["Authorization"] = {"file": "token"}
    receiver.answer = as_github
    async with bench.forwarding(endpoint):
        await bench.bound(endpoint["name"])
        data = [{"event": "loop_complete", "terminated_by": "terminal", "n": n} for n in range(3)]
        await bench.publish(bench.event("loop_start"), *[bench.event("loop_complete", data=d) for d in data])
        await receiver.until(lambda: len(receiver.calls) == 3)
        await bench.until_depth("loopcast.webhook.deploy", lambda depth: depth == 0)
        bodies = [json.loads(call.body) for call in receiver.calls]

    assert ["loop_complete"] * 3 == [body["event_type"] for body in bodies]
    assert data == [body["client_payload"]["data"] for body in bodies]
    assert {"exp-42"} == {body["client_payload"]["experiment"] for body in bodies}
    assert {"application/vnd.github+json"} == {call.headers["Accept"] for call in receiver.calls}


async def test_only_what_was_asked_for_comes(bench, receiver):
    """Bindings choose: one type everywhere, one experiment whole, and an id with wildcards is itself alone."""
    wants = {"bindings": ["*.loop_complete"], "experiments": ["exp.*"]}
    async with bench.forwarding(bench.endpoint("ci", receiver.url, **wants)):
        await bench.bound("ci")
        await bench.publish(bench.event("state_enter", "exp-1"), bench.event("state_enter", "exp.1"))
        wanted = await bench.publish(bench.event("loop_complete", "exp-1"), bench.event("state_enter", "exp.*"))
        await receiver.until(lambda: len(receiver.taken) >= 2)
        await asyncio.sleep(0.2)

    assert receiver.taken == wanted
