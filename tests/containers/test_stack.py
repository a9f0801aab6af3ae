"""The whole system in containers, on RabbitMQ 4: a real loop goes through it, and every service has its result."""

import subprocess
import sys

import httpx
import pytest
from containers import Viewer, docker, recorded, until

from loopcast.settings import SERVICES

EXPERIMENT = "tune-prompt"
LOOP = """
import sys
from loopcast import LoopcastTransport
from loopcast.demo.__main__ import run_once
print(run_once(LoopcastTransport(sys.argv[1], sys.argv[2], spool="off")))
"""


@pytest.fixture(scope="module")
def emitted(stack):
    """How many events the demo's loop gave to its transport, which sent them to the stack's producer."""
    # A process of its own, as a loop is: the engine leaves files open that pytest would complain of.
    command = [sys.executable, "-c", LOOP, stack.url("producer"), EXPERIMENT]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


@pytest.fixture(scope="module")
def rows(stack, emitted):
    """The loop's events, as the recorder keeps them."""
    until(lambda: len(recorded(stack.url("recorder"), EXPERIMENT)) >= emitted, why=lambda: stack.logs("recorder"))
    return recorded(stack.url("recorder"), EXPERIMENT)


def test_the_broker_is_rabbitmq_4(stack):
    """The stack runs on the version that it says."""
    management = f"http://127.0.0.1:{stack.ports['MANAGEMENT']}/api/overview"
    answer = httpx.get(management, auth=("loopcast", "loopcast"), timeout=10).raise_for_status().json()

    assert "4" == answer["rabbitmq_version"].split(".")[0]


def test_the_recorder_has_each_event_once(emitted, rows):
    """The rows are the loop's events, each once, and the loop has begun and ended."""
    types = [row["type"] for row in rows]

    assert emitted == len(rows) == len({row["id"] for row in rows})
    assert {"loop_start", "loop_complete"} <= set(types)


def test_a_viewer_is_given_the_same_events(stack, rows):
    """A viewer who comes late sees the whole loop, in the order of the log."""
    viewer = Viewer(stack.url("gateway"), EXPERIMENT)
    until(lambda: len(viewer.events) >= len(rows), why=lambda: stack.logs("gateway"))
    viewer.close()

    assert [row["id"] for row in rows] == viewer.ids
    assert [] == viewer.faults


def test_the_webhook_was_told_of_each(stack, hook, rows):
    """The endpoint has every event once, in the order of the log."""
    ids = {row["id"] for row in rows}
    until(lambda: ids <= set(hook.ids), why=lambda: stack.logs("webhook-forwarder"))

    assert [row["id"] for row in rows] == [event["id"] for event in hook.events if event["id"] in ids]


def test_the_otlp_backend_has_the_loop_as_a_trace(stack, backend, rows):
    """Spans for the loop, its sub-loop and its states have come, whole and without a fault."""
    ended = sum(row["type"] == "loop_complete" for row in rows)
    until(
        lambda: sum("loop" in name for name in backend.names()) >= ended and not backend.faults(),
        why=lambda: f"{backend.names()} {backend.faults()} {stack.logs('otel-exporter')}",
    )

    assert any("tune-prompt" in name for name in backend.names())


def test_the_first_page_is_served(stack):
    """Whoever opens the gateway's address sees a page."""
    answer = httpx.get(stack.url("gateway"), timeout=10)

    assert (200, "text/html") == (answer.status_code, answer.headers["content-type"].split(";")[0])


@pytest.mark.parametrize("service", SERVICES)
def test_a_container_is_confined(stack, service):
    """No root, no capabilities, a file system that is read only, and the service itself as process 1."""
    box = stack.container(service)
    inside = (
        "import os; print(os.getuid(), os.access('/app', os.W_OK), open('/proc/1/cmdline').read().split(chr(0))[1])"
    )
    capabilities = docker("exec", box, "python3", "-c", "print(open('/proc/self/status').read())")

    assert f"10001 False /app/bin/loopcast-{service}" == docker("exec", box, "python3", "-c", inside)
    assert "CapEff:\t0000000000000000" in capabilities
    assert "NoNewPrivs:\t1" in capabilities
    assert "Read-only file system" in docker("exec", box, "python3", "-c", "open('/x', 'w')", check=False)
