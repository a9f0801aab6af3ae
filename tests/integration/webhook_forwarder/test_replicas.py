"""Several replicas, and what kills them: order, state and events survive."""

import asyncio
import json
import random
import signal
import sys
import time

import httpx
import pytest
from environments import of_a_service

from loopcast.errors import BrokerError
from loopcast.node.ports import free_ports
from loopcast_webhook_forwarder.operator import Operator

from .conftest import QUICK


class Process:
    """A forwarder in a process of its own, so that it can be killed."""

    def __init__(self, bench, **settings):
        names = {"AMQP_URL": bench.url, "WEBHOOKS_FILE": str(bench.file), "OPS_PORT": free_ports(1)[0],
                 "WEBHOOKS_RELOAD_SECONDS": "0.2", "WEBHOOKS_DEPTH_SECONDS": "0.5", **settings}  # fmt: skip
        self._environment = of_a_service(**{f"LOOPCAST_{name}": value for name, value in names.items()})
        self._log = bench.folder / "forwarder.log"

    async def start(self):
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "loopcast_webhook_forwarder", env=self._environment, stdout=log, stderr=log
            )
        return self

    async def end(self, number=signal.SIGKILL):
        if self._process.returncode is None:
            self._process.send_signal(number)
        return await self._process.wait()

    async def scrape(self):
        """Its metrics; nothing while it starts."""
        try:
            async with httpx.AsyncClient() as client:
                answer = await client.get(f"http://127.0.0.1:{self._environment['LOOPCAST_OPS_PORT']}/metrics")
                return answer.text
        except httpx.TransportError:
            return ""

    @property
    def log(self):
        return self._log.read_text()


@pytest.fixture
async def replicas(bench):
    started = []

    async def start(**settings):
        """Start one, and wait until the endpoint is bound: with it, whether it consumes or stands by."""
        started.append(await Process(bench, **settings).start())
        await bench.bound("ci", scrape=started[-1].scrape)
        return started[-1]

    start.started = started
    yield start
    for process in started:
        await process.end()


async def test_sigterm_drains_and_exits_0(bench, receiver, replicas):
    """The call that is under way is answered, the rest stays in the queue, nothing comes twice."""

    async def slowly(call):
        await asyncio.sleep(0.3)
        return 200

    receiver.answer = slowly
    bench.write(bench.endpoint("ci", receiver.url, batch={"max_events": 10, "max_ms": 10}))
    process = await replicas()
    ids = await bench.publish(*[bench.event() for _ in range(40)])
    await receiver.until(lambda: len(receiver.calls) == 2)
    code = await process.end(signal.SIGTERM)
    taken = list(receiver.taken)
    await replicas()
    await receiver.until(lambda: len(receiver.taken) >= 40)

    assert code == 0, process.log
    assert 10 < len(taken) < 40
    assert receiver.taken == ids


async def test_a_killed_replica_s_events_come_again_in_order(bench, receiver, replicas):
    """SIGKILL in the middle of a call: the standby goes on with that batch, and only what was in flight comes twice."""

    async def slowly(call):
        await asyncio.sleep(0.05)
        return 200

    receiver.answer = slowly
    bench.write(bench.endpoint("ci", receiver.url, batch={"max_events": 10, "max_ms": 10}))
    first = await replicas()
    await replicas()
    ids = await bench.publish(*[bench.event() for _ in range(300)])
    await receiver.until(lambda: len(receiver.taken) >= 100)
    await first.end()
    await receiver.until(lambda: set(receiver.taken) == set(ids), 30)

    firsts = list(dict.fromkeys(receiver.taken))
    assert firsts == ids
    assert len(receiver.taken) - len(ids) <= 20


async def test_a_replica_that_takes_over_knows_how_often_it_was_tried(bench, receiver, replicas):
    """Attempts and the breaker are the endpoint's, not the process's."""
    receiver.answer = lambda call: 500
    retry = {"schedule": [0.3], "give_up_after": "6s"}
    bench.write(bench.endpoint("ci", receiver.url, retry=retry, breaker_failures=3))
    first = await replicas()
    await bench.publish(*[bench.event() for _ in range(5)])
    await receiver.until(lambda: len(receiver.calls) >= 5)
    await first.end()
    before = len(receiver.calls)
    await replicas()
    dead = await bench.dead("ci", 5, 40)

    assert len(receiver.calls[before].ids) == 1, "the breaker was open, so a probe comes first"
    # The first may have been killed between its last call and the record of it.
    assert dead[0].headers["loopcast-dead-attempts"] >= len(receiver.calls) - 1
    assert dead[0].headers["loopcast-dead-at"] - dead[0].headers["loopcast-dead-failing-since"] < 12


async def test_a_pause_is_kept_by_whoever_is_left(bench, receiver, replicas):
    """Two replicas, the one that delivers is killed: the other posts nothing either until somebody resumes."""
    bench.write(bench.endpoint("ci", receiver.url))
    first = await replicas()
    await replicas()
    ids = await bench.publish(bench.event())
    await receiver.until(lambda: receiver.taken == ids)
    async with Operator(bench.settings()) as operator:
        await operator.set_mode("ci", "paused", "test")
        await first.end()
        ids += await bench.publish(*[bench.event() for _ in range(5)])
        await bench.until_depth("loopcast.webhook.ci", lambda depth: depth == 5)
        await asyncio.sleep(0.5)
        before = list(receiver.taken)
        await operator.set_mode("ci", "running", "")
        await receiver.until(lambda: len(receiver.taken) >= 6)

    assert ids[:1] == before
    assert ids == receiver.taken


async def test_while_the_state_says_wait_no_replica_calls(bench, receiver, replicas):
    """A wait that one replica wrote is kept by the other, which is alive and idle all the while."""
    receiver.answer = lambda call: 503 if len(receiver.calls) == 1 else 200
    retry = {"schedule": [2.5], "give_up_after": "72h"}
    bench.write(bench.endpoint("ci", receiver.url, retry=retry))
    for _ in range(2):
        await replicas(WEBHOOKS_HOLD_SECONDS=0.5)
    ids = await bench.publish(*[bench.event() for _ in range(20)])
    await receiver.until(lambda: len(receiver.taken) >= 20, 30)

    assert receiver.calls[1].at - receiver.calls[0].at >= 1.9
    assert receiver.taken == ids


async def test_closing_the_channel_keeps_the_order_with_a_standby_there(bench, receiver, replicas):
    """Many long waits, the channel closed at each, two replicas taking turns: never an event before its predecessor."""
    receiver.answer = lambda call: 503 if len(receiver.calls) % 3 else 200
    retry = {"schedule": [0.2], "give_up_after": "72h"}
    bench.write(bench.endpoint("ci", receiver.url, retry=retry, batch={"max_events": 10, "max_ms": 10}))
    for _ in range(2):
        await replicas(WEBHOOKS_HOLD_SECONDS=0.05)
    ids = await bench.publish(*[bench.event() for _ in range(40)])
    await receiver.until(lambda: len(set(receiver.taken)) >= 40, 60)

    assert list(dict.fromkeys(receiver.taken)) == ids
    heads = [ids.index(call.ids[0]) for call in receiver.calls]
    assert heads == sorted(heads)


async def test_a_broker_that_is_killed_loses_and_reorders_nothing(bench, broker, receiver, replicas):
    """The broker dies and comes back under load: every confirmed event arrives, in order, what was in flight twice."""
    bench.write(bench.endpoint("ci", receiver.url, retry=QUICK, batch={"max_events": 10, "max_ms": 10}))
    await replicas()
    ids = await bench.publish(*[bench.event() for _ in range(500)])
    await receiver.until(lambda: len(receiver.taken) >= 50)
    broker.kill()
    broker.start()
    await receiver.until(lambda: set(ids) <= set(receiver.taken), 60)

    assert list(dict.fromkeys(receiver.taken)) == ids
    assert len(receiver.taken) - len(ids) <= 40


def lost_channels(text):
    """What a forwarder logged of consuming connections that went without being asked to."""
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    lost = [line for line in lines if line["event"] in ("broker_unavailable", "log_missing")]
    return [line for line in lost if "consume" in line["connection"]]


@pytest.mark.parametrize("seconds", [3.5, pytest.param(10, marks=pytest.mark.slow)], ids=["short", "long"])
async def test_an_outage_longer_than_the_consumer_timeout_is_survived(
    bench, receiver, replicas, broker_patience, seconds
):
    """Down for three times the broker's patience: nothing lost or out of order, and no channel taken away."""
    broker_patience(seconds / 3)
    receiver.answer = lambda call: 503 if time.monotonic() < down_until else 200
    retry = {"schedule": [0.2, 0.5, seconds / 5], "give_up_after": "72h"}
    bench.write(bench.endpoint("ci", receiver.url, retry=retry, batch={"max_events": 10, "max_ms": 10}))
    processes = [await replicas(WEBHOOKS_HOLD_SECONDS=seconds / 10, LOG_FORMAT="json") for _ in range(2)]
    down_until = time.monotonic() + seconds
    ids = await bench.publish(*[bench.event() for _ in range(100)])
    await receiver.until(lambda: len(receiver.taken) >= 100, 40)

    assert receiver.taken == ids
    assert [] == lost_channels(processes[0].log)


async def test_slow_calls_hold_no_event_for_longer_than_the_broker_waits(bench, receiver, replicas, broker_patience):
    """Batches that are asked for ahead wait for slow ones before them: they are given back, and come once, in order."""
    broker_patience(1.2)

    async def slowly(call):
        await asyncio.sleep(0.6)
        return 200

    receiver.answer = slowly
    bench.write(bench.endpoint("ci", receiver.url, batch={"max_events": 10, "max_ms": 10}))
    process = await replicas(WEBHOOKS_HOLD_SECONDS=0.4, LOG_FORMAT="json")
    ids = await bench.publish(*[bench.event() for _ in range(70)])
    await receiver.until(lambda: len(receiver.taken) >= 70, 40)

    assert receiver.taken == ids
    assert [] == lost_channels(process.log)


async def load(bench, ids):
    """Publish some 200 events a second for as long as it is let; the ids that the broker confirmed go into `ids`."""
    while True:
        try:
            ids += await bench.publish(*[bench.event() for _ in range(10)])
        except BrokerError:
            await bench.publisher.wait_connected()
        await asyncio.sleep(0.05)


@pytest.mark.slow
@pytest.mark.timeout(1200)
async def test_twenty_kills_at_random_lose_nothing(bench, broker, receiver, replicas):
    """Forwarders and broker killed at random while events flow: every confirmed id is delivered, or a dead letter."""
    chance = random.Random(6)

    async def answer(call):
        await asyncio.sleep(0.02)
        fate = hash(call.ids[0]) % 20
        return 422 if fate == 0 else 500 if fate < 3 and chance.random() < 0.5 else 200

    receiver.answer = answer
    bench.write(bench.endpoint("ci", receiver.url, batch={"max_events": 10, "max_ms": 10}))
    alive = [await replicas() for _ in range(2)]
    ids, kills = [], 0
    loading = asyncio.create_task(load(bench, ids))
    for _ in range(20):
        flowing = len(receiver.taken) + 50
        await receiver.until(lambda flowing=flowing: len(receiver.taken) >= flowing, 120)
        await asyncio.sleep(chance.random() / 5)
        if chance.random() < 0.4:
            await asyncio.to_thread(broker.kill)
            await asyncio.to_thread(broker.start)
        else:
            await alive.pop(0).end()
            alive.append(await Process(bench).start())
            replicas.started.append(alive[-1])
            kills += 1
    loading.cancel()
    await asyncio.wait([loading])
    await bench.publisher.wait_connected()

    async def dead():
        return {d.message_id for d in await bench.dead("ci", 10**9, 5, partial=True)}

    for _ in range(30):
        if not set(ids) - set(receiver.taken) - await dead():
            break
    assert set() == set(ids) - set(receiver.taken) - await dead()
    repeats = len(receiver.taken) - len(set(receiver.taken))
    print(f"\n{kills} forwarders and {20 - kills} brokers killed: {len(ids)} events confirmed, ", end="")
    print(f"{len(set(receiver.taken))} taken, {len(await dead())} dead letters, {repeats} repeats")
    # A call under way is one batch; a broker may die before it wrote the acknowledgements of what it gave ahead.
    assert repeats <= 10 * kills + 50 * (20 - kills)
