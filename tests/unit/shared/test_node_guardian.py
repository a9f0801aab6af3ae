"""The guardian, keeping a process that is no RabbitMQ: when it ends it, and what it writes down."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from loopcast.node import guardian
from loopcast.node.layout import Layout
from loopcast.node.processes import is_alive

SERVER = [sys.executable, "-c", "import time; time.sleep(60)"]


@pytest.fixture
def layout(tmp_path):
    """An empty data folder."""
    return Layout(tmp_path)


@pytest.fixture
def guard(layout):
    """Start a guardian with some of its orders changed; ended after the test."""
    started = []

    def start(**changes):
        order = guardian.Order(
            owner=os.getpid(),
            lock=str(layout.lock),
            record=str(layout.record),
            folder=str(layout.data),
            environment=dict(os.environ),
            server=SERVER,
            epmd=[],
            epmd_port=0,
            remove=[],
        )
        layout.write_order({**order, **changes})
        command = [sys.executable, "-I", "-S", guardian.__file__, str(layout.order)]
        started.append(subprocess.Popen(command, stdin=subprocess.PIPE))
        return started[-1]

    yield start
    for process in started:
        # Killed, it would leave its server behind.
        process.communicate()


def recorded(layout):
    """The process ids, once they are written down."""
    for _ in range(500):
        if pids := layout.processes():
            return pids
        time.sleep(0.01)
    pytest.fail("the guardian wrote nothing down")


def test_the_server_ends_when_the_owner_lets_go(layout, guard):
    """The end of the pipe is the end of the server, and its record goes with it."""
    process = guard()
    pids = recorded(layout)
    alive = is_alive(pids["server"])

    process.stdin.close()
    process.wait(10)

    assert {"owner": os.getpid(), "guardian": process.pid, "server": pids["server"]} == pids
    assert (True, False) == (alive, is_alive(pids["server"]))
    assert not layout.record.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_the_server_first(layout, guard, number):
    """Whoever ends the guardian ends what it keeps."""
    process = guard()
    pids = recorded(layout)

    process.send_signal(number)
    process.wait(10)

    assert not is_alive(pids["server"])


def test_a_guardian_that_is_nobodys_child_any_more_ends(layout, guard):
    """Where a forked child still holds the pipe, another parent than the owner says that the owner is gone."""
    process = guard(owner=os.getpid() + 1)

    process.wait(10)

    assert process.stdin.closed is False
    assert not layout.record.exists()


def test_a_server_that_ends_by_itself_ends_its_guardian(guard):
    """And its exit status is passed on."""
    assert 3 == guard(server=[sys.executable, "-c", "raise SystemExit(3)"]).wait(10)


def test_a_folder_that_another_guardian_holds_is_left_alone(layout, guard):
    """The lock decides between two that start at the same time."""
    with layout.lock.open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)

        assert guardian.IN_USE == guard().wait(10)
    assert not layout.record.exists()


def test_what_a_signal_does_not_end_is_removed_before_and_after(layout, guard):
    """A container keeps its name until it is removed, so an earlier one is removed too."""
    note = layout.data / "removed"
    process = guard(remove=["sh", "-c", f"echo removed >> '{note}'"], server=["true"])
    process.wait(10)

    assert "removed\nremoved\n" == note.read_text()


def test_a_server_that_cannot_be_started_leaves_nothing(layout, guard):
    """A command that does not exist ends the guardian with an error, and no record stays."""
    process = guard(server=[str(layout.data / "missing")])

    assert 0 != process.wait(10)
    assert not layout.record.exists()


def test_the_order_is_for_its_owner_alone(layout, guard):
    """It holds an environment."""
    guard()
    recorded(layout)

    assert 0o600 == layout.order.stat().st_mode & 0o777
    assert SERVER == json.loads(layout.order.read_text())["server"]
