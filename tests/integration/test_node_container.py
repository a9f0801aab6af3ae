"""A private node as a container, where no RabbitMQ can be had otherwise."""

import asyncio
import subprocess

import aio_pika
import pytest

from loopcast.node import Node, NodeError
from loopcast.node.engine import find_image
from loopcast.node.handshake import greeting

pytestmark = pytest.mark.containers


@pytest.fixture
def image():
    """A RabbitMQ image of an engine that answers."""
    try:
        return find_image(print)
    except NodeError as error:
        pytest.skip(f"no container engine with RabbitMQ: {error}")


async def declare(url):
    """Make a durable queue."""
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        await channel.declare_queue("kept", durable=True)


def test_a_container_is_a_node_like_any_other(image, tmp_path):
    """It answers on the loopback, survives a kill with its queues, and leaves no container behind."""
    with Node(tmp_path / "node", source=image) as node:
        asyncio.run(declare(node.add_vhost("kept")))
        node.eval("catch mnesia:sync_log()")
        node.kill()
        after_the_kill = greeting(node.port)
        node.start()
        queues = node.ctl("list_queues", "-p", "kept", "name")
    left = subprocess.run(
        ["docker", "ps", "--all", "--quiet", "--filter", "name=loopcast-"], check=True, capture_output=True, text=True
    )

    assert after_the_kill is None
    assert "name\nkept\n" == queues
    assert "" == left.stdout
