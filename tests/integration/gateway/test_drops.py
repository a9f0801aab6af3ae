"""
Viewers on bad networks: each one's connection is gone for two seconds of every ten, and all events arrive.

The figure that fan-out servers are compared by. A cut is a reset for half of the viewers; for the others nothing goes
through any more and nobody says so, as where a phone loses its network, and what was under way is lost.
"""

import asyncio
import contextlib
import json
import os
import random
import time

import msgspec
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from loopcast.cli.progress import Progress

SECONDS = float(os.environ.get("LOOPCAST_DROPS_SECONDS", "90"))
VIEWERS = int(os.environ.get("LOOPCAST_DROPS_VIEWERS", "50"))
EXPERIMENTS = [f"exp-{n}" for n in range(5)]
decode = msgspec.json.decode


class Line:
    """The network between one viewer and a gateway."""

    def __init__(self, gateway, chance, *, silent):
        self._gateway = gateway
        self._chance = chance
        self._silent = silent
        self._flows = asyncio.Event()
        self._flows.set()
        self._writers = set()
        self.bad = True
        self.cuts = 0
        self.port = 0
        self.listens = asyncio.Event()

    async def run(self, *, up, down):
        """Be there for `up` seconds, be gone for `down` seconds, and so on while it is bad; end when cancelled."""
        async with await asyncio.start_server(self._carry, "127.0.0.1", 0) as server:
            self.port = server.sockets[0].getsockname()[1]
            self.listens.set()
            await asyncio.sleep(self._chance.uniform(0, up))
            while self.bad:
                self._flows.clear()
                self.cuts += 1
                if not self._silent:
                    self._reset()
                await asyncio.sleep(down)
                self._reset()
                self._flows.set()
                await asyncio.sleep(up)
            await server.serve_forever()

    def _reset(self):
        for writer in list(self._writers):
            writer.transport.abort()

    async def _carry(self, reader, writer):
        if not self._flows.is_set():
            writer.transport.abort()
            return
        there, back = await asyncio.open_connection("127.0.0.1", self._gateway.port)
        mine = {writer, back}
        self._writers |= mine
        try:
            await asyncio.gather(self._pump(reader, back), self._pump(there, writer))
        finally:
            self._writers -= mine
            for one in mine:
                one.transport.abort()

    async def _pump(self, source, target):
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                await self._flows.wait()
                target.write(data)
                await target.drain()
        target.transport.abort()


async def watch_through(line, follows, seen, wanted):
    """Follow `follows` over a line like this until `wanted` is known and was seen; how often it had to come back."""
    progress, connections = Progress([follows], "earliest"), 0
    while wanted.count is None or len(seen) < wanted.count[follows]:
        with contextlib.suppress(OSError, InvalidHandshake, ConnectionClosed, TimeoutError, EOFError):
            async with connect(
                f"ws://127.0.0.1:{line.port}/ws", subprotocols=["loopcast.v1.json"], max_size=None, compression=None,
                ping_interval=None, open_timeout=3, close_timeout=0.2,
            ) as socket:  # fmt: skip
                connections += 1
                for command in progress.commands():
                    await socket.send(json.dumps(command))
                while wanted.count is None or len(seen) < wanted.count[follows]:
                    # Twice the time in which a ping comes: the other end is gone without a word.
                    frame = decode(await asyncio.wait_for(socket.recv(), 2))
                    assert frame["type"] != "gap"
                    assert frame.get("recovered") is not False
                    progress.take(frame)
                    if frame["type"] == "event":
                        event = frame["event"]
                        seen.append((event["experimentid"], event["data"]["n"]))
        await asyncio.sleep(random.uniform(0, 0.5))
    return connections


class Wanted:
    """How many events there are for each thing that can be followed; None while that is not known."""

    count = None


async def publish(log, seconds, rate):
    """Publish numbered events for so long; how many of each experiment."""
    sent, end = dict.fromkeys(EXPERIMENTS, 0), time.monotonic() + seconds
    while time.monotonic() < end:
        for experiment in EXPERIMENTS:
            await log.send(experiment, {"n": sent[experiment]})
            sent[experiment] += 1
        await asyncio.sleep(len(EXPERIMENTS) / rate)
    return sent


async def storm(gateway, log, *, viewers, seconds, up, down, rate=50):
    """All of it together: what each viewer followed and saw, what was sent, how often a line was cut or dialled."""
    chance, wanted = random.Random(1), Wanted()
    lines = [Line(gateway, random.Random(n), silent=n % 2 == 0) for n in range(viewers)]
    running = [asyncio.create_task(line.run(up=up, down=down)) for line in lines]
    await asyncio.gather(*(line.listens.wait() for line in lines))
    follows = [chance.choice(["*", *EXPERIMENTS]) for _ in lines]
    seen = [[] for _ in lines]
    watching = [
        asyncio.create_task(watch_through(line, followed, mine, wanted))
        for line, followed, mine in zip(lines, follows, seen, strict=True)
    ]
    sent = await publish(log, seconds, rate)
    for line in lines:
        line.bad = False
    wanted.count = {"*": sum(sent.values()), **sent}
    async with asyncio.timeout(60):
        connections = await asyncio.gather(*watching)
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    return follows, seen, sent, sum(line.cuts for line in lines), sum(connections)


def check(follows, seen, sent):
    """Every event of what it followed, once, in the order of its experiment."""
    for followed, mine in zip(follows, seen, strict=True):
        for experiment in EXPERIMENTS if followed == "*" else [followed]:
            assert list(range(sent[experiment])) == [n for of, n in mine if of == experiment], (followed, experiment)


async def test_a_few_cuts_cost_nothing(start_gateway, feed):
    """Eight viewers whose lines are cut again and again get every event once, in order."""
    async with feed() as log:
        found = await storm(start_gateway(ping_seconds=1, ring_events=50), log, viewers=8, seconds=2, up=0.6, down=0.3)
    check(*found[:3])
    assert found[3] >= 8


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 180)
async def test_two_seconds_of_every_ten_are_lost_and_no_event_is(start_gateway, feed):
    """Fifty viewers whose connections are gone for 2 s of every 10 s receive 100 %: every event once, in order."""
    async with feed() as log:
        gateway = start_gateway(ping_seconds=1)
        follows, seen, sent, cuts, connections = await storm(
            gateway, log, viewers=VIEWERS, seconds=SECONDS, up=8, down=2
        )
    wanted = sum(sum(sent.values()) if followed == "*" else sent[followed] for followed in follows)
    print(
        f"\n{VIEWERS} viewers, {SECONDS:g} s, {cuts} cuts of 2 s, {connections} connections, "
        f"{sum(sent.values())} events, {sum(map(len, seen))} of {wanted} deliveries"
    )

    check(follows, seen, sent)
    assert cuts >= VIEWERS * (SECONDS // 10 - 1)
