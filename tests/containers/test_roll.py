"""An upgrade under load: each service is replaced by a new container while events come and somebody watches."""

import time

from containers import Viewer, until
from load import Load
from rolling import roll

from loopcast.settings import SERVICES

EXPERIMENT = "rolled"


def test_each_service_is_rolled_without_losing_an_event_or_a_viewer(stack, hook):
    """
    Everything that was emitted is in the log, in the rows, at the webhook and on the viewer's screen.

    Once each, in order; each old container ended by itself, with exit code 0.
    """
    rolled = roll(stack, hook, list(SERVICES), EXPERIMENT)

    assert dict.fromkeys(SERVICES, 0) == rolled.codes
    assert rolled.emitted == rolled.seen == rolled.rows == list(dict.fromkeys(rolled.told))
    assert ([], True) == (rolled.faults, rolled.resumes >= 1)


def test_the_broker_is_restarted_without_losing_an_event_or_a_viewer(stack):
    """What waited while RabbitMQ was away is in the log afterwards, and the viewer never noticed a hole."""
    viewer = Viewer(stack.url("gateway"), EXPERIMENT)
    until(lambda: viewer.events)
    load = Load(stack.url("producer"), EXPERIMENT)
    try:
        time.sleep(2)
        stack.compose("restart", "--timeout", "60", "broker")
        stack.await_healthy("broker")
        time.sleep(2)
    finally:
        load.end()
    until(lambda: viewer.events[-1]["data"]["number"] >= load.sent - 1, why=lambda: stack.logs("gateway"))
    numbers = [event["data"]["number"] for event in viewer.events]
    viewer.close()

    # The test before numbered its events from 0 as well.
    assert list(range(load.sent)) == numbers[-load.sent :]
    assert [] == viewer.faults
