"""What is left of a link whose caller gave up while it was being opened."""

import asyncio

import pytest

from loopcast.amqp.link import Link


@pytest.mark.parametrize("client", ["loopcast"], indirect=True)
async def test_who_gives_up_in_the_moment_the_broker_is_ready_leaves_no_consumer(rig, monkeypatch):
    """A consumer that nobody holds would take what comes and never acknowledge it; the next one gets it instead."""
    queue = await rig.queue("quorum", single_active_consumer=True)
    begin = Link._begin

    def begin_and_give_up(link, tick_seconds):
        begin(link, tick_seconds)
        opening.cancel()

    with monkeypatch.context() as patch:
        patch.setattr(Link, "_begin", begin_and_give_up)
        opening = asyncio.create_task(rig.client.open_consumer(rig.url, queue, print, name="given up", prefetch=10))
        with pytest.raises(asyncio.CancelledError):
            await opening
    await rig.fill(queue, ["1", "2"])
    _, inbox = await rig.consumer(queue)
    await inbox.until(2)

    assert ["1", "2"] == inbox.ids
