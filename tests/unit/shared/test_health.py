"""The probes: started, ready and alive are three questions."""

import httpx
import pytest

from loopcast.health import STUCK_SECONDS, Health
from loopcast.metrics import Metrics
from loopcast.ops import ops_app


class Clock:
    """Seconds that only a test moves."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_waiting_says_for_what():
    """Until every condition holds, both probes answer no, with the reasons."""
    health = Health()
    health.wait_for("broker", "waiting for the broker")
    health.wait_for("log", "no log yet")

    assert (False, "waiting for the broker; no log yet") == health.startup()
    assert (False, "waiting for the broker; no log yet") == health.readiness()

    health.reached("broker")

    assert (False, "no log yet") == health.readiness()


def test_started_stays_started():
    """Losing a condition later makes the process unready, not unstarted."""
    health = Health()
    health.wait_for("broker", "waiting for the broker")
    health.reached("broker")
    health.wait_for("broker", "the broker is away")

    assert (True, "started") == health.startup()
    assert (False, "the broker is away") == health.readiness()


def test_draining_is_unready_at_once():
    """Whoever drains takes no new work, whatever else holds."""
    health = Health()
    health.reached("start")
    health.draining = True

    assert (False, "draining: no new work") == health.readiness()


def test_liveness_knows_nothing_of_the_broker():
    """A process that waits for its broker is alive."""
    health = Health()
    health.wait_for("broker", "waiting for the broker")

    assert (True, "alive") == health.liveness()


def test_a_stuck_loop_is_dead_and_a_beat_revives_it():
    """An event loop that has not run for long is taken for dead."""
    clock = Clock()
    health = Health(clock)
    clock.now += STUCK_SECONDS + 1

    assert (False, "the event loop has not run for 31 s") == health.liveness()

    health.beat()

    assert (True, "alive") == health.liveness()


@pytest.mark.parametrize("path", ["/", "/v1/experiments"])
async def test_another_address_of_the_ops_port_says_what_is_there(path):
    """Who took the ops port for the service's own learns where the probes and metrics are."""
    transport = httpx.ASGITransport(ops_app(Health(), Metrics("producer", "0")))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        answer = await client.get(path)

    assert 404 == answer.status_code
    assert "/livez, /readyz, /startupz, /metrics" in answer.text
