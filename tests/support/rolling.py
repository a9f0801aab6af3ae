"""Services of a stack replaced one after the other under load, and what everybody saw of it."""

from dataclasses import dataclass

from containers import Viewer, recorded, until
from load import RATE, Load


@dataclass
class Rolled:
    """What was emitted, and who got what of it, as the numbers that the events carry."""

    emitted: list
    seen: list
    rows: list
    told: list
    """At the webhook: at least once, so a number may come again."""
    codes: dict
    """How each old container ended, by service."""
    faults: list
    resumes: int


def roll(stack, hook, services, experiment):
    """Replace `services` of `stack` while events come and somebody watches; waits until all has arrived everywhere."""
    viewer = Viewer(stack.url("gateway"), experiment)
    load = Load(stack.url("producer"), experiment)
    codes = {}
    try:
        for service in services:
            until(lambda: viewer.events, seconds=30)
            codes[service] = stack.roll(service)
            seen = len(viewer.events)
            until(lambda before=seen: len(viewer.events) > before + RATE, why=stack.logs)
    finally:
        load.end()

    def rows():
        return [event["data"]["number"] for event in recorded(stack.url("recorder"), experiment)]

    def told():
        return [event["data"]["number"] for event in list(hook.events) if event.get("experimentid") == experiment]

    emitted = list(range(load.sent))
    until(lambda: len(viewer.events) >= load.sent, why=lambda: stack.logs("gateway"))
    until(lambda: len(rows()) >= load.sent, why=lambda: stack.logs("recorder"))
    until(lambda: set(emitted) <= set(told()), why=lambda: stack.logs("webhook-forwarder"))
    viewer.close()
    seen = [event["data"]["number"] for event in viewer.events]
    return Rolled(emitted, seen, rows(), told(), codes, viewer.faults, viewer.resumes)
