"""Several replicas, and what kills them: order, state and events survive."""

import asyncio
import os
import signal
import sys

import httpx
import pytest

from loopcast.node.ports import free_ports

from .conftest import QUICK


class Process:
    """A forwarder in a process of its own, so that it can be killed."""

    def __init__(self, bench, **settings):
        names = {"AMQP_URL": bench.url, "WEBHOOKS_FILE": str(bench.file), "OPS_PORT": free_ports(1)[0],
                 "WEBHOOKS_RELOAD_SECONDS": "0.2", "WEBHOOKS_DEPTH_SECONDS": "0.5", **settings}  # fmt: skip
        kept = {name: value for name, value in os.environ.items() if not name.startswith("LOOPCAST_")}
        self._environment = {**kept, **{f"LOOPCAST_{name}": str(value) for name, value in names.items()}}
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


async def test_while_the_state_says_wait_no_replica_calls(bench, receiver, replicas):
    """A wait that one replica wrote is kept by the other, which is alive and idle all the while."""
    receiver.answer = lambda call: 503 if len(receiver.calls) == 1 else 200
    retry = {"schedule": [4], "give_up_after": "72h"}
    bench.write(bench.endpoint("ci", receiver.url, retry=retry))
    for _ in range(2):
        await replicas(WEBHOOKS_HOLD_SECONDS=0.5)
    ids = await bench.publish(*[bench.event() for _ in range(20)])
    await receiver.until(lambda: len(receiver.taken) >= 20, 30)

    assert receiver.calls[1].at - receiver.calls[0].at >= 3.1
    assert receiver.taken == ids


async def test_closing_the_channel_keeps_the_order_with_a_standby_there(bench, receiver, replicas):
    """Many long waits, the channel closed at each, two replicas taking turns: never an event before its predecessor."""
    receiver.answer = lambda call: 503 if len(receiver.calls) % 3 else 200
    retry = {"schedule": [0.4], "give_up_after": "72h"}
    bench.write(bench.endpoint("ci", receiver.url, retry=retry, batch={"max_events": 10, "max_ms": 10}))
    for _ in range(2):
        await replicas(WEBHOOKS_HOLD_SECONDS=0.05)
    ids = await bench.publish(*[bench.event() for _ in range(60)])
    await receiver.until(lambda: len(set(receiver.taken)) >= 60, 60)

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
