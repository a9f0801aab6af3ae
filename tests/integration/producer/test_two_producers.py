"""Several producers before one broker: what they see of one source, interleaved, is one run, read once."""

import asyncio
import json

import httpx
import pytest
from processes import Producer, read_log

from loopcast.repeats import Repeats

EVENTS = 120


@pytest.fixture
def producers(vhost_url, tmp_path):
    """Two, as behind a load balancer."""
    with Producer(vhost_url, tmp_path / "one") as one, Producer(vhost_url, tmp_path / "two") as two:
        yield one, two


def once(messages):
    """What a reader delivers, by the rule that all readers share."""
    table = Repeats()
    return [
        m
        for m in messages
        if not table.seen(m.headers["run"], m.headers.get("emitter"), m.headers.get("sequence"), m.message_id)
    ]


async def test_one_source_over_two_producers_is_one_run(producers, vhost_url):
    """Plain HTTP, in turns and at once: one run, each producer's numbers without a hole, nothing taken for a repeat."""
    headers = {"loopcast-source": "laptop", "content-type": "application/json"}
    async with httpx.AsyncClient(timeout=30, headers=headers) as http:

        async def post(n):
            url = f"{producers[n % 2].url}/v1/experiments/shared/events"
            answer = await http.post(
                url, content=json.dumps({"event": "loop_start" if n % 10 == 0 else "tick", "n": n})
            )
            assert 202 == answer.status_code

        for n in range(EVENTS // 2):
            await post(n)
        await asyncio.gather(*(post(n) for n in range(EVENTS // 2, EVENTS)))
    messages = await read_log(vhost_url, count=EVENTS)

    numbers = {}
    for message in messages:
        numbers.setdefault(message.headers["emitter"], []).append(message.headers["sequence"])
    assert 1 == len({message.headers["run"] for message in messages})
    assert [list(range(1, EVENTS // 2 + 1))] * 2 == list(numbers.values())
    told = [json.loads(message.body)["data"]["n"] for message in once(messages)]
    assert list(range(EVENTS)) == sorted(told)
    assert list(range(EVENTS // 2)) == told[: EVENTS // 2]


async def test_what_two_producers_were_both_sent_is_read_once(producers, vhost_url):
    """Neither knows what the other took: the log has such an event twice, under one number, and a reader once."""
    events = [
        {
            "specversion": "1.0", "id": f"0192f0c1-0000-7000-8000-{n:012}", "source": "/experiments/shared/runs/r",
            "type": "tick", "experimentid": "shared", "runid": "r", "emitter": "0" * 16, "sequence": f"{n:020}",
            "data": {"n": n},
        }
        for n in range(1, 21)
    ]  # fmt: skip
    batches = [events[:12], events[8:]]
    for producer in producers:
        for batch in batches:
            answer = producer.post(json.dumps(batch), "shared", "application/cloudevents-batch+json")
            assert 202 == answer.status_code
    messages = await read_log(vhost_url, count=40)

    assert 40 == len(messages)
    assert [event["id"] for event in events] == [message.message_id for message in once(messages)]
