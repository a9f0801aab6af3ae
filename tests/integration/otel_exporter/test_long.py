"""What takes long: loops of ten hours, backends that are away for longer than a broker's patience, days of events."""

import asyncio
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import msgspec
import pytest
from otel_receiver import AWAY, Receiver
from otel_service import Exporter, loops, publish, until
from otel_streams import envelopes, expected, items

from loopcast.node.ports import free_ports
from loopcast_otel_exporter.fold import MAX_RUNS

pytestmark = pytest.mark.timeout(180)


def ten_hours(states=400):
    """One loop whose events' own times go over ten hours; a prompt in each state, its output a line."""
    began, raw = datetime(2026, 11, 20, 8, tzinfo=UTC), []

    def add(name, **data):
        at = began + timedelta(hours=10) * (len(raw) / (states * 5 + 2))
        raw.append({"event": name, "ts": at.isoformat(), **data})

    add("loop_start", loop="long")
    for number in range(1, states + 1):
        add("state_enter", state=f"s{number % 7}", iteration=number)
        add("action_start", action="go on", is_prompt=True)
        add("action_output", line=f"line {number}")
        add("action_complete", exit_code=0, duration_ms=60_000, is_prompt=True, model="m", input_tokens=5)
        add("route", **{"from": f"s{number % 7}", "to": f"s{(number + 1) % 7}"})
    add("loop_complete", final_state="done", iterations=states, terminated_by="terminal", failure_terminal=False)
    return envelopes(raw)


async def test_a_ten_hour_loop_is_restarted_in_the_middle(vhost_url, receiver, tmp_path):
    """SIGKILL at half of it: its chapters, the links between them and the loop's span are as if nothing had been."""
    events = ten_hours()
    spans, logs = expected(events)
    half = len(events) // 2
    with Exporter(vhost_url, receiver, tmp_path / "log") as exporter:
        await publish(vhost_url, events[:half])
        await until(lambda: len(receiver.spans) > len(spans) // 3)
        exporter.kill()
    with Exporter(vhost_url, receiver, tmp_path / "log"):
        await publish(vhost_url, events[half:])
        await until(lambda: len(receiver.spans) >= len(spans) and len(receiver.logs) >= len(logs), 60)

    assert (spans, logs) == (items(receiver.spans), items(receiver.logs))
    chapters = [span for _, span in receiver.spans.values() if span.name == "invoke_workflow long"]
    assert 2 == len(chapters) == len({span.trace_id for span in chapters})
    hours = [(span.end_time_unix_nano - span.start_time_unix_nano) / 3600e9 for span in chapters]
    assert [4, 6] == [round(number) for number in sorted(hours)]
    assert [] == receiver.faults()


@pytest.mark.slow
async def test_a_backend_away_for_longer_than_the_broker_is_patient(
    vhost_url, receiver, tmp_path, short_consumer_timeout
):
    """Away for four times the consumer timeout, while events come: then all of it, once, and memory did not grow."""
    events = loops(200)
    spans, logs = expected(events)
    away = [True]

    def behave(*_):
        if away[0]:
            raise AWAY

    receiver.behave = behave
    with Exporter(vhost_url, receiver, tmp_path / "log") as exporter:
        await publish(vhost_url, events[:1000])
        await until(lambda: receiver.requests)
        await asyncio.sleep(2)
        before = resident(exporter.process.pid)
        await publish(vhost_url, events[1000:], pause=0.5)
        await asyncio.sleep(12)
        grown = resident(exporter.process.pid) - before
        away[0] = False
        await until(lambda: len(receiver.spans) >= len(spans) and len(receiver.logs) >= len(logs), 90)

    assert (spans, logs) == (items(receiver.spans), items(receiver.logs))
    assert [] == receiver.faults()
    assert grown < 8_000_000


async def test_each_backend_has_a_reader_of_its_own(vhost_url, receiver, tmp_path):
    """Two exporters with two names: one backend away holds up nobody, and gets all of it when it is back."""
    events = loops(30)
    spans, logs = expected(events)
    away = [True]

    def behave(*_):
        if away[0]:
            raise AWAY

    def complete(one):
        return len(one.spans) >= len(spans) and len(one.logs) >= len(logs)

    with (
        Receiver(behave) as second,
        Exporter(vhost_url, receiver, tmp_path / "first"),
        Exporter(vhost_url, second, tmp_path / "second", otel_reader="second") as other,
    ):
        await publish(vhost_url, events)
        await until(lambda: complete(receiver))
        await until(lambda: second.requests)
        assert {} == second.spans
        # What it has not delivered is not in its checkpoint, so that a restart changes nothing.
        other.kill()
        other.start()
        away[0] = False
        await until(lambda: complete(second) and receiver.metrics and second.metrics)

    for one in (receiver, second):
        assert (spans, logs) == (items(one.spans), items(one.logs))
        assert [] == one.faults()
    assert {"otel-exporter/otel/p00"} == {instance for instance, _, _ in receiver.sums()}
    assert {"otel-exporter/second/p00"} == {instance for instance, _, _ in second.sums()}


def resident(pid):
    """Bytes of memory that a process holds."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def read(port):
    """How many events the exporter has read, by its own count."""
    try:
        lines = httpx.get(f"http://127.0.0.1:{port}/metrics").text.splitlines()
    except httpx.TransportError:
        return 0
    return next((float(line.split()[1]) for line in lines if line.startswith("loopcast_otel_events_total")), 0)


def of_another_run(event, number):
    """The same event in a run, and of an emitter, of its own."""
    emitter = f"{int(event.emitter, 16) + (number << 16):016x}"
    return msgspec.structs.replace(event, run=f"{event.run}-{number}", emitter=emitter)


@pytest.mark.slow
@pytest.mark.timeout(1200)
async def test_memory_stays_flat(vhost_url, tmp_path):
    """Loop after loop for `LOOPCAST_TEST_SOAK_EVENTS` events: what ended is forgotten, however many there were."""
    total = int(os.environ.get("LOOPCAST_TEST_SOAK_EVENTS", "800000"))
    seen = [0]
    sizes = []
    with Receiver() as receiver:
        # The receiver is in this process and need not remember.
        receiver._store = lambda signal, request: seen.__setitem__(0, seen[0] + 1)
        (port,) = free_ports(1)
        settings = {"ops_port": port, "otel_checkpoint_seconds": 5, "otel_flush_seconds": 1}
        with Exporter(vhost_url, receiver, tmp_path / "log", **settings) as exporter:
            published = 0
            while published < total:
                events = [of_another_run(event, published) for event in loops(1000, seed=published)]
                await publish(vhost_url, events, chunk=2000)
                published += len(events)
                await until(lambda count=published: read(port) >= count, 120)
                sizes.append(resident(exporter.process.pid))

    print([f"{size / 2**20:.0f} MiB" for size in sizes])
    # It remembers 20,000 runs and their emitters; from there on it is flat.
    settled = sizes[MAX_RUNS // 1000 + 1 :]
    assert len(settled) > 5
    assert max(settled[-3:]) - min(settled[:3]) < 24 * 2**20
