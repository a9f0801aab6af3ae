"""The exporter as a process: a real RabbitMQ before it, a strict receiver behind it."""

import asyncio
import time
from pathlib import Path

import msgspec
import pytest
from otel_receiver import AWAY, Receiver
from otel_service import Exporter, loops, publish, until
from otel_streams import expected, fold, items

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def exporter(vhost_url, receiver, tmp_path):
    """One replica, not started."""
    made = Exporter(vhost_url, receiver, tmp_path / "exporter.log")
    yield made
    if made.process is not None:
        made.__exit__()
        print((tmp_path / "exporter.log").read_text()[-4000:])


async def test_every_span_and_record_of_the_log_arrives(vhost_url, exporter, receiver):
    """Ten interleaved loops: the spans that a fold gives, byte for byte, under the right parents."""
    events = loops(10)
    spans, logs = expected(events)

    with exporter:
        await publish(vhost_url, events)
        await until(lambda: len(receiver.spans) >= len(spans) and len(receiver.logs) >= len(logs))
        await asyncio.sleep(0.5)

    assert spans == items(receiver.spans)
    assert logs == items(receiver.logs)
    assert [] == receiver.faults()


async def test_sigterm_delivers_what_was_read_and_ends_with_0(vhost_url, exporter, receiver, tmp_path):
    """A drain flushes and writes a checkpoint, so the next one exports nothing again."""
    events = loops(5)
    spans, _ = expected(events)
    with exporter:
        await publish(vhost_url, events)
        await until(lambda: len(receiver.spans) >= len(spans))
        assert 0 == exporter.terminate()
    sent = len([s for _, s, _ in receiver.requests if s == "traces"])

    with exporter:
        await until(lambda: (tmp_path / "exporter.log").read_text().count("partition_taken") == 2)
        await asyncio.sleep(1)
        assert 0 == exporter.terminate()

    assert sent == len([s for _, s, _ in receiver.requests if s == "traces"])


async def test_a_drain_does_not_wait_for_a_backend_that_is_away(vhost_url, exporter, receiver):
    """What it does not take is in the log: the process ends at once, with 0."""

    def behave(*_):
        raise AWAY

    receiver.behave = behave
    with exporter:
        await publish(vhost_url, loops(3))
        await until(lambda: len(receiver.requests) > 1)
        started = time.monotonic()

        assert 0 == exporter.terminate()
        assert time.monotonic() - started < 10


async def test_a_restart_in_the_middle_of_every_loop_changes_nothing(vhost_url, exporter, receiver):
    """Half the events, SIGKILL, the other half: no span lost, none twice with other bytes."""
    events = loops(10)
    spans, logs = expected(events)
    with exporter:
        await publish(vhost_url, events[: len(events) // 2])
        await until(lambda: len(receiver.spans) > len(spans) // 4)
        exporter.kill()

    with exporter:
        await publish(vhost_url, events[len(events) // 2 :])
        await until(lambda: len(receiver.spans) >= len(spans) and len(receiver.logs) >= len(logs))

    assert spans == items(receiver.spans)
    assert [] == receiver.faults()


@pytest.mark.slow
async def test_a_backend_that_was_away_gets_everything_and_memory_does_not_grow(vhost_url, exporter, receiver):
    """While it is away the log is not read on, and the lag grows; when it is back all of it arrives."""
    events = loops(300)
    spans, logs = expected(events)
    away = [True]

    def behave(*_):
        if away[0]:
            raise AWAY

    receiver.behave = behave
    with exporter:
        await publish(vhost_url, events[:2000])
        await until(lambda: receiver.requests)
        await asyncio.sleep(2)
        before = _resident(exporter.process.pid)
        await publish(vhost_url, events[2000:])
        await asyncio.sleep(8)
        grown, late = _resident(exporter.process.pid) - before, exporter.lag()
        away[0] = False
        await until(lambda: len(receiver.spans) >= len(spans) and len(receiver.logs) >= len(logs), 90)
        arrived = items(receiver.spans)
        now = time.time()
        await publish(vhost_url, loops(1, seed=1, experiments=1, started=now))
        # What came last was taken a moment ago: nothing older is missing.
        await until(lambda: exporter.lag() < time.time() - now)

    assert spans == arrived
    assert [] == receiver.faults()
    assert grown < 8_000_000
    assert late > 10


async def test_metrics_add_up_over_a_kill(vhost_url, exporter, receiver):
    """Counts go on from the checkpoint: never back, and exact in the end."""
    events = loops(30)
    with exporter:
        await publish(vhost_url, events[:400])
        await until(lambda: receiver.metrics)
        exporter.kill()
    with exporter:
        await publish(vhost_url, events[400:])
        instance = "otel-exporter/otel/p00"
        await until(lambda: _counted(receiver, instance) == len(events))

    wanted = fold(events).state.measurements
    counted = {(name, *(value for _, value in labels)): v for (_, name, labels), v in receiver.sums().items()}
    durations = {
        tuple(label for label in key if label): (sum(h.counts), round(h.total / 1e9, 9), tuple(h.counts))
        for key, h in wanted.histograms.items()
    }
    assert {**wanted.sums, **durations} == counted


def _counted(receiver, instance):
    return sum(v for (i, name, _), v in receiver.sums().items() if (i, name) == (instance, "loop.events"))


def _resident(pid):
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


async def test_its_own_traces_go_where_the_standard_variables_say(vhost_url, receiver, tmp_path, monkeypatch):
    """Batches as spans of the service, in another backend; the loops' traces have none of them."""
    events = [msgspec.structs.replace(event, traceparent=CALLER) for event in loops(2)]
    with Receiver() as own:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", own.http_endpoint)
        with Exporter(vhost_url, receiver, tmp_path / "log") as exporter:
            await publish(vhost_url, events)
            await until(lambda: len(receiver.spans) >= len(expected(events)[0]))
            assert 0 == exporter.terminate()

        assert {"process loopcast.log.0"} == set(own.names())
        assert {CALLER[36:52]} == {link.span_id.hex() for _, span in own.spans.values() for link in span.links}
    assert "process loopcast.log.0" not in receiver.names()


async def test_a_number_that_never_comes_does_not_hold_a_quiet_log(vhost_url, exporter, receiver):
    """An event was refused on its way: when nothing else comes, the exporter tells the log the time and goes on."""
    events = loops(1)
    spans, _ = expected(events)
    with exporter:
        await publish(vhost_url, [*events[:20], *events[21:]])
        await until(lambda: "invoke_workflow demo-parent" in receiver.names(), 60)

    assert len(spans) - 1 <= len(receiver.spans) <= len(spans)
    assert [] == receiver.faults()
