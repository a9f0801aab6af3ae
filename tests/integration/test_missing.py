"""What an SDK had to drop is told by those who read the log: real parts from the agent's spool to the run's record."""

import asyncio
import json
import re

import httpx
from processes import Producer
from recorder_service import Recorder, until

from loopcast import LoopcastTransport

EVENTS = 4000


def told(recorder, name):
    """A counter of a recorder's, summed over its labels."""
    text = httpx.get(f"{recorder.address('ops')}/metrics").text
    return sum(float(value) for value in re.findall(rf"^{name}{{.*?}} (\S+)$", text, re.MULTILINE))


def runs(recorder):
    answer = httpx.get(f"{recorder.address('public')}/v1/experiments/exp/runs").json()
    return {run["run"]: (run["events"], run["missing"]) for run in answer["runs"]}


async def test_what_a_full_spool_dropped_is_missing_in_the_runs_record(vhost_url, tmp_path, monkeypatch):
    """While its producer is away a small spool drops the oldest: as many as the SDK counts, the run's record misses."""
    monkeypatch.setenv("LOOPCAST_SPOOL_MAX_BYTES", "300000")
    monkeypatch.setattr("loopcast.sdk.sender.pause", lambda tries, at_least, chance: 0.1)
    log = tmp_path / "recorder.log"
    with (
        Producer(vhost_url, tmp_path / "producer.log") as producer,
        Recorder(vhost_url, log, recorder_sqlite=tmp_path / "recorder.db") as recorder,
    ):
        full, spared = LoopcastTransport(producer.url, "exp", "full"), LoopcastTransport(producer.url, "exp", "spared")
        for transport in (full, spared):
            transport.send({"event": "loop_start", "loop": "demo"})
            assert (await asyncio.to_thread(transport.flush, 20)).complete
        producer.kill()
        for n in range(EVENTS):
            full.send({"event": "note", "n": n})
        spared.send({"event": "note"})
        await asyncio.to_thread(producer.start)
        stats = [(await asyncio.to_thread(transport.close, 30)).stats for transport in (full, spared)]
        expected = {"full": (stats[0].accepted, stats[0].full), "spared": (2, 0)}
        await asyncio.to_thread(until, lambda: runs(recorder) == expected, 20, f"never {expected}")
        metric = told(recorder, "loopcast_recorder_missing_events_total")
        lines = [json.loads(line) for line in log.read_bytes().splitlines() if b"events_never_came" in line]

    assert stats[0].full > 1000
    assert stats[0].accepted + stats[0].full == EVENTS + 1
    assert stats[0].full == metric
    assert ("full", "exp", "sqlite") == (lines[0]["run"], lines[0]["experiment"], lines[0]["sink"])
