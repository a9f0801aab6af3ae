"""Relays as programs, little-loops beside them, a real producer and a real RabbitMQ behind."""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from little_loops.transport import JsonlTransport, UnixSocketTransport, WebhookTransport
from processes import Producer, read_log

from loopcast.events import slice_data
from loopcast.repeats import Repeats

BIN = Path(sys.executable).parent
LITTLE_LOOPS_RUN = Path(__file__).parents[1] / "support" / "little_loops_run.py"


@pytest.fixture
def producer(vhost_url, tmp_path):
    """A running producer."""
    with Producer(vhost_url, tmp_path / "producer.log") as running:
        yield running


def relay(producer, *command):
    """Start `loopcast relay …` as a person does."""
    return subprocess.Popen(
        [BIN / "loopcast", "relay", *map(str, command)],
        env={**os.environ, "LOOPCAST_URL": producer.url, "LOOPCAST_EXPERIMENT": "e"},
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process):
    """End it as Ctrl-C does, and return what it said."""
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert 0 == process.returncode, said
    return said


def wait_for(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def once(messages):
    """The original events that a reader delivers, by the rule that all readers share."""
    table = Repeats()
    return [
        json.loads(slice_data(m.body))
        for m in messages
        if "sequence" in m.headers
        and not table.seen(m.headers["run"], m.headers.get("emitter"), m.headers.get("sequence"), m.message_id)
    ]


@pytest.mark.timeout(180)
@pytest.mark.parametrize("kills", [2, pytest.param(12, marks=pytest.mark.slow)])
async def test_a_relay_that_is_killed_again_and_again(producer, vhost_url, tmp_path, kills):
    """little-loops writes and rotates its file while the relay is killed at random moments: each event is read once."""
    path, count = tmp_path / "events.jsonl", 0
    transport = JsonlTransport(path)
    places = tmp_path / "spool" / "places"
    for n in range(kills):
        process = relay(producer, "jsonl", path)
        # What was rotated before the first of them ever saw the file is not its business.
        await asyncio.to_thread(wait_for, lambda: n or list(places.glob("*.json")))  # noqa: B023
        ended = time.monotonic() + random.uniform(1.0, 2.5)
        while time.monotonic() < ended:
            transport.send({"event": "tick", "n": count})
            count += 1
            if count % 700 == 0:
                path.rename(tmp_path / f"events.jsonl.{count}")
            await asyncio.sleep(0.001)
        process.kill()
        process.communicate()
    process = relay(producer, "jsonl", path, "--once")
    said = await asyncio.to_thread(process.communicate, None, 90)
    # Not so many and no more: what a killed relay repeated stands in the log twice.
    messages = await read_log(vhost_url, quiet=3.0)

    assert 0 == process.returncode, said
    assert list(range(count)) == [event["n"] for event in once(messages)]


@pytest.mark.timeout(120)
async def test_a_real_loop_through_its_files(producer, vhost_url, tmp_path):
    """`loopcast relay little-loops` beside a loop that hands over and resumes: the log has what its own JSONL has."""
    folder = tmp_path / "project"
    folder.mkdir()
    process = relay(producer, "little-loops", folder)
    await asyncio.to_thread(subprocess.run, [sys.executable, LITTLE_LOOPS_RUN, folder], check=True, timeout=60)
    expected = [json.loads(line) for line in (folder / "own.jsonl").read_text().splitlines()]
    messages = await read_log(vhost_url, count=len(expected))
    said = await asyncio.to_thread(end, process)

    assert expected == once(messages)
    assert 1 == len({m.headers["run"] for m in messages if "sequence" in m.headers})
    assert {1, 2} == {m.headers["attempt"] for m in messages if "sequence" in m.headers}
    assert f"{len(expected)} relayed; {len(expected)} accepted, 0 spooled, 0 dropped" in said


async def test_little_loops_socket_through_the_command(producer, vhost_url, tmp_path):
    """`loopcast relay unix` beside the real transport: what it sends is in the log."""
    transport = UnixSocketTransport(tmp_path / "s")
    process = relay(producer, "unix", tmp_path / "s")
    await asyncio.to_thread(wait_for, lambda: transport._clients)
    for n in range(500):
        transport.send({"event": "tick", "n": n})
        await asyncio.sleep(0)
    messages = await read_log(vhost_url, count=500)
    transport.close()
    said = await asyncio.to_thread(end, process)

    assert list(range(500)) == [event["n"] for event in once(messages)]
    assert "500 relayed" in said


async def test_little_loops_own_webhook(producer, vhost_url):
    """little-loops' webhook, pointed at the producer: its batches are in the log, as one run of their source."""
    url = f"{producer.url}/v1/experiments/e/events"
    transport = WebhookTransport(url, batch_ms=20, headers={"Loopcast-Source": "laptop"})
    for n in range(300):
        transport.send({"event": "tick", "ts": "2026-11-20T17:38:28.606955+00:00", "n": n})
        await asyncio.sleep(0.001)
    await asyncio.to_thread(transport.close)
    messages = [m for m in await read_log(vhost_url, count=300) if "sequence" in m.headers]

    assert list(range(300)) == [json.loads(slice_data(m.body))["n"] for m in messages]
    assert 1 == len({m.headers["run"] for m in messages})
    assert next(iter(messages)).headers["run"].startswith("src-")


def test_a_wrong_use_says_what_to_do(tmp_path):
    """A bad option and a bad address end in one line and exit code 2."""
    for command, words in (
        (["jsonl", "f", "--from", "middle"], "beginning or end"),
        (["jsonl", "f", "--url", "nonsense"], "LOOPCAST_URL"),
    ):
        done = subprocess.run(
            [BIN / "loopcast", "relay", *command], cwd=tmp_path, capture_output=True, text=True, timeout=60
        )
        assert (2, 1) == (done.returncode, len(done.stderr.splitlines())), done.stderr
        assert words in done.stderr
