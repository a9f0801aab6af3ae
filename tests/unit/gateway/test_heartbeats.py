"""Heartbeats: where the log ends, how late it comes, and when somebody should write a checkpoint."""

import asyncio

import pytest

from loopcast.broker.interface import Delivery, Settlement
from loopcast.errors import BrokerUnavailable, LogChanged
from loopcast.topology import APP_ID, HEARTBEAT
from loopcast_gateway.checkpoints import EVENTS, is_due
from loopcast_gateway.heartbeats import Heartbeats
from loopcast_gateway.partition import Partition
from loopcast_gateway.patience import patiently


class Publisher:
    """Takes everything."""

    def __init__(self):
        self.sent = []

    async def wait_connected(self):
        pass

    async def publish(self, messages, *, timeout):  # noqa: ARG002
        self.sent += messages
        return [Settlement.CONFIRMED] * len(messages)


class Clock:
    """Goes when it is told to."""

    now = 0.0

    def __call__(self):
        return self.now


def back(message, offset):
    return Delivery(
        tag=0, routing_key="", body=message.body, message_id=message.message_id, type=message.type,
        headers=message.headers, app_id=message.app_id, offset=offset,
    )  # fmt: skip


async def test_a_mark_is_the_offset_at_which_it_came_back():
    """Whoever asks for the end waits for its own heartbeat, among whatever else comes."""
    publisher = Publisher()
    heartbeats = Heartbeats(publisher, "log", clock=Clock())
    asked = asyncio.create_task(heartbeats.mark(5))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    heartbeats.came([back(publisher.sent[0], 7)])

    assert 7 == await asked
    with pytest.raises(TimeoutError):
        await heartbeats.mark(0.01)


async def test_the_lag_is_that_of_the_last_heartbeat_or_of_one_that_is_missing():
    """A heartbeat that does not come back makes the lag grow, and is overdue, until it comes or is forgiven."""
    publisher, clock = Publisher(), Clock()
    heartbeats = Heartbeats(publisher, "log", clock=clock)
    await heartbeats.beat()
    clock.now = 0.25
    heartbeats.came([back(publisher.sent[0], 7)])
    assert (0.25, 0.0) == (heartbeats.lag, heartbeats.overdue)
    await heartbeats.beat()
    clock.now = 40.25
    assert (40.0, 40.0) == (heartbeats.lag, heartbeats.overdue)
    heartbeats.forgive()
    assert (0.25, 0.0) == (heartbeats.lag, heartbeats.overdue)


async def test_a_heartbeat_that_is_back_before_its_confirm_is_not_missed():
    """Delivery and confirm race over two connections: whichever is first, the consumer is known to be alive."""
    publisher, clock = Publisher(), Clock()
    heartbeats = Heartbeats(publisher, "log", clock=clock)
    confirmed = asyncio.Event()

    async def publish(messages, *, timeout):
        publisher.sent += messages
        await confirmed.wait()

    publisher.publish = publish
    beating = asyncio.create_task(heartbeats.beat())
    await asyncio.sleep(0)
    clock.now = 0.25
    heartbeats.came([back(publisher.sent[0], 7)])
    confirmed.set()
    await beating
    clock.now = 40.0

    assert (0.25, 0.0) == (heartbeats.lag, heartbeats.overdue)


async def test_a_heartbeat_tells_of_a_checkpoint():
    """A partition learns from anybody's heartbeat up to where a checkpoint was written, and that it is due no more."""
    publisher = Publisher()
    await Heartbeats(publisher, "log").beat(checkpoint=2)
    partition = Partition(0, ring_events=9, ring_bytes=10**6, ring_total_bytes=10**6)
    partition.whole = True
    headers = {"experiment": "e", "run": "r", "recorded": 1}
    events = [
        Delivery(
            tag=0, routing_key="", body=b"{}", message_id=str(n), type="t", headers=headers, app_id=APP_ID, offset=n
        )
        for n in range(3)
    ]
    partition.take(events)
    assert [False, True] == [is_due(partition, waited=waited, seconds=60) for waited in (59, 60)]
    partition.take([back(publisher.sent[0], 3)])

    assert (2, 0) == (partition.checkpointed, partition.fresh)
    assert not is_due(partition, waited=60, seconds=60)
    partition.fresh = EVENTS
    assert is_due(partition, waited=0, seconds=60)
    partition.whole = False
    assert not is_due(partition, waited=60, seconds=60)
    assert HEARTBEAT == publisher.sent[0].type


async def test_patience_ends_where_waiting_does_not_mend_it():
    """A broker that is away is asked again; a log that is another one is not waited for."""
    calls = []

    async def work():
        calls.append(None)
        if len(calls) == 1:
            raise BrokerUnavailable("away")
        if len(calls) == 2:
            return "there"
        raise LogChanged("another", reason="epoch_changed")

    assert "there" == await patiently(work)
    with pytest.raises(LogChanged):
        await patiently(work)
    assert 3 == len(calls)
