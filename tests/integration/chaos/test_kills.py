"""
SIGKILL of the agent, the producer and the broker at random moments while events flow.

What is in the log is what `send` accepted, but for what a full spool dropped and counted, in order; a reader and a
viewer see each once, although some stand twice.
"""

import asyncio
import contextlib
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from environments import of_a_service
from processes import Producer, free_port, read_log
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from loopcast.events import slice_data
from loopcast.repeats import Repeats

AMPLE = 1_000_000_000
"""Bytes of a spool that no outage of these fills."""
AGENT = Path(__file__).parents[2] / "support" / "chaos_agent.py"


class Agents:
    """One agent at a time, each going on behind the one before."""

    def __init__(self, url, folder, spool_bytes):
        self._url, self.sent = url, folder / "sent"
        self._environment = os.environ | {"LOOPCAST_SPOOL_MAX_BYTES": str(spool_bytes)}
        self._log = folder / "agents.log"
        self.killed = 0

    def start(self):
        with self._log.open("ab") as log:
            command = [sys.executable, AGENT, self._url, self.sent]
            self._process = subprocess.Popen(command, stderr=log, env=self._environment)

    def until_it_sends(self):
        """An agent that is killed before its first event shows nothing."""
        deadline = time.monotonic() + 30
        while not (self.sent.exists() and self.sent.stat().st_size):
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.05)

    def kill(self):
        assert self._process.poll() is None, self._log.read_text()
        self._process.kill()
        self._process.wait()
        self.killed += 1

    def finish(self):
        """Kill the last one, and have its left-overs sent by one more; its counters."""
        self.kill()
        done = subprocess.run(
            [sys.executable, AGENT, self._url, self.sent, "last"], capture_output=True, text=True, timeout=150
        )
        assert 0 == done.returncode, done.stderr
        return json.loads(done.stdout)

    def numbers(self):
        return [int(line) for line in self.sent.read_text().split()]


class Viewer:
    """A client of the gateway that comes back with its last position whenever it is cut off."""

    def __init__(self, url):
        self._url = url
        self._pos = None
        self.numbers = []
        self.holes = []
        self.sees = asyncio.Event()

    async def sees_more(self, seconds=90):
        """Wait until an event comes that was not here before."""
        self.sees.clear()
        async with asyncio.timeout(seconds):
            await self.sees.wait()

    async def watch(self):
        while True:
            with contextlib.suppress(OSError, WebSocketException):
                await self._connection()
            await asyncio.sleep(0.1)

    async def _connection(self):
        start = {"resume": self._pos} if self._pos else {"from": "earliest"}
        async with connect(self._url, subprotocols=["loopcast.v1.json"], max_size=None) as socket:
            await socket.send(json.dumps({"id": 1, "action": "subscribe", "experiment_id": "chaos", **start}))
            async for text in socket:
                frame = json.loads(text)
                match frame["type"]:
                    case "event":
                        self._pos = frame["pos"]
                        self.numbers.append(frame["event"]["data"]["n"])
                        self.sees.set()
                    case "gap":
                        self.holes.append(frame)
                    case "subscribed" if frame.get("recovered") is False:
                        self.holes.append(frame)
                    case "error" | "goaway":
                        return


def gateway(url, folder):
    """A gateway, and its WebSocket address."""
    port, ops_port = free_port(), free_port()
    environment = of_a_service(LOOPCAST_AMQP_URL=url, LOOPCAST_PORT=port, LOOPCAST_OPS_PORT=ops_port)
    with (folder / "gateway.log").open("ab") as log:
        process = subprocess.Popen([sys.executable, "-m", "loopcast_gateway"], env=environment, stderr=log, stdout=log)
    return process, f"ws://127.0.0.1:{port}/ws"


def many(victim, spool_bytes=AMPLE, name="20"):
    marks = [pytest.mark.slow, pytest.mark.timeout(1500)]
    return pytest.param([victim] * 20, spool_bytes, id=f"{victim}-{name}", marks=marks)


@pytest.mark.parametrize(
    ("victims", "spool_bytes"),
    [
        pytest.param(["agent", "producer", "broker"], AMPLE, id="each", marks=pytest.mark.timeout(240)),
        many("agent"),
        many("producer"),
        many("broker"),
        many("broker", 2_000_000, "20-full"),
    ],
)
async def test_kills_cost_no_event(broker, vhost_url, tmp_path, victims, spool_bytes):
    """Whoever is killed, and however often: what was accepted is in the log, in order, and is seen once."""
    producer = Producer(vhost_url, tmp_path / "producer.log").start()
    watching, address = gateway(vhost_url, tmp_path)
    agents, viewer = Agents(producer.url, tmp_path, spool_bytes), Viewer(address)
    view = asyncio.create_task(viewer.watch())
    try:
        agents.start()
        await asyncio.to_thread(agents.until_it_sends)
        # A viewer that comes when all is over has seen no kill.
        await viewer.sees_more()
        for victim in victims:
            await asyncio.sleep(random.uniform(0.3, 1.3))
            await asyncio.to_thread({"agent": agents, "producer": producer, "broker": broker}[victim].kill)
            await asyncio.sleep(random.uniform(0, 0.5))
            await asyncio.to_thread({"agent": agents, "producer": producer, "broker": broker}[victim].start)
            if random.random() < 0.5:
                # Half of the kills hit the flow, half of them whoever is still starting.
                await viewer.sees_more()
        await asyncio.sleep(1)
        report = await asyncio.to_thread(agents.finish)
        accepted = agents.numbers()
        messages, read = await whole_log(vhost_url, accepted)
        (tmp_path / "log").write_text("\n".join(line_of(message) for message in messages))
        (tmp_path / "seen").write_text("\n".join(map(str, viewer.numbers)))
        for _ in range(600):
            if len(viewer.numbers) >= len(read):
                break
            await asyncio.sleep(0.1)
    finally:
        view.cancel()
        producer.kill()
        watching.kill()
        watching.wait()

    more = set(read) - set(accepted)
    missing = set(accepted) - set(read)
    assert (True, 0) == (report["complete"], report["dropped"])
    # What a process that was killed had dropped, the next one tells.
    assert (report["inherited_dropped"], []) == (len(missing), spans(missing) if spool_bytes == AMPLE else [])
    # Accepted at the moment of the kill, and not written down by the agent any more.
    assert len(more) <= agents.killed
    assert sorted(read) == read
    assert len(set(read)) == len(read)
    # By itself and first: said in one line, where two long lists would be cut.
    assert [] == viewer.holes
    assert [] == sorted(set(read) - set(viewer.numbers))
    assert read == viewer.numbers
    ticks = sum(message.type == "tick" for message in messages)
    print(
        f"\nkilled {victims}: {len(accepted)} events, {len(missing)} dropped by policy and told, "
        f"{ticks - len(read)} repeats in the log, each seen once"
    )


def spans(numbers):
    """Numbers as (first, last) of those that follow each other."""
    found = []
    for n in sorted(numbers):
        if found and found[-1][1] == n - 1:
            found[-1] = (found[-1][0], n)
        else:
            found.append((n, n))
    return found


def line_of(message):
    """What stands where, for whoever looks into a failure."""
    headers = message.headers
    data = slice_data(message.body).decode() if message.type == "tick" else message.type
    return f"{headers.get('x-stream-offset')} {headers.get('emitter')} {headers.get('sequence')} {data}"


async def whole_log(url, accepted, seconds=90):
    """The log, and what a reader delivers of it; a broker that has just started may be silent in the middle of it."""
    deadline = time.monotonic() + seconds
    while True:
        messages = await read_log(url, quiet=2.0, seconds=120)
        read = once(messages)
        if accepted[-1] in read[-1:] or time.monotonic() > deadline:
            return messages, read
        print(f"read to {max(read, default=0)} of {accepted[-1]} before the broker fell silent: once more")
        await asyncio.sleep(3)


def once(messages):
    """What a reader delivers, by the rule that all readers share."""
    table = Repeats()
    return [
        json.loads(slice_data(m.body))["n"]
        for m in messages
        if m.type == "tick"
        and not table.seen(m.headers["run"], m.headers["emitter"], m.headers["sequence"], m.message_id)
    ]
