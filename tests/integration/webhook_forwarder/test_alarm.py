"""While the broker takes nothing because of an alarm, what it has is still delivered."""

import pytest

from .conftest import QUICK


@pytest.fixture
def alarm(broker):
    """Raise a memory alarm, and take it back at the end."""
    if not hasattr(broker, "ctl"):
        pytest.skip("needs rabbitmqctl")
    yield lambda: broker.ctl("set_vm_memory_high_watermark", "0.0000001")
    broker.ctl("set_vm_memory_high_watermark", "0.6")


async def test_an_alarm_stops_no_delivery(bench, receiver, alarm, monkeypatch):
    """An endpoint recovers during a memory alarm: its state cannot be written, its events arrive all the same."""
    # How long the first record waits for a broker that does not say at once that it takes nothing.
    monkeypatch.setattr("loopcast_webhook_forwarder.state_stream.PUBLISH_SECONDS", 1.0)
    receiver.answer = lambda call: 503
    async with bench.forwarding(bench.endpoint("ci", receiver.url, retry=QUICK, breaker_failures=2)):
        await bench.bound("ci")
        ids = await bench.publish(*[bench.event() for _ in range(300)])
        await receiver.until(lambda: len(receiver.calls) >= 4)
        alarm()
        before = len(receiver.calls)
        await receiver.until(lambda: len(receiver.calls) > before, 40)
        receiver.answer = lambda call: 200
        await receiver.until(lambda: len(receiver.taken) >= 300, 40)

    assert receiver.taken == ids
