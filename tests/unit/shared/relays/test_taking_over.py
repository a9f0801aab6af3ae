"""A file that another relay followed before, whose last events are not delivered yet."""

import fcntl
import json
import os
import time

import pytest
from scripted import ScriptedProducer

from loopcast import LoopcastTransport
from loopcast.relays import running
from loopcast.relays.jsonl import JsonlSource
from loopcast.relays.little_loops import LittleLoopsSource
from loopcast.relays.running import run_relay
from loopcast.repeats import Repeats


@pytest.fixture
def producer():
    """A producer that is away until `back` is called."""
    with ScriptedProducer() as running:
        running.script = [503] * 10_000
        yield running


def back(producer):
    """The producer takes everything from now on; what it refused is forgotten."""
    producer.requests.clear()
    producer.script.clear()


def append(path, *numbers):
    with path.open("a") as file:
        file.writelines(json.dumps({"event": "x", "n": n}) + "\n" for n in numbers)


def killed(source, transport):
    """End it as SIGKILL does."""
    transport._sender.stop()
    transport._sender.join(5)
    source.close()


def delivered(producer):
    """What a reader sees, by the rule that all readers share."""
    table = Repeats()
    events = [event for path, _, batch, _ in producer.requests if path.endswith("/events") for event in batch]
    return [
        event["data"]["n"]
        for event in events
        if not table.seen(event["runid"], event["emitter"], int(event["sequence"]), event["id"])
    ]


def steps(source, condition, seconds=10.0):
    """Step until then."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        source.step()
        time.sleep(0.01)


@pytest.fixture
def left(producer, tmp_path):
    """A file of which a relay was killed that had read 0 to 9 and delivered none; the folder of its spool."""
    path = tmp_path / "f.jsonl"
    append(path, *range(10))
    transport = LoopcastTransport(producer.url, "e")
    source = JsonlSource(transport, path, tmp_path, from_end=False, run=None)
    source.step()
    killed(source, transport)
    append(path, *range(10, 20))
    (folder,) = tmp_path.glob("spool/*.spool")
    back(producer)
    return path, folder


def hold(folder):
    """Have it in hand as another process has it that sends it."""
    lock = os.open(folder / "lock", os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def test_numbers_wait_for_those_before(producer, left, tmp_path):
    """Another process has in hand what a killed relay left: the next one waits, and the log has all of it in order."""
    path, folder = left
    lock = hold(folder)
    transport = LoopcastTransport(producer.url, "e")
    source = JsonlSource(transport, path, tmp_path, from_end=False, run=None)
    for _ in range(20):
        source.step()
        time.sleep(0.01)
    waited = (source.is_waiting, source.counts.relayed)
    os.close(lock)
    steps(source, lambda: source.counts.relayed == 10)
    source.close()
    assert transport.close(10).complete

    assert (True, 0) == waited
    assert list(range(20)) == delivered(producer)
    assert 1 == len({event["emitter"] for _, _, batch, _ in producer.requests for event in batch})


def test_numbers_wait_no_longer_than_sense(producer, left, tmp_path, monkeypatch):
    """Whoever has it in hand hangs: the next relay goes on under another emitter, and what comes late is read too."""
    monkeypatch.setattr("loopcast.relays.files.WAIT_SECONDS", 0.2)
    path, folder = left
    lock = hold(folder)
    transport = LoopcastTransport(producer.url, "e")
    source = JsonlSource(transport, path, tmp_path, from_end=False, run=None)
    steps(source, lambda: source.counts.relayed == 10)
    transport.flush(10)
    os.close(lock)
    transport.take_over()
    deadline = time.monotonic() + 10
    while folder.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    source.close()
    assert transport.close(10).complete

    assert [*range(10, 20), *range(10)] == delivered(producer)
    events = [event for _, _, batch, _ in producer.requests for event in batch]
    assert [2, 20] == [len({event[key] for event in events}) for key in ("emitter", "id")]


def test_once_waits_too(producer, left, tmp_path, monkeypatch):
    """`--once` does not end before the lines that wait are relayed."""
    monkeypatch.setattr(running, "CLOSE_SECONDS", 10.0)
    monkeypatch.setattr("loopcast.relays.files.WAIT_SECONDS", 0.5)
    path, folder = left
    lock = hold(folder)
    transport = LoopcastTransport(producer.url, "e")
    source = JsonlSource(transport, path, tmp_path, from_end=False, run=None)
    code = run_relay(source, transport, once=True, clock=time.monotonic, name="file")
    os.close(lock)

    assert (0, list(range(10, 20))) == (code, delivered(producer))


def test_a_relay_that_tries_in_vain_takes_over(producer, tmp_path):
    """While the producer is away, a relay with a loop of its own takes another's file over: each event is read once."""
    folder = tmp_path / ".running"
    folder.mkdir()
    transports = [LoopcastTransport(producer.url, "e") for _ in range(2)]
    first, second = (LittleLoopsSource(t, folder, tmp_path, from_end=lambda _: False) for t in transports)
    append(folder / "a.events.jsonl", *range(10))
    first.step()
    append(folder / "b.events.jsonl", 100)
    steps(second, lambda: transports[1].stats.retries > 1)
    killed(first, transports[0])
    append(folder / "a.events.jsonl", *range(10, 20))
    steps(second, lambda: second.counts.relayed == 11, seconds=40)
    back(producer)
    second.close()
    assert transports[1].close(60).complete

    assert [*range(20), 100] == sorted(delivered(producer))
