"""Events from a Redis channel, with a real Redis: whatever stands in it, and whatever goes away meanwhile."""

import asyncio
import json

import pytest
from processes import Producer, read_log
from redis_server import Redis

from loopcast.events import parse, slice_data

ACCEPTED = 'loopcast_producer_redis_messages_total{result="accepted"}'
INVALID = 'loopcast_producer_redis_messages_total{result="invalid"}'
DROPPED = 'loopcast_producer_redis_messages_total{result="dropped"}'
ACTIVE = "loopcast_producer_redis_active"
CONNECTED = "loopcast_producer_redis_connected"


@pytest.fixture
def redis():
    """A Redis of this test's own."""
    with Redis() as running:
        yield running


@pytest.fixture
def producers(redis, vhost_url, tmp_path):
    """Makes producers that listen to it."""
    made = []

    def make(**environment):
        settings = {"LOOPCAST_PRODUCER_REDIS_URL": redis.url, **environment}
        producer = Producer(vhost_url, tmp_path / f"log-{len(made)}", **settings)
        made.append(producer)
        return producer.start()

    yield make
    for producer in made:
        if producer.process.poll() is None:
            producer.kill()


async def until(condition, what):
    """Wait until `condition` holds."""
    for _ in range(600):
        if await asyncio.to_thread(condition):
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"{what} did not come")


async def active(producer):
    await until(lambda: producer.metric(ACTIVE) and producer.metric(CONNECTED), "the channel")


def numbers(messages):
    return [json.loads(slice_data(message.body))["n"] for message in messages if message.type == "tick"]


def tick(n):
    return json.dumps({"type": "tick", "experiment_id": "exp-1", "n": n})


async def test_what_promptlooper_publishes_is_in_the_log(redis, producers, vhost_url):
    """Each message goes where it says, byte for byte, and what is none is counted and hurts nothing."""
    producer = producers()
    await active(producer)

    redis.publish(
        '{"type":"run.started","experiment_id":"exp-1","text":"häß"}',
        b'{"type":"run.completed","experiment_id":4711}',
        "{broken",
        b"\xff\xfe",
        "[1,2]",
        '"text"',
        "",
        "null",
        '{"event":1,"score":NaN}',
        '{"type":"new_best_found"}',
        json.dumps({"type": "huge", "text": "x" * 1_100_000}),
        '{"type":"odd one","experiment_id":"a/b"}',
    )
    await until(lambda: producer.metric(ACCEPTED) + producer.metric(INVALID) == 12, "twelve messages")
    messages = await read_log(vhost_url, count=4)

    assert (4, 8) == (producer.metric(ACCEPTED), producer.metric(INVALID))
    assert ["exp-1.run.started", "4711.run.completed", "~.new_best_found", "a%2Fb.odd%20one"] == [
        message.routing_key for message in messages
    ]
    assert '{"type":"run.started","experiment_id":"exp-1","text":"häß"}'.encode() == slice_data(messages[0].body)
    assert 4 == len({parse(message.body).id for message in messages})


async def test_redis_goes_away_and_comes_back(redis, producers, vhost_url):
    """The producer stays up and ready, says so, counts the loss, and hears again what comes after."""
    producer = producers()
    await active(producer)
    redis.publish(tick(1))
    await until(lambda: producer.metric(ACCEPTED) == 1, "the first")

    redis.kill()
    await until(lambda: producer.metric(CONNECTED) == 0, "the loss")
    assert 202 == producer.post(b'{"event":"over-http"}').status_code
    redis.start()
    await active(producer)
    redis.publish(tick(2), tick(3))
    await until(lambda: producer.metric(ACCEPTED) == 3, "the others")

    assert [1, 2, 3] == numbers(await read_log(vhost_url))
    assert 1 == producer.metric("loopcast_producer_redis_losses_total")
    assert "redis_unavailable" in producer.log.read_text()


async def test_it_starts_before_redis(redis, producers):
    """Without Redis the producer takes events over HTTP; it listens as soon as there is one."""
    redis.kill()
    producer = producers()
    assert 202 == producer.post(b'{"event":"over-http"}').status_code
    redis.start()
    await active(producer)

    assert 1 == redis.subscribers()


async def publish_until(redis, stop):
    """Publish a number every two milliseconds; how many."""
    n = 0
    with redis.client() as client:
        while not stop.is_set():
            n += 1
            client.publish("promptlooper:events", tick(n))
            await asyncio.sleep(0.002)
    return n


@pytest.mark.timeout(180)
async def test_replicas_publish_each_message_once(redis, producers, vhost_url):
    """Two listen, one publishes; told to end while messages flow, it hands over without a loss and without a repeat."""
    first = producers()
    await active(first)
    second = producers()
    await until(lambda: second.metric(CONNECTED), "the second")
    assert (2, 0) == (redis.subscribers(), second.metric(ACTIVE))

    stop = asyncio.Event()
    publishing = asyncio.create_task(publish_until(redis, stop))
    await asyncio.sleep(0.5)
    assert 0 == await asyncio.to_thread(first.stop)
    await active(second)
    await asyncio.sleep(0.5)
    stop.set()
    count = await publishing
    messages = await read_log(vhost_url)

    # At the border two processes publish at once: which of them the broker hears first is open.
    assert list(range(1, count + 1)) == sorted(numbers(messages))


@pytest.mark.timeout(180)
async def test_a_killed_replica_is_followed_by_the_other(redis, producers, vhost_url):
    """After a kill the other one takes over by itself; nothing comes twice, and order is kept."""
    first = producers()
    await active(first)
    second = producers()
    await until(lambda: second.metric(CONNECTED), "the second")

    stop = asyncio.Event()
    publishing = asyncio.create_task(publish_until(redis, stop))
    await asyncio.sleep(0.5)
    first.kill()
    await active(second)
    before = second.metric(ACCEPTED)
    await until(lambda: second.metric(ACCEPTED) > before + 50, "more")
    stop.set()
    count = await publishing
    await until(lambda: second.metric(ACCEPTED) > 0, "the rest")
    found = numbers(await read_log(vhost_url))

    assert sorted(set(found)) == found
    assert count == found[-1]


@pytest.mark.timeout(180)
async def test_a_broker_that_goes_away_costs_no_message(broker, redis, producers, vhost_url):
    """What Redis says while the broker is away is kept, and published once when it is back, in order."""
    producer = producers(LOOPCAST_CONFIRM_SECONDS="2")
    await active(producer)
    # RabbitMQ 3.10 loses a stream when it is killed within half a second of making it.
    await asyncio.sleep(2)
    stop = asyncio.Event()
    publishing = asyncio.create_task(publish_until(redis, stop))
    await asyncio.sleep(0.5)
    await asyncio.to_thread(broker.kill)
    await asyncio.sleep(1)
    await asyncio.to_thread(broker.start)
    await asyncio.to_thread(producer.wait, "readyz")
    await asyncio.sleep(1)
    stop.set()
    count = await publishing
    await until(lambda: producer.metric(ACCEPTED) == count, "the rest")

    # The log may have one twice, whose confirm was lost; a reader knows it by its id.
    messages = {message.message_id: message for message in await read_log(vhost_url)}
    assert list(range(1, count + 1)) == numbers(messages.values())


@pytest.mark.timeout(180)
async def test_redis_restarts_while_the_broker_is_away(broker, redis, producers, vhost_url):
    """Nobody can have the lease then: of two replicas one keeps what comes, and each message is in the log once."""
    first = producers()
    await active(first)
    second = producers()
    await until(lambda: second.metric(CONNECTED), "the second")
    # RabbitMQ 3.10 loses a stream when it is killed within half a second of making it.
    await asyncio.sleep(2)
    await asyncio.to_thread(broker.kill)
    await asyncio.sleep(1)
    redis.publish(tick(1))
    await asyncio.sleep(0.5)
    redis.kill()
    redis.start()
    await until(lambda: redis.subscribers() == 2, "both")
    await until(lambda: first.metric(ACTIVE) + second.metric(ACTIVE) == 1, "the one that keeps what comes")
    await asyncio.sleep(0.5)
    redis.publish(tick(2), tick(3))
    await asyncio.to_thread(broker.start)
    await until(lambda: first.metric(ACCEPTED) + second.metric(ACCEPTED) == 3, "all three")
    redis.publish(tick(4))
    await until(lambda: first.metric(ACCEPTED) + second.metric(ACCEPTED) == 4, "the last")
    # The log may have one twice, whose confirm was lost; a reader knows it by its id.
    messages = {message.message_id: message for message in await read_log(vhost_url)}

    assert [1, 2, 3, 4] == sorted(numbers(messages.values()))
    assert 0 == first.metric(DROPPED) + second.metric(DROPPED)
