"""An upgrade under load: each service is replaced by a new container while events come and somebody watches."""

import time

from containers import Viewer, recorded, until
from load import RATE, Load

from loopcast.settings import SERVICES

EXPERIMENT = "rolled"


def test_each_service_is_rolled_without_losing_an_event_or_a_viewer(stack, hook):
    """
    Everything that was emitted is in the log, in the rows, at the webhook and on the viewer's screen.

    Once each, in order; each old container ended by itself, with exit code 0.
    """
    viewer = Viewer(stack.url("gateway"), EXPERIMENT)
    load = Load(stack.url("producer"), EXPERIMENT)
    codes = {}
    try:
        for service in SERVICES:
            until(lambda: viewer.events, seconds=30)
            codes[service] = stack.roll(service)
            seen = len(viewer.events)
            until(lambda before=seen: len(viewer.events) > before + RATE, why=stack.logs)
    finally:
        load.end()
    expected = list(range(load.sent))
    until(lambda: len(viewer.events) >= load.sent, why=lambda: stack.logs("gateway"))
    until(lambda: len(recorded(stack.url("recorder"), EXPERIMENT)) >= load.sent, why=lambda: stack.logs("recorder"))

    def told():
        return [event["data"]["number"] for event in list(hook.events) if event.get("experimentid") == EXPERIMENT]

    until(lambda: set(expected) <= set(told()), why=lambda: stack.logs("webhook-forwarder"))
    viewer.close()

    assert dict.fromkeys(SERVICES, 0) == codes
    assert expected == [event["data"]["number"] for event in viewer.events]
    assert ([], True) == (viewer.faults, viewer.resumes >= 1)
    assert expected == [event["data"]["number"] for event in recorded(stack.url("recorder"), EXPERIMENT)]
    assert expected == list(dict.fromkeys(told()))


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
