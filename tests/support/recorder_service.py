"""The recorder as a process of its own, and a real log for it."""

import os
import subprocess
import sys
import time

import pytest
from processes import listening

from loopcast.broker.clients import client_of
from loopcast.broker.declare import ensure
from loopcast.broker.publisher import Publisher
from loopcast.routing import partition_of
from loopcast.topology import Topology
from loopcast.wire import to_message

CLIENT = client_of("loopcast")


class Recorder:
    """One instance, whose settings are given by name: `recorder_sqlite=...`."""

    def __init__(self, url, log, **settings):
        self.log = log
        self._environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("LOOPCAST_")},
            "LOOPCAST_AMQP_URL": url,
            "LOOPCAST_OPS_PORT": "0",
            "LOOPCAST_PORT": "0",
            "LOOPCAST_RECORDER_SQLITE": "off",
            **{f"LOOPCAST_{name.upper()}": str(value) for name, value in settings.items()},
        }
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


async def publish(url, events, *, partitions=1, chunk=500):
    """Put `events` into the log, in their order."""
    await ensure(CLIENT, url, Topology(partitions=partitions), mode="declare", name="test")
    async with Publisher(CLIENT, url, name="test") as publisher:
        await publisher.wait_connected()
        for start in range(0, len(events), chunk):
            part = events[start : start + chunk]
            messages = [to_message(event, partition_of(event.experiment, partitions)) for event in part]
            await publisher.publish(messages, timeout=30)


def until(condition, seconds=30.0, what="it never happened"):
    """Wait until `condition()` is true; its value."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            pytest.fail(what)
        time.sleep(0.05)
    return value
