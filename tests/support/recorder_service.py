"""The recorder as a process of its own, and a real log for it."""

import subprocess
import sys
import time

import pytest
from environments import of_a_service
from log_writing import CLIENT, publish
from processes import listening

__all__ = ["CLIENT", "Recorder", "publish", "until"]


class Recorder:
    """One instance, whose settings are given by name: `recorder_sqlite=...`."""

    def __init__(self, url, log, **settings):
        self.log = log
        given = {"amqp_url": url, "ops_port": 0, "port": 0, "recorder_sqlite": "off", **settings}
        self._environment = of_a_service(**{f"LOOPCAST_{name.upper()}": value for name, value in given.items()})
        self.process = None
        self._begins = 0

    def start(self, *wrapper):
        """Start it, without waiting for anything."""
        with self.log.open("ab") as log:
            self._begins = log.tell()
            self.process = subprocess.Popen(
                [*wrapper, sys.executable, "-m", "loopcast_recorder"], env=self._environment, stderr=log
            )
        return self

    def address(self, port):
        """Where it listens: its `public` port, or its `ops` port."""
        return until(lambda: listening(self.log, self._begins).get(port))

    def kill(self):
        """SIGKILL, and it is gone."""
        self.process.kill()
        self.process.wait()

    def terminate(self):
        """SIGTERM, once it listens for one; its exit code."""
        self.address("ops")
        self.process.terminate()
        return self.process.wait(30)

    __enter__ = start

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.kill()


def until(condition, seconds=30.0, what="it never happened"):
    """Wait until `condition()` is true; its value."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            pytest.fail(what)
        time.sleep(0.05)
    return value
