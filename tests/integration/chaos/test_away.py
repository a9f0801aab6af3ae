"""
The producer away for minutes while a loop goes on sending: the spool takes it all, and hands it over afterwards.

`LOOPCAST_TEST_AWAY_SECONDS` says how long (15); with 600 it is the ten minutes that docs/sdk.md speaks of.
"""

import asyncio
import json
import os
import random
import threading
import time

import pytest
from processes import Producer, read_log

from loopcast import LoopcastTransport
from loopcast.events import slice_data
from loopcast.repeats import Repeats

AWAY_SECONDS = float(os.environ.get("LOOPCAST_TEST_AWAY_SECONDS", "15"))
EVENTS_A_SECOND = 50


class Loop:
    """A loop that sends numbered events of 0 to 2,000 characters, some 50 a second, until it is told to end."""

    def __init__(self, url, spool):
        self.transport = LoopcastTransport(url, "away", "run-1", spool=spool)
        self.spool = spool
        self.sent = 0
        self.slowest = 0.0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self):
        while not self._end.wait(random.random() * 2 / EVENTS_A_SECOND):
            began = time.perf_counter()
            self.transport.send({"event": "tick", "n": self.sent + 1, "text": "x" * random.randint(0, 2000)})
            self.slowest = max(self.slowest, time.perf_counter() - began)
            self.sent += 1

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.end()

    def end(self):
        self._end.set()
        self._thread.join()

    def on_disk(self):
        """Bytes of the spool's segments."""
        return sum(path.stat().st_size for path in self.spool.rglob("*.events"))

    async def until_handed_over(self, seconds):
        """Seconds until no more waits than what was sent in the last one."""
        began = time.monotonic()
        while self.transport.stats.spooled > EVENTS_A_SECOND:
            assert time.monotonic() - began < seconds, self.transport.stats
            await asyncio.sleep(0.02)
        return time.monotonic() - began


@pytest.mark.slow
@pytest.mark.timeout(AWAY_SECONDS + 180)
async def test_a_producer_that_was_away_gets_everything_in_order(vhost_url, tmp_path):
    """What a loop sent while the producer was away is in the log afterwards, all of it, in order, none dropped."""
    producer = Producer(vhost_url, tmp_path / "producer.log").start()
    try:
        with Loop(producer.url, tmp_path / "spool") as loop:
            await asyncio.sleep(2)
            assert 0 == await asyncio.to_thread(producer.stop)
            before = loop.sent
            await asyncio.sleep(AWAY_SECONDS)
            away, waiting, size = loop.sent - before, loop.transport.stats.spooled, loop.on_disk()
            await asyncio.to_thread(producer.start)
            drained = await loop.until_handed_over(120)
            await asyncio.sleep(2)
            loop.end()
        report = await asyncio.to_thread(loop.transport.close, 60)
        messages = await read_log(vhost_url, quiet=2.0, seconds=120)
    finally:
        producer.kill()

    table = Repeats()
    ticks = [m for m in messages if m.type == "tick"]
    read = [
        json.loads(slice_data(m.body))["n"]
        for m in ticks
        if not table.seen(m.headers["run"], m.headers["emitter"], m.headers["sequence"], m.message_id)
    ]
    print(
        f"\naway {AWAY_SECONDS:.0f} s: {loop.sent} events, {away} of them meanwhile, {waiting} waited in"
        f" {size / 1e6:.1f} MB; handed over {drained:.1f} s after the producer was ready; {len(ticks) - len(read)}"
        f" repeats in the log; {report.stats.retries} retries; the slowest send took {loop.slowest * 1000:.1f} ms"
    )
    assert (True, loop.sent, 0) == (report.complete, report.stats.accepted, report.stats.dropped)
    assert waiting >= away
    assert list(range(1, loop.sent + 1)) == read
