"""One endpoint's trouble is its own, and the file can change at any time."""

import asyncio

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from .conftest import QUICK, SECRET


async def test_twenty_ill_endpoints_cost_a_healthy_one_nothing(bench, receivers):
    """Dead, slow, lying and flapping neighbours: the healthy endpoint gets everything, at once and in order."""
    healthy, ill = await receivers(), await receivers()

    async def never(call):
        await asyncio.sleep(20)
        return 200

    kinds = [lambda call: 500, never, lambda call: 302, lambda call: 500 if len(ill.calls) % 2 else 200]

    def answer(call):
        return kinds[int(call.headers["X-Kind"])](call)

    ill.answer = answer
    slow = {"timeout": 2, "retry": {"schedule": [0.5, 2, 10], "give_up_after": "72h"}}
    endpoints = [bench.endpoint(f"ill-{n}", ill.url, headers={"X-Kind": str(n % 4)}, **slow) for n in range(19)]
    dead = bench.endpoint("dead", "http://127.0.0.1:1/", **slow)
    async with bench.forwarding(bench.endpoint("well", healthy.url), dead, *endpoints):
        await bench.bound("well", "dead", *[e["name"] for e in endpoints])
        ids = []
        for _ in range(20):
            ids += await bench.publish(*[bench.event() for _ in range(10)])
            await asyncio.sleep(0.05)
        await healthy.until(lambda: len(healthy.taken) >= 200)

    assert healthy.taken == ids
    assert ill.calls


async def test_the_file_is_read_again(bench, receivers):
    """A new endpoint starts, a changed one changes, and those that stay are not interrupted."""
    one, two = await receivers(), await receivers()
    first = bench.endpoint("one", one.url)
    async with bench.forwarding(first):
        await bench.bound("one")
        await bench.publish(bench.event())
        bench.write(first, bench.endpoint("two", two.url, experiments=["exp-2"], bindings=[]))
        await bench.bound("two")
        ids = await bench.publish(bench.event(experiment="exp-2"))
        await two.until(lambda: two.taken == ids)
        moved = bench.endpoint("one", two.url)
        bench.write(moved)
        await asyncio.sleep(1)
        ids += await bench.publish(bench.event())
        await two.until(lambda: two.taken == ids)

    assert len(one.taken) == 2


async def test_an_endpoint_that_somebody_mended_is_tried_at_once(bench, receiver):
    """A wrong token costs an hour between two tries; a right one in the file is tried now, and a wrong one once."""
    receiver.answer = lambda call: 200 if call.headers.get("authorization") == "right" else 401
    slow = {"schedule": [3600], "give_up_after": "72h"}
    async with bench.forwarding(bench.endpoint("ci", receiver.url, retry=slow)):
        await bench.bound("ci")
        ids = await bench.publish(bench.event())
        await receiver.until(lambda: len(receiver.calls) == 1)
        for token in ("wrong", "right"):
            bench.write(bench.endpoint("ci", receiver.url, retry=slow, headers={"Authorization": token}))
            await receiver.until(lambda token=token: receiver.calls[-1].headers.get("authorization") == token)
            await asyncio.sleep(0.5)

    assert [None, "wrong", "right"] == [call.headers.get("authorization") for call in receiver.calls]
    assert ids == receiver.taken


async def test_a_bad_file_keeps_the_old_endpoints(bench, receiver, capsys):
    """A typing error in the file stops nobody, and is said with its line."""
    async with bench.forwarding(bench.endpoint("ci", receiver.url)) as service:
        await bench.bound("ci")
        bench.file.write_text("endpoints:\n  - name: ci\n    url: nowhere\n    bindings: ['#']\n")
        await asyncio.sleep(0.5)
        ids = await bench.publish(bench.event())
        await receiver.until(lambda: receiver.taken == ids)
        assert 'reloads_total{result="refused"} 1.0' in service.metrics.render().decode()

    assert "endpoints.yaml:3: url:" in capsys.readouterr().out


async def test_a_dropped_binding_is_dropped_in_the_queue_too(bench, receiver):
    """What was queued under a binding that the file no longer has is acknowledged and counted, not delivered."""
    receiver.answer = lambda call: 503
    endpoint = bench.endpoint("ci", receiver.url, bindings=["*.a", "*.b"])
    async with bench.forwarding(endpoint) as service:
        await bench.bound("ci")
        await bench.publish(bench.event("a"), bench.event("b"), bench.event("a"))
        await receiver.until(lambda: receiver.calls)
        bench.write({**endpoint, "bindings": ["*.b", "*.c"]})
        await asyncio.sleep(1)
        receiver.answer = lambda call: 200
        ids = await bench.publish(bench.event("a"), bench.event("c"))
        await receiver.until(lambda: len(receiver.taken) >= 2)
        await bench.until_depth("loopcast.webhook.ci", lambda depth: depth == 0)
        assert 'events_total{endpoint="ci",result="unwanted"} 2.0' in service.metrics.render().decode()

    assert [e["type"] for call in receiver.calls[-2:] for e in call.events][-2:] == ["b", "c"]
    assert receiver.taken[-1] == ids[1]


async def test_a_binding_that_a_stopped_forwarder_missed_is_removed_at_the_next_start(bench, receiver):
    """The state remembers what the queue was bound by, so that a file changed in between leaves no old binding."""
    async with bench.forwarding(bench.endpoint("ci", receiver.url, bindings=["*.a"])):
        await bench.bound("ci")
    async with bench.forwarding(bench.endpoint("ci", receiver.url, bindings=["*.b"])) as service:
        await bench.bound("ci")
        await asyncio.sleep(0.5)
        ids = await bench.publish(bench.event("a"), bench.event("b"))
        await receiver.until(lambda: receiver.taken == [ids[1]])
        assert 'result="unwanted"} 0.0' in service.metrics.render().decode()


async def test_a_removed_endpoint_is_drained_and_then_gone(bench, receiver):
    """It takes nothing new, delivers what it has, and its queue is deleted when that is done."""

    async def slowly(call):
        await asyncio.sleep(0.2)
        return 200

    receiver.answer = slowly
    batch = {"max_events": 5, "max_ms": 10}
    async with bench.forwarding(bench.endpoint("ci", receiver.url, retry=QUICK, batch=batch)) as service:
        await bench.bound("ci")
        ids = await bench.publish(*[bench.event() for _ in range(30)])
        await receiver.until(lambda: receiver.taken)
        bench.write()
        await asyncio.sleep(0.6)
        await bench.publish(bench.event())
        await bench.until_depth("loopcast.webhook.ci", lambda depth: depth is None)
        await bench.until_unmeasured("ci")
        text = service.metrics.render().decode()

    assert receiver.taken == ids
    assert f'events_total{{endpoint="ci",result="delivered"}} {float(len(ids))}' in text


async def test_an_endpoint_that_comes_back_goes_on_with_its_queue(bench, receivers):
    """Taken out while it was down, and put back at another address: what waited is delivered there."""
    down, well = await receivers(), await receivers()
    down.answer = lambda call: 503
    async with bench.forwarding(bench.endpoint("ci", down.url)):
        await bench.bound("ci")
        ids = await bench.publish(*[bench.event() for _ in range(5)])
        await down.until(lambda: down.calls)
        bench.write()
        await bench.until_scraped('reloads_total{result="taken"} 1.0')
        bench.write(bench.endpoint("ci", well.url))
        await well.until(lambda: len(well.taken) >= 5)
        await bench.bound("ci")
        ids += await bench.publish(bench.event())
        await well.until(lambda: len(well.taken) >= 6)

    assert ids == well.taken


async def test_smaller_batches_change_no_order(bench, receiver):
    """An endpoint fails, its channel closed at each wait, its batches become smaller: what waits keeps its order."""
    receiver.answer = lambda call: 503
    endpoint = bench.endpoint("ci", receiver.url, retry={"schedule": [0.2], "give_up_after": "72h"})
    async with bench.forwarding(endpoint, webhooks_hold_seconds=0.05):
        await bench.bound("ci")
        ids = await bench.publish(*[bench.event() for _ in range(300)])
        await receiver.until(lambda: len(receiver.calls) >= 3)
        bench.write({**endpoint, "batch": {"max_events": 5, "max_ms": 20}})
        await bench.until_scraped('reloads_total{result="taken"} 1.0')
        before = len(receiver.calls)
        await receiver.until(lambda: len(receiver.calls) >= before + 4)
        receiver.answer = lambda call: 200
        await receiver.until(lambda: len(receiver.taken) >= 300)

    assert ids == receiver.taken


async def test_a_key_is_rotated_without_a_restart_and_without_a_call_that_does_not_verify(bench, receiver):
    """The old key, then the new one in front of it, then the new one alone: an independent verifier says who knows."""
    old, new = SECRET, "whsec_" + "QUJD" * 8
    for name, text in (("old", old), ("new", new)):
        (bench.folder / name).write_text(text)
    event, verified = bench.event(), []
    async with bench.forwarding(bench.endpoint("ci", receiver.url, secret={"file": "old"})) as service:
        await bench.bound("ci")
        for turn, files in enumerate((["old"], ["new", "old"], ["new"])):
            bench.write(bench.endpoint("ci", receiver.url, secret=[{"file": name} for name in files]))
            await bench.until_scraped(f'reloads_total{{result="taken"}} {float(turn)}')
            await bench.bound("ci")
            await asyncio.sleep(0.3)
            await bench.publish(event)
            await receiver.until(lambda turn=turn: len(receiver.calls) == turn + 1)
            verified.append([verifies(secret, receiver.calls[-1]) for secret in (old, new)])
        (bench.folder / "new").write_text(old)
        await bench.until_scraped('reloads_total{result="taken"} 3.0')
        await asyncio.sleep(0.3)
        await bench.publish(event)
        await receiver.until(lambda: len(receiver.calls) == 4)
        assert 'result="refused"} 0.0' in service.metrics.render().decode()

    assert [[True, False], [True, True], [False, True]] == verified
    assert [True, False] == [verifies(secret, receiver.calls[3]) for secret in (old, new)], "the file itself changed"
    assert 1 == len({call.headers["webhook-id"] for call in receiver.calls})


def verifies(secret, call):
    """Whether the package of Standard Webhooks accepts a call."""
    try:
        Webhook(secret).verify(call.body, dict(call.headers.items()))
    except WebhookVerificationError:
        return False
    return True
