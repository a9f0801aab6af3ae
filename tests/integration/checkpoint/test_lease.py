"""The lease and the checkpoint on a real RabbitMQ."""

import asyncio
import os
import signal
import subprocess
import sys

import pytest

from loopcast.broker.clients import client_of
from loopcast.checkpoint.lease import Lease
from loopcast.checkpoint.record import Record
from loopcast.checkpoint.recovery import take_over
from loopcast.errors import BrokerUnavailable
from loopcast.position import Position

CLIENT = client_of("aio-pika")

HOLDER = """
import asyncio, sys
from loopcast.checkpoint.lease import Lease
async def main():
    lease = await Lease.acquire(sys.argv[1], "reader", 0, name="holder")
    print("held" if lease else "refused", flush=True)
    await lease.wait_lost()
    print("lost", flush=True)
asyncio.run(main())
"""


def acquire(url, reader="reader", partition=0):
    """Try the lease."""
    return Lease.acquire(url, reader, partition, name="test")


def state(epoch, offset):
    """A record with a state at `offset`."""
    return Record(epoch, str(Position.of(0, offset, f"id-{offset}")), "f1", {"state": b"s%d" % offset})


async def test_one_holder_at_a_time(vhost_url):
    """The second gets nothing while the first holds it, and gets it as soon as that one lets go."""
    async with await acquire(vhost_url):
        assert await acquire(vhost_url) is None

        async with await acquire(vhost_url, partition=1), await acquire(vhost_url, reader="other"):
            pass
    async with await acquire(vhost_url) as second:
        assert second.is_held


@pytest.fixture
def holder(vhost_url):
    """Another process that holds the lease."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, vhost_url], stdout=subprocess.PIPE, text=True)
    assert "held\n" == process.stdout.readline()
    yield process
    process.kill()
    process.communicate()


async def until_acquired(url, seconds):
    """Try until the lease is free."""
    async with asyncio.timeout(seconds):
        while True:
            if (lease := await acquire(url)) is not None:
                return lease
            await asyncio.sleep(0.1)


async def test_a_killed_holder_is_replaced_at_once(vhost_url, holder):
    """SIGKILL closes the socket, and with it goes the lease."""
    assert await acquire(vhost_url) is None

    os.kill(holder.pid, signal.SIGKILL)

    await (await until_acquired(vhost_url, 5)).release()


@pytest.mark.slow
async def test_a_frozen_holder_loses_the_lease_and_knows_when_it_wakes(vhost_url, holder):
    """SIGSTOP for longer than two heartbeats: another holds it, and the first one finds its connection gone."""
    os.kill(holder.pid, signal.SIGSTOP)
    async with await until_acquired(vhost_url, 40) as lease:
        os.kill(holder.pid, signal.SIGCONT)

        async with asyncio.timeout(10):
            assert "lost\n" == await asyncio.to_thread(holder.stdout.readline)
        assert lease.is_held


async def test_the_first_holder_finds_nothing(vhost_url):
    """Epoch 1 and no state: the log is read from its beginning."""
    async with await acquire(vhost_url) as lease:
        assert Record(1) == await take_over(CLIENT, vhost_url, lease, "f1", name="test")


async def test_the_next_holder_goes_on_from_the_last_record(vhost_url):
    """Its epoch is one more, its state and position the last that were written."""
    async with await acquire(vhost_url) as lease:
        taken = await take_over(CLIENT, vhost_url, lease, "f1", name="test")
        for offset in range(50):
            await lease.write(state(taken.epoch, offset))
    async with await acquire(vhost_url) as lease:
        taken = await take_over(CLIENT, vhost_url, lease, "f1", name="test")

        assert (2, state(0, 49).token, {"state": b"s49"}) == (taken.epoch, taken.token, taken.parts)


async def test_a_state_is_found_behind_many_marks(vhost_url):
    """Holders that died right after taking over left marks; the state before them still counts."""
    async with await acquire(vhost_url) as lease:
        await lease.write(state(5, 7))
        for _ in range(100):
            await lease.write(Record(0))
        taken = await take_over(CLIENT, vhost_url, lease, "f1", name="test")

        assert (6, {"state": b"s7"}) == (taken.epoch, taken.parts)


async def test_another_format_is_not_taken(vhost_url):
    """A newer program folds the log anew."""
    async with await acquire(vhost_url) as lease:
        await lease.write(state(5, 7))

        assert Record(6) == await take_over(CLIENT, vhost_url, lease, "f2", name="test")


async def test_a_state_that_is_too_large_is_refused(vhost_url):
    """What does not fit is said before it is sent."""
    async with await acquire(vhost_url) as lease:
        with pytest.raises(ValueError, match="at most"):
            await lease.write(Record(1, "", "f1", {"state": os.urandom(5 * 1024 * 1024)}))
        await lease.write(state(1, 1))


async def test_nothing_is_written_over_a_lost_connection(broker, vhost_url):
    """A holder whose connection is gone is told so, and its record does not land."""
    async with await acquire(vhost_url) as lease:
        await asyncio.to_thread(broker.ctl, "close_all_connections", "--vhost", vhost_url.rpartition("/")[2], "test")
        await asyncio.wait_for(lease.wait_lost(), 10)

        with pytest.raises(BrokerUnavailable):
            await lease.write(state(1, 1))
