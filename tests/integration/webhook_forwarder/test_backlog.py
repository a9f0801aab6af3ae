"""A backlog beyond its bound: the queue stays small, the log has the rest, and the order is kept."""

import asyncio

import aiormq

from loopcast.topology import Topology
from loopcast_webhook_forwarder.operator import Operator

QUEUE = "loopcast.webhook.ci"
BOUND = {"webhooks_max_backlog_events": 50}
BATCH = {"max_events": 10, "max_ms": 10}
RETRY = {"schedule": [0.2], "give_up_after": "72h"}


async def spilled(bench, value="1.0"):
    """Wait until the queue is left, or is used again."""
    async with asyncio.timeout(30):
        while True:
            if f'webhook_spilled{{endpoint="ci"}} {value}' in await bench._scrape():
                return
            await asyncio.sleep(0.05)


async def test_a_backlog_is_caught_up_from_the_log_in_order(bench, receiver):
    """Everything is delivered once and in its order, and then the queue is used again."""
    receiver.answer = lambda call: 503
    async with bench.forwarding(bench.endpoint("ci", receiver.url, retry=RETRY, batch=BATCH), **BOUND):
        await bench.bound("ci")
        ids = await bench.publish(*[bench.event() for _ in range(80)])
        await spilled(bench)
        await bench.until_depth(QUEUE, lambda depth: depth is not None)
        for _ in range(10):
            ids += await bench.publish(*[bench.event() for _ in range(100)])
        await asyncio.sleep(0.5)
        receiver.answer = lambda call: 200
        await receiver.until(lambda: len(set(receiver.taken)) >= 400, 40)
        ids += await bench.publish(*[bench.event() for _ in range(100)])
        await receiver.until(lambda: set(ids) <= set(receiver.taken), 60)
        await spilled(bench, "0.0")
        ids += await bench.publish(bench.event())
        await receiver.until(lambda: receiver.taken[-1] == ids[-1])

    assert list(dict.fromkeys(receiver.taken)) == ids
    assert len(receiver.taken) == len(ids)


async def test_an_endpoint_that_is_down_fills_no_queue(bench, receiver):
    """However much is published while it is down, its queue does not grow."""
    receiver.answer = lambda call: 503
    async with bench.forwarding(bench.endpoint("ci", receiver.url, retry=RETRY, batch=BATCH), **BOUND):
        await bench.bound("ci")
        await bench.publish(*[bench.event() for _ in range(80)])
        await spilled(bench)
        await bench.publish(*[bench.event() for _ in range(1000)])
    depth = await bench.until_depth(QUEUE, lambda depth: depth is not None)

    assert 80 <= depth <= 84


async def test_a_catch_up_survives_the_forwarder(bench, receiver):
    """Another process goes on where the former was, with what it had written down."""
    receiver.answer = lambda call: 503
    endpoint = bench.endpoint("ci", receiver.url, retry=RETRY, batch=BATCH)
    async with bench.forwarding(endpoint, **BOUND):
        await bench.bound("ci")
        ids = await bench.publish(*[bench.event() for _ in range(80)])
        await spilled(bench)
        ids += await bench.publish(*[bench.event() for _ in range(500)])

    async def slowly(call):
        await asyncio.sleep(0.2)
        return 200

    receiver.answer = slowly
    async with bench.forwarding(endpoint, **BOUND):
        await receiver.until(lambda: len(receiver.taken) >= 300, 40)
    receiver.answer = lambda call: 200
    async with bench.forwarding(endpoint, **BOUND):
        await receiver.until(lambda: set(ids) <= set(receiver.taken), 40)
        ids += await bench.publish(bench.event())
        await receiver.until(lambda: set(ids) <= set(receiver.taken), 40)

    assert list(dict.fromkeys(receiver.taken)) == ids


async def test_a_backlog_is_bounded_in_bytes_before_an_event_was_seen(bench, receiver):
    """An endpoint that was paused before its first event: what its events weigh is guessed, and its queue is left."""
    async with bench.forwarding(bench.endpoint("ci", receiver.url)):
        await bench.bound("ci")
        async with Operator(bench.settings()) as operator:
            await operator.set_mode("ci", "paused", "test")
    async with bench.forwarding(webhooks_max_backlog_bytes=100_000):
        await bench.bound("ci")
        await bench.publish(*[bench.event() for _ in range(80)])
        await spilled(bench)

    assert [] == receiver.calls


async def test_a_paused_endpoint_leaves_its_queue_too(bench, receiver):
    """A pause that somebody forgot fills no disk."""
    endpoint = bench.endpoint("ci", receiver.url)
    receiver.answer = lambda call: 410
    async with bench.forwarding(endpoint, **BOUND):
        await bench.bound("ci")
        await bench.publish(bench.event())
        await receiver.until(lambda: receiver.calls)
        await bench.publish(*[bench.event() for _ in range(80)])
        await spilled(bench)
        await bench.publish(*[bench.event() for _ in range(200)])
        depth = await bench.until_depth(QUEUE, lambda depth: depth is not None)

    assert depth <= 84


async def test_what_the_log_lost_meanwhile_is_one_dead_letter(bench, receiver):
    """A log that was made anew while an endpoint was behind is said with the place, and what is there is delivered."""
    receiver.answer = lambda call: 503
    endpoint = bench.endpoint("ci", receiver.url, retry=RETRY, batch=BATCH)
    async with bench.forwarding(endpoint, **BOUND):
        await bench.bound("ci")
        queued = await bench.publish(*[bench.event() for _ in range(80)])
        await spilled(bench)
        await bench.publish(*[bench.event() for _ in range(20)])
    link = await bench.client.open_admin(bench.url, name="test")
    await link.delete("loopcast.log.0")
    await link.apply(Topology())
    await link.close()
    receiver.answer = lambda call: 200
    kept = await bench.publish(*[bench.event() for _ in range(5)])
    async with bench.forwarding(endpoint, **BOUND) as service:
        await receiver.until(lambda: set(queued + kept) <= set(receiver.taken), 40)
        dead = await bench.dead("ci", 1)
        text = service.metrics.render().decode()

    assert receiver.taken == queued + kept
    assert "made anew" in dead[0].headers["loopcast-dead-reason"]
    assert dead[0].headers["loopcast-dead-partition"] == 0
    assert 'lost_to_retention_total{endpoint="ci"} 0.0' not in text


async def small_log(url):
    """A log that keeps some 40 kB: retention goes by whole segments."""
    size = {"x-queue-type": "stream", "x-max-length-bytes": 40_000, "x-stream-max-segment-size-bytes": 8_000}
    connection = await aiormq.connect(url)
    channel = await connection.channel()
    stream = Topology().streams[0]
    await channel.queue_delete(stream)
    await channel.queue_declare(stream, durable=True, arguments=size)
    await channel.queue_bind(stream, "loopcast.events", "#")
    await connection.close()


async def test_what_retention_took_meanwhile_is_one_dead_letter_with_the_range_and_the_count(bench, receiver):
    """
    The hole is said once, by its offsets and its size; what is behind it comes in order, and nothing else lacks.

    The endpoint fails again just behind the hole, several times, the channel closed at each: that says nothing twice.
    """
    await small_log(bench.url)
    receiver.answer = lambda call: 503
    endpoint = bench.endpoint("ci", receiver.url, retry=RETRY, batch=BATCH)
    async with bench.forwarding(endpoint, **BOUND, webhooks_hold_seconds=0.1) as service:
        await bench.bound("ci")
        queued = await bench.publish(*[bench.event() for _ in range(80)])
        await spilled(bench)
        behind = []
        for _ in range(20):
            behind += await bench.publish(*[bench.event(data={"event": "x", "pad": "x" * 500}) for _ in range(20)])
        failed = []

        def fails_behind_the_hole(call):
            if call.ids[0] in behind and len(failed) < 4:
                return failed.append(call) or 503
            return 200

        receiver.answer = fails_behind_the_hole
        await receiver.until(lambda: receiver.taken[-1:] == behind[-1:], 40)
        await spilled(bench, "0.0")
        ids = await bench.publish(bench.event())
        await receiver.until(lambda: receiver.taken[-1] == ids[-1])
        dead = await bench.dead("ci", 2, 1, partial=True)
        text = service.metrics.render().decode()

    # Once and in order: the queue, then the log from behind the hole on, then the queue.
    kept = receiver.taken[len(queued) : -1]
    assert receiver.taken == queued + kept + ids
    assert 4 == len(failed)
    assert 0 < len(kept) < len(behind)
    assert behind[-len(kept) :] == kept
    (letter,) = dead
    first, last, count = (letter.headers[f"loopcast-dead-{name}"] for name in ("first-offset", "last-offset", "count"))
    assert last - first + 1 == count
    # Places, not events: a stream gives some of them to itself, one at the beginning of each segment.
    assert 0 <= count - (len(behind) - len(kept)) <= 40
    assert "retention took it" in letter.headers["loopcast-dead-reason"]
    assert f'lost_to_retention_total{{endpoint="ci"}} {float(count)}' in text
