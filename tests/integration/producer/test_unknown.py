"""What the broker did not say is unknown: the same id again is never a second event, and never a lost one."""

import asyncio
import contextlib
import json

import httpx
import pytest
from processes import Producer, read_log, stopped

UUID = "0192f0c1-0000-7000-8000-%012d"


def cloudevent(n):
    return json.dumps({"specversion": "1.0", "id": UUID % n, "source": "urn:s", "type": "tick", "data": {"n": n}})


async def until(condition):
    for _ in range(600):
        if await asyncio.to_thread(condition):
            return
        await asyncio.sleep(0.05)
    raise AssertionError("it did not come")


@contextlib.contextmanager
def disk_alarm(broker):
    broker.ctl("set_disk_free_limit", "100000GB")
    try:
        yield
    finally:
        broker.ctl("set_disk_free_limit", "50MB")


async def test_a_confirm_that_is_late_is_unknown_and_not_a_no(broker, vhost_url, tmp_path):
    """503 says that it may have landed; the same id again is a duplicate of what did, and the log has it once."""
    with Producer(vhost_url, tmp_path / "log", LOOPCAST_CONFIRM_SECONDS="1") as producer:
        with stopped(broker):
            late = producer.post(cloudevent(1), "late", "application/cloudevents+json")
            keyed = producer.post(b'{"event":"keyed"}', "late", idempotency_key="k")
            # Tried again while it is still unknown: nothing is sent twice.
            again = producer.post(cloudevent(1), "late", "application/cloudevents+json")
        producer.wait()
        await until(lambda: producer.metric("loopcast_producer_unconfirmed_bytes") == 0)
        answers = [
            producer.post(cloudevent(1), "late", "application/cloudevents+json"),
            producer.post(b'{"event":"keyed"}', "late", idempotency_key="k"),
        ]
        messages = await read_log(vhost_url)

    assert [503] * 3 == [answer.status_code for answer in (late, keyed, again)]
    assert {"urn:loopcast:problem:broker-unavailable"} == {answer.json()["type"] for answer in (late, keyed, again)}
    assert "may still land" in late.json()["detail"]
    assert [(202, "duplicate")] * 2 == [(a.status_code, a.json()["events"][0]["status"]) for a in answers]
    assert ["tick", "keyed"] == [message.type for message in messages]


@pytest.mark.timeout(180)
async def test_a_disk_alarm_is_503_until_it_is_over(broker, vhost_url, tmp_path):
    """A disk that is nearly full stops the ingest with a reason and a time; what was accepted is there."""
    with Producer(vhost_url, tmp_path / "log", LOOPCAST_CONFIRM_SECONDS="1") as producer:
        assert 202 == producer.post(b'{"event":"before"}').status_code
        with disk_alarm(broker):
            # The alarm is told to a connection once it publishes.
            producer.post(b'{"event":"in-between"}', idempotency_key="k")
            said = await asyncio.to_thread(producer.wait, status=503)
            refused = [producer.post(b'{"event":"refused"}') for _ in range(3)]
        producer.wait()
        between = producer.post(b'{"event":"in-between"}', idempotency_key="k")
        after = producer.post(b'{"event":"after"}')
        messages = await read_log(vhost_url)

    assert "takes nothing for now" in said
    assert {(503, "5", "urn:loopcast:problem:broker-blocked")} == {
        (answer.status_code, answer.headers["retry-after"], answer.json()["type"]) for answer in refused
    }
    assert (202, 202) == (between.status_code, after.status_code)
    assert ["before", "in-between", "after"] == [message.type for message in messages]


async def test_a_stream_that_the_broker_cuts_says_how_far_it_came(broker, vhost_url, tmp_path):
    """Lines that were confirmed before the broker went are counted in the refusal, and each of them is in the log."""
    with Producer(vhost_url, tmp_path / "log", LOOPCAST_CONFIRM_SECONDS="1") as producer:
        standing = contextlib.ExitStack()
        sent = asyncio.Event()

        async def lines():
            for n in range(10):
                yield b'{"event":"before","n":%d}\n' % n
            await until(lambda: producer.metric('loopcast_producer_events_total{status="accepted"}') == 10)
            standing.enter_context(stopped(broker))
            sent.set()
            yield b'{"event":"unknown"}\n'

        with standing:
            async with httpx.AsyncClient(timeout=60) as http:
                answer = await http.post(
                    f"{producer.url}/v1/experiments/cut/events",
                    content=lines(),
                    headers={"content-type": "application/x-ndjson"},
                )
        messages = await read_log(vhost_url, count=10)

    assert (503, 10, 0) == (answer.status_code, answer.json()["accepted"], answer.json()["invalid"])
    assert list(range(10)) == [json.loads(m.body)["data"]["n"] for m in messages if m.type == "before"]
