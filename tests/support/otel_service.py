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
from otel_streams import envelopes, lines
from processes import listening

from loopcast.broker.clients import client_of
from loopcast.broker.declare import ensure
from loopcast.broker.publisher import Publisher
from loopcast.events import format_time
from loopcast.ids import uuid7
from loopcast.routing import partition_of
from loopcast.topology import Topology
from loopcast.wire import to_message

CLIENT = client_of("loopcast")


class Exporter:
    """One replica."""

    def __init__(self, url, receiver, log, **settings):
        self._log = log
        self._environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("LOOPCAST_")},
            "LOOPCAST_AMQP_URL": url,
            "LOOPCAST_OTLP_ENDPOINT": receiver.grpc_endpoint,
            "LOOPCAST_OPS_PORT": "0",
            "LOOPCAST_OTEL_FLUSH_SECONDS": "0.1",
            "LOOPCAST_OTEL_CHECKPOINT_SECONDS": "0.3",
            "LOOPCAST_OTEL_METRICS_SECONDS": "0.5",
            "LOOPCAST_OTEL_LEASE_SECONDS": "0.5",
            **{f"LOOPCAST_{name.upper()}": str(value) for name, value in settings.items()},
        }
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


async def publish(url, events, *, partitions=1, pause=0.0, chunk=200):
    """Put `events` into the log, in their order."""
    await ensure(CLIENT, url, Topology(partitions=partitions), mode="declare", name="test")
    async with Publisher(CLIENT, url, name="test") as publisher:
        await publisher.wait_connected()
        for start in range(0, len(events), chunk):
            part = events[start : start + chunk]
            messages = [to_message(event, partition_of(event.experiment, partitions)) for event in part]
            await publisher.publish(messages, timeout=30)
            if pause:
                await asyncio.sleep(pause)


async def until(condition, seconds=90):
    """Wait for `condition`; for long, because other work on the machine must not fail a test."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        await asyncio.sleep(0.05)
