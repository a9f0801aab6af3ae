"""A log of which retention took the beginning: what asks for what is gone is told so, and nothing else is."""

import asyncio
import time

import aio_pika
import httpx
import pytest

from loopcast.topology import EVENTS

LOG = "loopcast.log.0"


async def make_small(url):
    """Make the log anew with segments so small that retention has something to take, and always leaves several."""
    arguments = {"x-queue-type": "stream", "x-stream-max-segment-size-bytes": 20_000, "x-max-length-bytes": 200_000}
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        await channel.queue_delete(LOG)
        queue = await channel.declare_queue(LOG, durable=True, arguments=arguments)
        await queue.bind(EVENTS, "#")


async def first_offset(url):
    """Where the log begins."""
    found = asyncio.get_running_loop().create_future()
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        await channel.set_qos(10)
        queue = await channel.get_queue(LOG, ensure=False)

        async def take(message):
            await message.ack()
            if not found.done():
                found.set_result(message.headers["x-stream-offset"])

        await queue.consume(take, arguments={"x-stream-offset": "first"})
        return await asyncio.wait_for(found, 10)


async def answers(gateway, watch, experiment, *, since):
    """What is said of a history since a time: by a page, the newest, a replay and a subscription."""
    path = f"/v1/experiments/{experiment}/events"
    async with httpx.AsyncClient(base_url=gateway.http, timeout=30) as client:
        page = (await client.get(path, params={"since_ts": since, "limit": 1000})).json()
        newest = (await client.get(path, params={"since_ts": since, "limit": 1000, "order": "newest"})).json()
    async with watch(gateway) as viewer:
        subscribed = await viewer.follow(experiment, since_ts=since)
        history = await viewer.until("caught_up")
        await viewer.socket.send(
            f'{{"id":"r","action":"replay","experiment_id":"{experiment}","since_ts":{since},"limit":1000}}'
        )
        end = (await viewer.until("replay_end"))[-1]
    shown = {len(page["events"]), len(newest["events"]), len(history) - 1, end["count"]}
    said = [
        (page["complete"], page.get("reason")),
        (newest["complete"], newest.get("reason")),
        (end["complete"], end.get("reason")),
        (subscribed.get("recovered") is not False, subscribed.get("reason")),
    ]
    return shown, said, subscribed


async def test_what_is_gone_is_said(start_gateway, feed, watch, vhost_url):
    """A history since a time before the log's beginning is not complete; one since later, or of a newer run, is."""
    async with feed() as log:
        await make_small(vhost_url)
        # Knows only what it reads itself: no checkpoint, and nothing in its rings.
        seen_all = start_gateway(ring_events=1, checkpoint_seconds=3600)
        early = time.time() - 5
        for part in range(20):
            await log.send("old", *({"n": n, "pad": "x" * 800} for n in range(part * 20, part * 20 + 20)))
            # Retention takes a segment with nearly every part: who is far behind is overtaken.
            await log.settle_events(seen_all, "old", part * 20 + 20)
        async with asyncio.timeout(30):
            while await first_offset(vhost_url) == 0:
                await log.send("old", *({"n": -1, "pad": "x" * 800} for _ in range(20)))
        await log.send("young", {"n": 0}, {"n": 1})
        between = time.time()
        await log.send("old", *({"n": n} for n in range(3)))
        await log.settle_events(seen_all, "young", 2)
        came_late = start_gateway(ring_events=1, checkpoint_seconds=3600)
        cut, first = [False, "truncated"], await first_offset(vhost_url)
        found = {
            (gateway is seen_all, name, since): await answers(gateway, watch, name, since=since)
            for gateway in (seen_all, came_late)
            for name, since in (("old", early), ("old", between), ("*", early), ("young", early))
        }
        async with watch(seen_all) as viewer:
            last = await viewer.follow("old", **{"from": "last"}, limit=5000)
            few = (await viewer.until("caught_up"))[-1]
        async with watch(seen_all) as viewer:
            enough = await viewer.follow("old", **{"from": "last"}, limit=2)

    for (knows, name, since), (shown, said, subscribed) in found.items():
        missing = since == early and not (knows and name == "young")
        assert 1 == len(shown), (knows, name, since)
        assert [(not missing, "truncated" if missing else None)] * 4 == said, (knows, name, since)
        assert (subscribed.get("earliest") is not None) == missing
    assert {3} == found[True, "old", between][0]
    assert cut == [last["recovered"], last["reason"]]
    assert 0 < few["events"] < 403
    assert None is enough.get("reason")
    assert first > 0


@pytest.mark.parametrize("order", ["oldest", "newest"])
async def test_pages_of_a_cut_log_come_to_an_end(start_gateway, feed, vhost_url, order):
    """Who goes from page to page while there is a next one sees all that is left, and is told that it is not all."""
    async with feed() as log:
        await make_small(vhost_url)
        gateway = start_gateway(ring_events=1)
        sent = 0
        async with asyncio.timeout(30):
            while sent < 200 or await first_offset(vhost_url) == 0:
                await log.send("old", *({"n": n, "pad": "x" * 800} for n in range(sent, sent + 20)))
                sent += 20
                # Retention takes a segment with nearly every part: who is far behind is overtaken.
                await log.settle_events(gateway, "old", sent)
        await log.settle(gateway)
        seen, place, reasons = [], {}, set()
        async with httpx.AsyncClient(base_url=gateway.http, timeout=30) as client:
            while place is not None:
                answer = await client.get("/v1/experiments/old/events", params={"order": order, "limit": 30, **place})
                page = answer.json()
                seen += [one["event"]["data"]["n"] for one in page["events"]]
                reasons |= {page.get("reason")}
                more = page["next"] and not page["complete"]
                place = {"after" if order == "oldest" else "before": page["next"]} if more else None

    kept = sorted(seen)
    assert list(range(kept[0], sent)) == kept
    assert seen == sorted(seen, reverse=order == "newest")
    assert kept[0] > 0
    assert "truncated" in reasons
