"""What a publish link promises, whichever client made it."""

from __future__ import annotations

import re

import pytest

from loopcast.broker.interface import Settlement
from loopcast.errors import BrokerUnavailable, LogMissing

CONFIRMED, RETURNED, REJECTED = [Settlement.CONFIRMED], [Settlement.RETURNED], [Settlement.REJECTED]


async def test_what_is_confirmed_is_in_the_queue_in_order(rig):
    """Messages of several calls are confirmed each, once, and lie in the queue in the order of the calls."""
    queue = await rig.queue()
    link, settled = await rig.publisher()
    ids = [str(n) for n in range(500)]

    settled.expect(500)
    for start in range(0, 500, 50):
        link.publish([rig.message(queue, id_) for id_ in ids[start : start + 50]])
        await link.drain()

    assert [CONFIRMED] * 500 == await settled.until(500)
    _, inbox = await rig.consumer(queue)
    await inbox.until(500)
    assert ids == inbox.ids


async def test_what_is_routed_nowhere_is_returned(rig):
    """A message without a queue is told as returned, not confirmed as well, and its neighbours as what they are."""
    queue = await rig.queue()
    link, settled = await rig.publisher()

    settled.expect(3)
    link.publish([rig.message(queue, "a"), rig.message("nobody", "b"), rig.message(queue, "c")])

    assert [CONFIRMED, RETURNED, CONFIRMED] == await settled.until(3)


async def test_what_a_queue_refuses_is_rejected(rig):
    """A nack is told as rejected: here of a queue that is full and says so."""
    queue = await rig.queue("classic", max_length=1, overflow="reject-publish")
    link, settled = await rig.publisher()

    settled.expect(1)
    link.publish([rig.message(queue, "a")])
    await settled.until(1)
    settled.expect(1)
    link.publish([rig.message(queue, "b")])

    assert [CONFIRMED, REJECTED] == await settled.until(2)


@pytest.mark.parametrize("kind", ["quorum", "stream"])
@pytest.mark.parametrize("size", [0, 1, 131_064, 131_065, 131_072, 1024 * 1024])
async def test_bodies_of_any_size_arrive_whole(rig, kind, size):
    """An empty body, one at the size of a frame, and the largest event come out as they went in."""
    queue = await rig.queue(kind)
    link, settled = await rig.publisher()
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)

    settled.expect(1)
    link.publish([rig.message(queue, "a", body)])

    assert [CONFIRMED] == await settled.until(1)
    _, inbox = await rig.consumer(queue, offset="first" if kind == "stream" else None)
    (delivery,) = await inbox.until(1)
    assert body == delivery.body


HEADERS = {
    "text": "plain",
    "empty": "",
    "unicode": "häß 🐇",
    "long": "x" * 5000,
    "true": True,
    "false": False,
    "none": None,
    **{f"n{n}": n for n in (0, 1, -1, 127, 128, -128, -129, 255, 256, 32767, 32768, 65535, 65536, -32769)},
    **{f"n{n}": n for n in (2**31 - 1, 2**31, -(2**31), 2**32 - 1, 2**32, 2**63 - 1, -(2**63))},
    "recorded": 1_760_000_000_123_456,
}


@pytest.mark.parametrize("kind", ["quorum", "stream"])
async def test_headers_and_properties_arrive_as_they_were(rig, kind):
    """Headers of every type that the interface has, at the edges of AMQP's integers, and each property."""
    queue = await rig.queue(kind)
    link, settled = await rig.publisher()
    sent = rig.message(
        queue,
        "é" * 127,
        b"{}",
        headers=HEADERS,
        type="state_enter",
        content_type="application/cloudevents+json",
        app_id="loopcast",
        timestamp=1_760_000_000,
    )

    settled.expect(1)
    link.publish([sent])

    assert [CONFIRMED] == await settled.until(1)
    _, inbox = await rig.consumer(queue, offset="first" if kind == "stream" else None)
    (got,) = await inbox.until(1)
    assert HEADERS == got.headers
    assert (sent.message_id, sent.type, sent.content_type, sent.app_id, sent.timestamp) == (
        got.message_id,
        got.type,
        got.content_type,
        got.app_id,
        got.timestamp,
    )
    assert (queue, 0 if kind == "stream" else -1, False) == (got.routing_key, got.offset, got.redelivered)


async def test_a_message_without_anything_arrives(rig):
    """Properties that are not set are empty at the other end."""
    queue = await rig.queue()
    link, _ = await rig.publisher()

    link.publish([rig.message(queue, "a")])

    _, inbox = await rig.consumer(queue)
    (got,) = await inbox.until(1)
    assert ("a", "", "", "", 0) == (got.message_id, got.type, got.content_type, got.app_id, got.timestamp)


async def test_publishing_nothing_is_nothing(rig):
    """An empty call sends nothing and uses no tag."""
    queue = await rig.queue()
    link, settled = await rig.publisher()

    link.publish([])
    settled.expect(1)
    link.publish([rig.message(queue, "a")])

    assert [CONFIRMED] == await settled.until(1)


async def test_an_exchange_that_is_not_there_ends_the_link(rig):
    """The broker closes the channel, and the link says that something is missing."""
    link, settled = await rig.publisher()

    link.publish([rig.message("q", "a", exchange="nobody")])

    assert isinstance(await link.wait_closed(), LogMissing)
    assert {} == settled.by_tag


async def test_a_closed_link_has_no_reason(rig):
    """`close` may be called again, and whoever waits hears that it was asked for."""
    link, _ = await rig.publisher()

    await link.close()
    await link.close()

    assert None is await link.wait_closed()


async def test_a_link_that_an_operator_closes_says_so(rig):
    """A connection closed by the broker ends the link with the broker's words; closing it again is safe."""
    link, _ = await rig.publisher()

    await rig.cut()
    reason = await link.wait_closed()
    await link.close()

    assert isinstance(reason, BrokerUnavailable)
    assert "cut by a test" in str(reason)


async def test_the_name_stands_in_the_brokers_listings(rig):
    """An operator finds a connection by its name."""
    await rig.publisher()

    await rig.eventually(lambda: True)
    assert "test-publisher" in await rig.ctl("list_connections", "vhost", "client_properties")


async def test_no_broker_is_unavailable(rig):
    """Nobody at the port, a login that is refused and a host that is not there are all told in words."""
    for url, words in (
        ("amqp://guest:guest@127.0.0.1:1/", "no connection"),
        (re.sub(r"//(\w+):[^@]+@", r"//\1:wrong@", rig.url), "login"),
        ("amqp://guest:guest@nobody.invalid/", "no connection"),
        (rig.url.rsplit("/", 1)[0] + "/no-such-vhost", "no-such-vhost"),
    ):
        with pytest.raises(BrokerUnavailable, match=words):
            await rig.client.open_publisher(url, lambda *_: None, name="t")
