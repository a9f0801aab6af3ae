"""The producer while its broker goes away, takes nothing, or loses the log: nothing is accepted that is not there."""

import asyncio
import json
import time
import uuid

import aio_pika
import httpx
import pytest
from processes import Producer, free_port, read_log, stopped

from loopcast.amqp.client import AmqpClient
from loopcast.events import slice_data
from loopcast.repeats import Repeats
from loopcast.topology import Topology

CLIENTS = 6
PER_CLIENT = 60


class Sender:
    """One client with one run, that sends an event after the other and again with the same id until it is taken."""

    def __init__(self, number, url, http):
        self.run = f"run-{number}"
        self.number = number
        self.url = url
        self.http = http
        self.ids = []
        self.refusals = []

    async def run_all(self):
        for n in range(1, PER_CLIENT + 1):
            await self.send(n)

    async def send(self, n):
        body, headers = self.request(n)
        while True:
            try:
                answer = await self.http.post(self.url, content=body, headers=headers)
            except httpx.HTTPError:
                await asyncio.sleep(0.05)
                continue
            if answer.status_code == 202:
                (event,) = answer.json()["events"]
                assert event["status"] in ("accepted", "duplicate")
                self.ids.append(event["id"])
                return
            self.refusals.append((answer.status_code, answer.headers.get("retry-after"), answer.json()["type"]))
            await asyncio.sleep(0.05)

    def request(self, n):
        if self.number % 2:
            return json.dumps({"event": "tick", "n": n}), {
                "content-type": "application/json",
                "loopcast-run": self.run,
                "idempotency-key": f"{self.run}-{n}",
            }
        event = {
            "specversion": "1.0", "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{self.run}-{n}")),
            "source": f"/experiments/chaos/runs/{self.run}",
            "type": "tick",
            "experimentid": "chaos", "runid": self.run, "emitter": f"{self.number:016x}", "sequence": f"{n:020}",
            "data": {"event": "tick", "n": n},
        }  # fmt: skip
        return json.dumps(event), {"content-type": "application/cloudevents+json"}


async def taken(senders, more):
    """Wait until the producer took `more` events more."""
    wanted = sum(len(sender.ids) for sender in senders) + more
    for _ in range(10_000):
        if sum(len(sender.ids) for sender in senders) >= wanted:
            return
        await asyncio.sleep(0.01)


def once(messages):
    """What a reader delivers, by the rule that all readers share."""
    table = Repeats()
    return [
        m
        for m in messages
        if not table.seen(m.headers["run"], m.headers.get("emitter"), m.headers.get("sequence"), m.message_id)
    ]


@pytest.mark.timeout(180)
async def test_a_killed_broker_costs_no_event_and_no_order(broker, vhost_url, tmp_path):
    """Killed twice under load: 503 while it is away, and with the same ids again each event is read once, in order."""
    with Producer(vhost_url, tmp_path / "log", LOOPCAST_CONFIRM_SECONDS="3") as producer:
        async with httpx.AsyncClient(timeout=30) as http:
            url = f"{producer.url}/v1/experiments/chaos/events"
            senders = [Sender(n, url, http) for n in range(CLIENTS)]
            # Killed within half a second of making its first stream, RabbitMQ loses it (the Raft directory is not on
            # disk yet: measured on 3.10.8), which is not what this test is about.
            await asyncio.sleep(2)
            tasks = [asyncio.create_task(sender.run_all()) for sender in senders]
            for _ in range(2):
                await taken(senders, CLIENTS * PER_CLIENT // 4)
                await asyncio.to_thread(broker.kill)
                await asyncio.sleep(0.5)
                await asyncio.to_thread(broker.start)
            await asyncio.gather(*tasks)
        producer.wait("readyz")
        assert producer.process.poll() is None
        messages = await read_log(vhost_url)

    assert {(503, "1", "urn:loopcast:problem:broker-unavailable")} == {r for s in senders for r in s.refusals}
    by_run = {}
    for message in once(messages):
        by_run.setdefault(message.headers["run"], []).append(message.message_id)
    assert {sender.run: sender.ids for sender in senders} == by_run


async def test_a_memory_alarm_is_503_until_it_is_over(broker, vhost_url, tmp_path):
    """While the broker takes nothing, events are refused with Retry-After, and nothing of them is in the log."""
    with Producer(vhost_url, tmp_path / "log", LOOPCAST_CONFIRM_SECONDS="1") as producer:
        assert 202 == producer.post(b'{"event":"before"}').status_code
        high = broker.ctl("eval", "vm_memory_monitor:get_vm_memory_high_watermark().").strip()
        broker.ctl("set_vm_memory_high_watermark", "0.0000001")
        try:
            # The alarm is told to a connection once it publishes: this one may be in the window when it is over.
            producer.post(b'{"event":"in-between"}', idempotency_key="k")
            answer = producer.post(b'{"event":"refused"}')
            assert "takes nothing for now" in producer.wait(status=503)
            blocked = producer.metric("loopcast_producer_blocked")
        finally:
            broker.ctl("set_vm_memory_high_watermark", high)
        producer.wait()
        again = producer.post(b'{"event":"in-between"}', idempotency_key="k")
        assert 202 == producer.post(b'{"event":"after"}').status_code
        messages = await read_log(vhost_url, count=3)

    assert (503, "5", "urn:loopcast:problem:broker-blocked", 1.0) == (
        answer.status_code,
        answer.headers["retry-after"],
        answer.json()["type"],
        blocked,
    )
    assert 202 == again.status_code
    assert ["before", "in-between", "after"] == [message.type for message in messages]


async def test_a_deleted_log_is_503_and_not_a_confirmed_loss(broker, vhost_url, tmp_path):
    """With another queue bound, the broker would confirm: the producer refuses until the log is there again."""
    with Producer(vhost_url, tmp_path / "log") as producer:
        connection = await aio_pika.connect(vhost_url)
        async with connection:
            channel = await connection.channel()
            other = await channel.declare_queue("somebody-else", durable=True)
            await other.bind("loopcast.events", "#")
            await channel.queue_delete("loopcast.log.0")
            said = await asyncio.to_thread(producer.wait, status=503)
            answer = producer.post(b'{"event":"refused"}')
            assert (503, "urn:loopcast:problem:log-missing", "10") == (
                answer.status_code,
                answer.json()["type"],
                answer.headers["retry-after"],
            )
            assert None is await other.get(fail=False)
    assert "loopcast.log.0" in said
    assert "loopcast.log.0" in answer.json()["detail"]


async def test_a_deleted_log_that_nobody_noticed_yet_is_503(broker, vhost_url, tmp_path):
    """Without any other queue the broker returns the event: 503 at once, before the next look."""
    with Producer(vhost_url, tmp_path / "log") as producer:
        connection = await aio_pika.connect(vhost_url)
        async with connection:
            channel = await connection.channel()
            await channel.queue_delete("loopcast.log.0")
            answer = producer.post(b'{"event":"returned"}')

    assert (503, "urn:loopcast:problem:log-missing") == (answer.status_code, answer.json()["type"])


async def test_what_a_deleted_log_had_is_published_again(broker, vhost_url, tmp_path):
    """
    An event that was accepted, and is sent again with those that were refused, is in the log that was made anew.

    What the producer remembers of it is of the log that is gone.
    """

    def event(n):
        return {"specversion": "1.0", "id": f"0192f0c1-0000-7000-8000-{n:012}", "source": "s", "type": "t", "data": n}

    def post(*numbers):
        return producer.post(
            json.dumps([event(n) for n in numbers]).encode(), "e", "application/cloudevents-batch+json"
        )

    with Producer(vhost_url, tmp_path / "log") as producer:
        assert 202 == post(1).status_code
        link = await AmqpClient().open_admin(vhost_url, name="test")
        try:
            await link.delete(Topology().streams[0])
            assert 503 == post(1, 2).status_code
            await link.apply(Topology())
        finally:
            await link.close()
        for _ in range(60):
            if (answer := post(1, 2)).status_code != 503:
                break
            await asyncio.sleep(0.5)
        messages = await read_log(vhost_url, count=2)

    assert 202 == answer.status_code
    assert [1, 2] == [json.loads(slice_data(message.body)) for message in messages]


def test_it_starts_before_the_broker_and_says_what_it_waits_for(tmp_path):
    """Without a broker the process lives, is not ready, answers 503, and ends when it is told to."""
    nowhere = f"amqp://guest:guest@127.0.0.1:{free_port()}/"
    producer = Producer(nowhere, tmp_path / "log").start(ready=False)
    try:
        said = producer.wait("readyz", 503)
        answer = producer.post(b"{}")
        assert 0 == producer.stop()
    finally:
        if producer.process.poll() is None:
            producer.kill()

    assert "broker" in said.lower() or "connect" in said.lower()
    assert (503, "1") == (answer.status_code, answer.headers["retry-after"])
    assert "urn:loopcast:problem:broker-unavailable" == answer.json()["type"]


async def test_a_full_window_is_503(broker, vhost_url, tmp_path):
    """More unconfirmed bytes than the window holds are refused at once, and the window empties again."""
    body = b'{"event":"big","x":"' + b"y" * 600_000 + b'"}'
    environment = {"LOOPCAST_WINDOW_BYTES": "1048576", "LOOPCAST_CONFIRM_SECONDS": "1"}
    with Producer(vhost_url, tmp_path / "log", **environment) as producer:
        # A broker that stands still says nothing at all, not even that it is blocked.
        with stopped(broker):
            async with httpx.AsyncClient(timeout=30) as http:
                url = f"{producer.url}/v1/experiments/e/events"
                headers = {"content-type": "application/json"}
                began = time.monotonic()
                posts = [http.post(url, content=body, headers=headers) for _ in range(4)]
                answers = await asyncio.gather(*posts)
        producer.wait()
        async with asyncio.timeout(30):
            while producer.metric("loopcast_producer_unconfirmed_bytes"):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.05)

        assert {503} == {answer.status_code for answer in answers}
        assert "urn:loopcast:problem:window-full" in {answer.json()["type"] for answer in answers}
        assert time.monotonic() - began < 20
        assert 202 == producer.post(body).status_code
        assert 0 == producer.metric("loopcast_producer_unconfirmed_bytes")
