"""The exporter as processes of its own, and events for them in a real log."""

import asyncio
import os
import random
import re
import signal
import subprocess
import sys
import time

import httpx
import msgspec
from environments import of_a_service
from log_writing import publish
from otel_streams import envelopes, lines
from processes import listening

from loopcast.events import format_time
from loopcast.ids import uuid7

__all__ = ["Exporter", "loops", "publish", "until"]


class Exporter:
    """One replica."""

    def __init__(self, url, receiver, log, **settings):
        self._log = log
        quick = {"flush": 0.1, "checkpoint": 0.3, "metrics": 0.5, "lease": 0.5}
        given = {
            "amqp_url": url,
            "otlp_endpoint": receiver.grpc_endpoint,
            "ops_port": 0,
            **{f"otel_{what}_seconds": seconds for what, seconds in quick.items()},
            **settings,
        }
        self._environment = of_a_service(**{f"LOOPCAST_{name.upper()}": value for name, value in given.items()})
        self.process = None
        self._begins = 0

    def start(self):
        """Start it, without waiting for anything."""
        command = [sys.executable, "-m", "loopcast_otel_exporter"]
        with self._log.open("ab") as log:
            self._begins = log.tell()
            self.process = subprocess.Popen(command, env=self._environment, stderr=log)
        return self

    def lag(self):
        """How far behind it says that it is, in seconds; None while it reads nothing."""
        text = httpx.get(f"{listening(self._log, self._begins)['ops']}/metrics").text
        found = re.search(r'^loopcast_otel_lag_seconds\{partition="0"\} (\S+)$', text, re.MULTILINE)
        return None if found is None else float(found[1])

    def kill(self):
        """SIGKILL, and it is gone."""
        self.process.kill()
        self.process.wait()

    def terminate(self):
        """SIGTERM, once it listens for one; its exit code."""
        deadline = time.monotonic() + 60
        while not listening(self._log, self._begins):
            assert time.monotonic() < deadline, "it never listened"
            time.sleep(0.05)
        self.process.terminate()
        return self.process.wait(30)

    def freeze(self):
        """SIGSTOP: it is there and does nothing."""
        os.kill(self.process.pid, signal.SIGSTOP)

    def thaw(self):
        """SIGCONT."""
        os.kill(self.process.pid, signal.SIGCONT)

    __enter__ = start

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.thaw()
            self.kill()


def loops(count, *, seed=0, started=None, experiments=8):
    """`count` interleaved runs of recorded streams, recorded now."""
    chance = random.Random(seed)
    handoff = [*lines("demo-handoff"), *lines("demo-handoff-resume")]
    streams = [lines("demo-parent"), lines("demo-cycle"), handoff]
    left = [
        envelopes(streams[n % 3], experiment=f"exp-{n % experiments}", run=f"run-{n}", emitter=f"{n:016x}")
        for n in range(count)
    ]
    recorded = int((started or time.time()) * 1_000_000)
    events = []
    while left:
        run = chance.choice(left)
        recorded += 1
        events.append(msgspec.structs.replace(run.pop(0), id=uuid7(), recorded_time=format_time(recorded)))
        if not run:
            left.remove(run)
    return events


async def until(condition, seconds=90):
    """Wait for `condition`; for long, because other work on the machine must not fail a test."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        await asyncio.sleep(0.05)
