"""Making, checking and watching the topology, whichever client does it."""

from __future__ import annotations

import functools
import uuid

import pytest
from pamqp import commands
from structlog.testing import capture_logs

from loopcast.broker.declare import LogWatch, ensure
from loopcast.errors import BrokerUnavailable, LogMissing, TopologyMismatch
from loopcast.topology import Topology


@pytest.fixture
def log():
    """The name of a log that only this test has."""
    return f"log-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def make(log):
    """A topology with that log."""
    return functools.partial(Topology, log=log)


async def admin(rig):
    link = await rig.client.open_admin(rig.url, name="test-admin")
    rig.stack.push_async_callback(link.close)
    return link


async def declare(rig, topology, mode="declare"):
    await ensure(rig.client, rig.url, topology, mode=mode, name="t")


async def publish_event(rig, **headers):
    channel = await rig.channel()
    properties = commands.Basic.Properties(message_id="e", headers=headers)
    await channel.basic_publish(
        b"{}", exchange="loopcast.events", routing_key="exp.a", properties=properties, mandatory=True
    )
    await channel.close()


@pytest.mark.parametrize("partitions", [1, 3])
async def test_what_is_declared_is_verified(rig, make, partitions):
    """Declaring makes all that verifying asks for, and doing it again changes nothing."""
    topology = make(partitions=partitions)
    link = await admin(rig)

    for _ in range(2):
        await link.apply(topology)

    await link.verify(topology)
    assert frozenset() == await link.missing(topology)


async def test_an_event_goes_to_its_partition_and_nowhere_else(rig, make, log):
    """The headers exchange spreads by the number, and what has none of them is stray, not in another partition."""
    await declare(rig, make(partitions=3))
    inboxes = [(await rig.consumer(f"{log}.{n}", offset="first"))[1] for n in range(3)]

    await publish_event(rig, partition=2)
    await publish_event(rig, partition=7)

    await inboxes[2].until(1)
    _, stray = await rig.consumer(f"{log}.stray")
    await stray.until(1)
    assert [0, 0, 1] == [len(inbox.deliveries) for inbox in inboxes]


async def test_verifying_makes_nothing_and_names_what_lacks(lone_rig):
    """On an empty broker, and on one that lacks a stream, `verify` says what is not there."""
    link = await admin(lone_rig)
    with pytest.raises(LogMissing, match=r"loopcast\.events"):
        await link.verify(Topology())
    await link.apply(Topology())
    await lone_rig.delete("loopcast.log.0")

    with pytest.raises(LogMissing, match=r"loopcast\.log\.0"):
        await link.verify(Topology())

    assert {"loopcast.log.0"} == await link.missing(Topology())


@pytest.mark.parametrize("mode", ["declare", "verify"])
async def test_another_number_of_partitions_is_refused(rig, make, mode):
    """A service that believes in another number stops and says which one the log has."""
    await declare(rig, make(partitions=2))

    with pytest.raises(TopologyMismatch, match="made with 2 partitions and LOOPCAST_PARTITIONS says 3: set 2"):
        await declare(rig, make(partitions=3), mode)


async def test_a_log_with_other_retention_is_used_as_it_is(rig, make):
    """A changed setting never stops a start: the log stays, and a warning names the policy that changes it."""
    await declare(rig, make())

    with capture_logs() as logs:
        await declare(rig, make(max_age="1h", max_bytes=1_000_000_000))

    (warning,) = logs
    assert "log_has_other_retention" == warning["event"]
    assert {"max-age": "7D", "max-length-bytes": 5_000_000_000} == warning["has"]
    assert "rabbitmqctl set_policy" in warning["fix"]
    assert '"max-age": "1h"' in warning["fix"]


async def test_the_policy_that_is_named_gives_the_log_that_retention(rig, make, log):
    """What the warning advises works: a stream's policy goes before what it was declared with."""
    await declare(rig, make())
    name = f"{log}.0"

    await rig.ctl("set_policy", "-p", rig.vhost, name, f"^{name}$", '{"max-length-bytes": 9000000000}')

    lookup = (
        f'{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"{rig.vhost}">>, queue, <<"{name}">>)), '
        "maps:get(retention, rabbit_stream_queue:update_stream_conf(Q, #{}))."
    )
    effective = (await rig.ctl("eval", lookup)).replace(" ", "")
    assert "{max_bytes,9000000000}" in effective
    assert "{max_age,604800000}" in effective


async def test_a_log_without_any_retention_is_used_as_it_is(rig, make, log):
    """The same where somebody made the stream by hand, without arguments."""
    await rig.queue("stream", f"{log}.0")

    with capture_logs() as logs:
        await declare(rig, make())

    assert {"max-age": None, "max-length-bytes": None, "stream-max-segment-size-bytes": None} == logs[0]["has"]


@pytest.mark.parametrize("kind", ["classic", "quorum"])
async def test_a_log_that_is_no_stream_is_refused(rig, make, log, kind):
    """A queue in the log's place would give every event away once: that is no matter of retention."""
    await rig.queue(kind, f"{log}.0")

    with pytest.raises(TopologyMismatch, match="x-queue-type"):
        await declare(rig, make())


async def test_a_refused_operation_leaves_the_link_usable(rig, make):
    """The broker closes the channel of what it refuses; the next operation has another."""
    link = await admin(rig)
    await link.apply(make(partitions=2))

    with pytest.raises(TopologyMismatch):
        await link.apply(make(partitions=1))

    await link.verify(make(partitions=2))


async def test_an_admin_link_that_is_cut_says_so(rig, make):
    """The end of the connection is told as on any link, and operations are refused as unavailable."""
    link = await admin(rig)

    await rig.cut()

    assert isinstance(await link.wait_closed(), BrokerUnavailable)
    with pytest.raises(BrokerUnavailable):
        await link.verify(make())


async def test_a_deleted_log_is_noticed(rig, make, log):
    """
    A log that somebody deletes is missing until it is there again; nobody makes it again under their hands.

    Regression: with another queue bound, the broker confirms events that no log has.
    """
    stream = f"{log}.0"
    async with LogWatch(rig.client, rig.url, make(), mode="declare", name="t", seconds=0.05) as watch:
        await rig.eventually(lambda: watch.connected)
        watch.require(stream)
        await rig.delete(stream)
        await rig.eventually(lambda: watch.missing)
        with pytest.raises(LogMissing, match=stream):
            watch.require(stream)
        await rig.queue("stream", stream)
        await rig.eventually(lambda: not watch.missing)


async def test_the_log_is_bound_again_at_every_connect(rig, make, log):
    """A binding that somebody took away is back after a reconnect."""
    stream = f"{log}.0"
    watch = LogWatch(rig.client, rig.url, make(), mode="declare", name="t", backoff=rig.SOON)
    async with watch:
        await rig.eventually(lambda: watch.connected)
        channel = await rig.channel()
        await channel.queue_unbind(stream, "loopcast.events", "#")
        await rig.cut()
        await rig.eventually(lambda: watch.losses and watch.connected)

        _, inbox = await rig.consumer(stream, offset="first")
        await publish_event(rig)
        await inbox.until(1)


async def test_a_watch_without_a_broker_is_not_connected(rig, make):
    """Without a broker it keeps trying, says why, and ends when asked to."""
    async with LogWatch(rig.client, "amqp://127.0.0.1:1/", make(), mode="verify", name="t", seconds=0.01) as watch:
        await rig.eventually(lambda: "no connection to the broker at 127.0.0.1:1:" in str(watch.reason))
        assert not watch.connected
