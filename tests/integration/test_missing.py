"""What an SDK had to drop is told by those who read the log: real parts from the agent's spool to the run's record."""

import asyncio
import json
import re

import httpx
from processes import Producer
from recorder_service import Recorder, until

from loopcast import LoopcastTransport
from loopcast.cli.runs import run_runs

EVENTS = 4000


class Gateway(Producer):
    """A running gateway."""

    module = "loopcast_gateway"


def told(ops, name):
    """A counter of a service's, summed over its labels."""
    text = httpx.get(f"{ops}/metrics").text
    return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*?}})? (\S+)$", text, re.MULTILINE))


def runs(public):
    answer = httpx.get(f"{public}/v1/experiments/exp/runs").json()
    return {run["run"]: (run.get("events"), run.get("missing", 0)) for run in answer["runs"]}


def said(log):
    return [json.loads(line) for line in log.read_bytes().splitlines() if b"events_never_came" in line]


async def test_what_a_full_spool_dropped_is_missing_to_who_reads(vhost_url, tmp_path, monkeypatch, capsys):
    """While its producer is away a small spool drops the oldest: the record and the list of runs miss just as many."""
    monkeypatch.setenv("LOOPCAST_SPOOL_MAX_BYTES", "300000")
    monkeypatch.setattr("loopcast.sdk.sender.pause", lambda tries, at_least, chance: 0.1)
    log = tmp_path / "recorder.log"
    with (
        Gateway(vhost_url, tmp_path / "gateway.log") as gateway,
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
        await asyncio.to_thread(until, lambda: runs(recorder.address("public")) == expected, 20, f"never {expected}")
        await asyncio.to_thread(until, lambda: said(gateway.log), 20)
        live = runs(gateway.url)
        recorded = told(recorder.address("ops"), "loopcast_recorder_missing_events_total")
        followed = told(gateway.ops_url, "loopcast_gateway_missing_events_total")
        run_runs("exp", everything=True, limit=10, json=False, url=gateway.url, data=tmp_path)
        lines = [*said(log), *said(gateway.log)]

    assert stats[0].full > 1000
    assert stats[0].accepted + stats[0].full == EVENTS + 1
    assert {"full": (None, stats[0].full), "spared": (None, 0)} == live
    assert (stats[0].full, stats[0].full) == (recorded, followed)
    assert f"{stats[0].full:,}" in capsys.readouterr().out
    assert {("full", "exp", "sqlite"), ("full", "exp", None)} == {
        (x["run"], x["experiment"], x.get("sink")) for x in lines
    }
