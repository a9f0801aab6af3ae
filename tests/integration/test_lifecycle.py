"""A service as a process: probes, signals, ports and the words it ends with."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import httpx
import pytest


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


SERVICE = """
import contextlib
from loopcast.health import Health
from loopcast.lifecycle import Service, command
from loopcast.metrics import Metrics
from loopcast.settings import ServiceSettings, load

@contextlib.asynccontextmanager
async def body():
    health.reached("start")
    yield

health = Health()
command(lambda: Service(
    name="idle", settings=load(ServiceSettings), health=health, metrics=Metrics("idle", "0"), body=body))
"""


def start(port, **environment):
    clean = {k: v for k, v in os.environ.items() if not k.startswith("LOOPCAST_")}
    return subprocess.Popen(
        [sys.executable, "-c", SERVICE],
        env={**clean, "LOOPCAST_OPS_PORT": str(port), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_ready(port, process):
    for _ in range(200):
        assert process.poll() is None, process.stderr.read()
        try:
            return httpx.get(f"http://127.0.0.1:{port}/readyz")
        except httpx.HTTPError:
            time.sleep(0.05)
    pytest.fail("the probe never answered")


@pytest.fixture
def service():
    """A running service and its ops port; ended after the test."""
    port = free_port()
    process = start(port, LOOPCAST_PARTITONS="2")
    wait_ready(port, process)
    yield port, process
    if process.poll() is None:
        process.kill()
    process.communicate()


def test_probes_and_metrics_answer(service):
    """The ops port answers the three probes and the scrape."""
    port, _ = service

    answers = {
        path: httpx.get(f"http://127.0.0.1:{port}{path}") for path in ("/livez", "/readyz", "/startupz", "/metrics")
    }

    assert {"/livez": 200, "/readyz": 200, "/startupz": 200, "/metrics": 200} == {
        path: answer.status_code for path, answer in answers.items()
    }
    assert "loopcast_build_info" in answers["/metrics"].text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_code_0(service, number):
    """SIGTERM and SIGINT drain and exit 0, with structured lines on stderr."""
    _, process = service

    process.send_signal(number)
    _, err = process.communicate(timeout=10)

    assert 0 == process.returncode
    events = [json.loads(line)["event"] for line in err.splitlines()]
    assert ["draining", "stopped"] == events[-2:]


def test_a_misspelt_setting_is_warned_of(service):
    """A name that nothing knows is in the log, with the one that was probably meant."""
    _, process = service
    process.terminate()
    _, err = process.communicate(timeout=10)

    warning = next(json.loads(line) for line in err.splitlines() if "unknown_setting" in line)

    assert ("LOOPCAST_PARTITONS", "did you mean LOOPCAST_PARTITIONS?") == (warning["name"], warning["hint"])


def test_a_taken_port_is_one_clear_line():
    """A port that somebody holds ends the start with a sentence that names the variable to change."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        process = start(holder.getsockname()[1])
        _, err = process.communicate(timeout=20)

    assert 2 == process.returncode
    assert "set LOOPCAST_OPS_PORT to another" in err.splitlines()[-1]
    assert "Traceback" not in err


def test_a_bad_setting_is_one_clear_line():
    """A wrong value ends the start with a sentence and no traceback."""
    process = start(0, LOOPCAST_PARTITIONS="none")
    _, err = process.communicate(timeout=20)

    assert 2 == process.returncode
    assert 1 == len(err.splitlines())
    assert "LOOPCAST_PARTITIONS='none'" in err


def test_it_ends_with_its_parent():
    """A service that was told its parent stops when that parent is gone, so that nothing is left behind."""
    port = free_port()
    child = f"""
import os, subprocess, sys
p = subprocess.Popen([sys.executable, "-c", {SERVICE!r}],
                     env={{**os.environ, "LOOPCAST_PARENT_PID": str(os.getpid()), "LOOPCAST_OPS_PORT": "{port}"}})
print(p.pid, flush=True)
import time; time.sleep(60)
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", child], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    pid = int(parent.stdout.readline())
    wait_ready(port, parent)

    parent.kill()
    parent.communicate()

    for _ in range(100):
        try:
            httpx.get(f"http://127.0.0.1:{port}/livez")
        except httpx.HTTPError:
            break
        time.sleep(0.1)
    else:
        os.kill(pid, signal.SIGKILL)
        pytest.fail("it outlived its parent")
