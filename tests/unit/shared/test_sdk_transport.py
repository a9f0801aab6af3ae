"""The SDK's transport against a producer that answers what a test wants."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from certificates import Authority
from little_loops.events import EventBus
from little_loops.transport import Transport as LittleLoopsTransport
from scripted import ScriptedProducer, receipt

import loopcast
from loopcast import LoopcastTransport, Transport
from loopcast.events import MAX_EVENT_BYTES
from loopcast.sdk.deadline import DeadlineSocket


@pytest.fixture
def producer():
    """A producer that takes everything, unless a test scripts it otherwise."""
    with ScriptedProducer() as running:
        yield running


@pytest.fixture
def quick(monkeypatch):
    """Retries without the waiting."""
    monkeypatch.setattr("loopcast.sdk.sender.pause", lambda tries, at_least, chance: 0.01)


@pytest.fixture
def transport(producer):
    """A transport to that producer."""
    made = LoopcastTransport(producer.url, "exp/1")
    yield made
    made.close(0.2)


def exact(stats):
    assert stats.emitted == stats.accepted + stats.spooled + stats.dropped
    assert stats.dropped == stats.full + stats.refused + stats.redacted + stats.failed + stats.unsaved
    return stats


def test_it_is_a_transport_of_little_loops(transport):
    """The real protocol of little-loops, which is checkable at run time, and ours both know it."""
    assert isinstance(transport, LittleLoopsTransport)
    assert isinstance(transport, Transport)
    assert not isinstance(object(), Transport)


def test_the_real_event_bus_sends_through_it(producer):
    """Every event that little-loops' bus emits arrives, in order, and closing the bus delivers the last one."""
    bus = EventBus()
    transport = LoopcastTransport(producer.url, "exp/1")
    bus.add_transport(transport)

    for n in range(50):
        bus.emit({"event": "state_enter", "n": n})
    bus.close_transports()

    assert [{"event": "state_enter", "n": n} for n in range(50)] == [e for batch in producer.taken for e in batch]
    assert (50, 0) == (exact(transport.stats).accepted, transport.stats.spooled)


def test_events_arrive_as_cloudevents_of_the_experiment(producer):
    """The path has the experiment, percent-encoded; the batch has stamped envelopes; the token goes along."""
    transport = LoopcastTransport(producer.url, "exp/1", "run-1", token="t0ken")
    transport.send({"event": "loop_start", "loop": "demo"})
    report = transport.close()

    ((path, headers, (event,), _),) = producer.requests
    assert report.complete
    assert "/v1/experiments/exp%2F1/events" == path
    assert ("application/cloudevents-batch+json", "Bearer t0ken") == (
        headers["Content-Type"],
        headers["Authorization"],
    )
    assert ("1.0", "loop_start", "exp/1", "run-1", "demo", 1, "1".zfill(20)) == tuple(
        event[name] for name in ("specversion", "type", "experimentid", "runid", "subject", "attempt", "sequence")
    )


def test_one_connection_carries_all_batches(producer, transport):
    """The connection is kept open from batch to batch."""
    for _ in range(5):
        transport.send({})
        assert transport.flush().complete

    assert (5, 1) == (len(producer.requests), len(producer.connections))


def test_batches_over_tls_share_a_connection_too(tmp_path, monkeypatch):
    """Over HTTPS events arrive, and answers are read, on one connection that is kept open."""
    authority = Authority(tmp_path / "authority")
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    with ScriptedProducer(tls=authority.server("IP:127.0.0.1")) as producer:
        transport = LoopcastTransport(producer.url, "e")
        for n in range(5):
            transport.send({"n": n, "x": "y" * 100_000})
            assert transport.flush().complete
        transport.close()

    assert [[n] for n in range(5)] == [[event["n"] for event in batch] for batch in producer.taken]
    assert 1 == len(producer.connections)


def test_send_does_not_wait_for_a_producer_that_stands_still(producer, transport):
    """While a request hangs, a thousand events are taken in no time, and sent in few batches afterwards."""
    producer.hold.clear()
    transport.send({})
    began = time.perf_counter()
    for _ in range(1000):
        transport.send({"event": "x"})
    took = time.perf_counter() - began
    assert (1001, 0) == (exact(transport.stats).spooled, transport.stats.accepted)
    producer.hold.set()

    assert transport.flush(10).complete
    assert took < 1
    assert len(producer.requests) <= 5


def test_send_opens_no_socket(producer, monkeypatch):
    """Nothing of the network happens in the caller's thread."""
    mine = threading.get_ident()
    real = socket.socket.connect

    def connect(sock, address):
        assert threading.get_ident() != mine
        return real(sock, address)

    monkeypatch.setattr(socket.socket, "connect", connect)
    transport = LoopcastTransport(producer.url, "e")
    transport.send({})

    assert transport.close().complete


@pytest.mark.parametrize("event", [None, 5, "text", [1], {1: {2}}, {"event": float("nan")}, {"x": object()}])
def test_send_never_raises(producer, transport, event):
    """Whatever is handed over becomes an event."""
    transport.send(event)

    assert transport.flush().complete
    assert (1, 1) == (exact(transport.stats).emitted, transport.stats.accepted)


def test_an_event_is_as_it_was_when_it_was_sent(producer, transport):
    """What the loop does with its dict afterwards changes nothing."""
    event = {"event": "x", "list": [1]}
    transport.send(event)
    event["list"].append(2)
    event["event"] = "y"
    transport.flush()

    assert [[{"event": "x", "list": [1]}]] == producer.taken


def test_failures_are_tried_again_with_the_same_ids(producer, transport, quick):
    """Over 503s, closed connections and an answer that is none, each event is delivered once, in order, same id."""
    producer.script = [503, (None, {}, b""), 502, (202, {}, b"not a receipt"), 429]
    for n in range(3):
        transport.send({"n": n})
        time.sleep(0.05)
    assert transport.flush(20).complete

    ids = [[event["id"] for event in events] for _, _, events, _ in producer.requests]
    delivered = [n for batch in producer.taken for n in (event["n"] for event in batch)]
    assert 1 == len({batch[0] for batch in ids[:6]})
    assert [0, 1, 2] == sorted(set(delivered), key=delivered.index)
    assert exact(transport.stats).accepted == 3
    assert 4 <= transport.stats.retries <= 5


def test_retry_after_is_kept(producer, transport):
    """A producer that asks for a second gets it."""
    producer.script = [(503, {"Retry-After": "1"}, b"{}")]
    transport.send({})
    assert transport.flush(10).complete

    first, second = (request[3] for request in producer.requests)
    assert second - first >= 1


def test_a_batch_that_is_too_large_is_split(producer, transport, quick):
    """413 is answered with smaller batches until all but the one at fault are delivered."""
    producer.hold.clear()
    transport.send({"n": -1})
    time.sleep(0.1)
    for n in range(20):
        transport.send({"n": n})
    producer.script = [202] + [lambda events: 413 if any(e["data"]["n"] == 7 for e in events) else 202] * 50
    producer.hold.set()
    assert transport.flush(20).complete

    stats = exact(transport.stats)
    assert (20, 1) == (stats.accepted, stats.refused)
    good = [e["data"]["n"] for _, _, events, _ in producer.requests for e in events]
    assert set(range(-1, 20)) == set(good)


def test_a_producer_that_is_slow_gets_less_at_once(producer, quick, monkeypatch):
    """Where a whole batch takes longer than a request may, it goes in pieces that do not; nothing is given up."""
    monkeypatch.setattr("loopcast.sdk.post.TIMEOUT_SECONDS", 0.4)

    def slowly(events):
        time.sleep(0.001 * len(events))
        return 202

    producer.script = [slowly] * 100
    transport = LoopcastTransport(producer.url, "e")
    for n in range(1000):
        transport.send({"n": n})
    complete = transport.close(20).complete

    stats = exact(transport.stats)
    assert (True, 1000, 0) == (complete, stats.accepted, stats.dropped)
    assert list(range(1000)) == sorted({event["n"] for batch in producer.taken for event in batch})
    # It is learned once, not for each batch.
    assert stats.retries <= 3


def test_a_batch_that_is_split_and_slow_arrives_whole(producer, quick, monkeypatch):
    """Smaller for two reasons at once, 413 and a request that took long: each event arrives, in order, once."""
    monkeypatch.setattr("loopcast.sdk.post.TIMEOUT_SECONDS", 2.0)
    producer.script = [413, lambda _: time.sleep(0.6) or 503]
    producer.hold.clear()
    transport = LoopcastTransport(producer.url, "e")
    for n in range(1000):
        transport.send({"n": n})
    producer.hold.set()
    assert transport.close(20).complete

    assert 1000 == exact(transport.stats).accepted
    assert list(range(1000)) == [event["n"] for batch in producer.taken[2:] for event in batch]


def test_a_producer_that_was_slow_gets_whole_batches_again(producer, quick, monkeypatch):
    """One stall costs a few small requests, not the rest of the process's life."""
    monkeypatch.setattr("loopcast.sdk.post.TIMEOUT_SECONDS", 0.4)
    producer.script = [lambda _: time.sleep(0.6) or 503] * 3
    transport = LoopcastTransport(producer.url, "e")
    for n in range(2000):
        transport.send({"n": n})
    assert transport.close(20).complete

    sizes = [len(batch) for batch in producer.taken]
    assert min(sizes[1:5]) < 200
    assert 500 == max(sizes[3:])


@pytest.mark.parametrize("answer", [b"HTTP/1.1 202 OK\r\nContent-Length: 9999\r\n\r\n", b"HTTP/1.1 202 OK\r\nX: "])
def test_an_answer_that_drips_is_given_up(monkeypatch, answer):
    """A request has its time as a whole: a byte now and then, of the body or of the head, does not renew it."""
    monkeypatch.setattr("loopcast.sdk.post.TIMEOUT_SECONDS", 0.3)

    def drip(server):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = server.accept()
                threading.Thread(target=drop_by_drop, args=(connection,), daemon=True).start()

    def drop_by_drop(connection):
        with connection, contextlib.suppress(OSError):
            connection.recv(1 << 20)
            connection.sendall(answer)
            for _ in range(400):
                connection.sendall(b" ")
                time.sleep(0.05)

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=drip, args=(server,), daemon=True).start()
        transport = LoopcastTransport(f"http://127.0.0.1:{server.getsockname()[1]}", "e")
        transport.send({})
        deadline = time.monotonic() + 10
        while not transport.stats.retries:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        transport.close(0)

    assert "TimeoutError: timed out" == transport.stats.error


def test_a_body_that_is_not_read_is_given_up(monkeypatch):
    """A server that takes a little of a request now and then does not hold the connection beyond the time either."""
    near, far = socket.socketpair()
    with near, far:
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        ended = threading.Event()

        def sip():
            while not ended.wait(0.05):
                far.recv(1024)

        threading.Thread(target=sip, daemon=True).start()
        timed = DeadlineSocket(near)
        began = time.monotonic()
        timed.deadline = began + 0.3
        with pytest.raises(TimeoutError):
            timed.sendall(bytes(10_000_000))
        ended.set()

    assert 0.3 <= time.monotonic() - began < 5


def no_thread(_):
    raise RuntimeError("can't start new thread")


@pytest.mark.parametrize("status", [400, 422])
def test_what_a_stranger_refuses_is_kept(producer, transport, quick, caplog, status):
    """A server that is no producer, such as one of HTTPS that is spoken to in plain HTTP, gives up no event of ours."""
    page = (status, {}, b"<html>The plain HTTP request was sent to HTTPS port</html>")
    producer.script = [page, page]
    with caplog.at_level(logging.WARNING, "loopcast"):
        for n in range(3):
            transport.send({"n": n})
        assert transport.flush(10).complete

    assert (3, 0) == (exact(transport.stats).accepted, transport.stats.dropped)
    assert [{"n": n} for n in range(3)] == [event for batch in producer.taken[2:] for event in batch]
    assert "LOOPCAST_URL" in caplog.text


def test_a_system_without_threads_to_give_costs_no_event(producer, monkeypatch):
    """Where no thread can be had the event waits in the spool, and the next event tries again."""
    transport = LoopcastTransport(producer.url, "exp-1")
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", no_thread)
        transport.send({"n": 1})
        assert not transport.flush(0.05).complete
    transport.send({"n": 2})

    assert transport.close().complete
    assert [[{"n": 1}, {"n": 2}]] == producer.taken
    assert (2, 0) == (exact(transport.stats).accepted, transport.stats.dropped)


def test_a_transport_that_got_no_thread_closes(producer, monkeypatch):
    """Then what was taken is left to the next process, and nothing is raised."""
    transport = LoopcastTransport(producer.url, "exp-1")
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", no_thread)
        transport.send({"n": 1})
        report = transport.close(0.05)
    following = LoopcastTransport(producer.url, "exp-1")
    following.send({"n": 2})
    following.close()

    assert (False, 1) == (report.complete, exact(report.stats).spooled)
    assert [{"n": 1}, {"n": 2}] == [event for batch in producer.taken for event in batch]


def test_what_the_producer_refuses_is_counted_and_said(producer, transport, caplog):
    """An event that is refused for good is dropped, counted, and there is one line about it."""
    producer.script = [lambda events: (202, {}, receipt(events, invalid={0}))]
    with caplog.at_level(logging.WARNING, "loopcast"):
        transport.send({})
        assert transport.flush().complete

    assert (0, 1, "scripted") == (exact(transport.stats).accepted, transport.stats.refused, transport.stats.error)
    (line,) = [record.getMessage() for record in caplog.records]
    assert "1 events were refused for good: scripted" in line


@pytest.mark.parametrize(("status", "setting"), [(401, "LOOPCAST_TOKEN"), (404, "LOOPCAST_URL")])
def test_what_only_the_user_can_mend_is_said_at_once(transport, producer, caplog, status, setting):
    """A token that is not taken, and an address of something else, are told of after the first try."""
    producer.script = [status]
    with caplog.at_level(logging.WARNING, "loopcast"):
        transport.send({})
        deadline = time.monotonic() + 10
        while not caplog.records:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    assert 1 == transport.stats.retries
    assert setting in caplog.text


def test_a_producer_that_is_away_is_said_once(transport, producer, quick, caplog):
    """Many tries, one line."""
    producer.script = [503] * 20
    with caplog.at_level(logging.WARNING, "loopcast"):
        transport.send({})
        assert transport.flush(20).complete

    assert 20 == transport.stats.retries
    assert 1 == len(caplog.records)
    assert f"1 events wait, {producer.url} (LOOPCAST_URL)" in caplog.records[0].getMessage()


def test_a_full_buffer_follows_its_policy(producer):
    """What goes is what was said to go, and it is counted exactly."""
    for policy, kept in (("drop_oldest", 9), ("drop_newest", 1)):
        producer.requests.clear()
        producer.hold.clear()
        transport = LoopcastTransport(producer.url, "e", max_bytes=3000, full=policy)
        transport.send({"n": 0})
        time.sleep(0.2)
        for n in range(1, 10):
            transport.send({"n": n, "x": "y" * 200})
        stats = exact(transport.stats)
        producer.hold.set()
        report = transport.close(10)

        assert stats.full > 0
        assert report.complete
        assert 10 - stats.full == exact(report.stats).accepted
        numbers = [e["n"] for batch in producer.taken for e in batch]
        assert sorted(numbers) == numbers
        assert 0 == numbers[0]
        assert kept in numbers


def test_what_was_changed_for_json_stays_counted(transport):
    """The count of a source outlives it: `coerced` never falls."""
    source = transport.source(remember=False)
    transport.relay(source, {"set": {1, 2}})
    before = transport.stats.coerced
    transport.drop_source(source)

    assert 0 < before == transport.stats.coerced


def test_redact_is_called_before_anything_is_kept(producer):
    """What redact gives is what is sent; None and an error drop the event, counted."""

    def redact(event):
        if event.get("n") == 2:
            return None
        if event.get("n") == 3:
            raise RuntimeError("no")
        return {**event, "key": "***"}

    transport = LoopcastTransport(producer.url, "e", redact=redact)
    for n in (1, 2, 3):
        transport.send({"n": n, "key": "secret"})
    report = transport.close()

    assert [[{"n": 1, "key": "***"}]] == producer.taken
    assert (1, 2) == (exact(report.stats).accepted, report.stats.redacted)


def test_after_close_events_are_counted_as_lost(producer):
    """Nothing is sent after close, and nobody is told that it was; closing again does nothing."""
    transport = LoopcastTransport(producer.url, "e")
    transport.send({})
    assert transport.close().complete
    transport.send({})

    assert (2, 1, 1) == (exact(transport.stats).emitted, transport.stats.accepted, transport.stats.failed)
    assert transport.close() == transport.close()


def test_close_without_a_producer_says_what_is_left(caplog):
    """With nobody to send to, close returns in time, and says how many events were not delivered."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        transport = LoopcastTransport(f"http://127.0.0.1:{nobody.getsockname()[1]}", "e")
        for _ in range(3):
            transport.send({})
        began = time.monotonic()
        with caplog.at_level(logging.WARNING, "loopcast"):
            report = transport.close(0.5)

    assert time.monotonic() - began < 3
    assert (False, 3, 0) == (report.complete, exact(report.stats).spooled, report.stats.accepted)
    assert "3 of 3 events were not delivered" in caplog.records[-1].getMessage()


def test_a_flush_of_nothing_is_complete():
    """A transport that never sent anything has nothing to wait for, and starts no thread for it."""
    transport = LoopcastTransport("http://127.0.0.1:1", "e")

    assert transport.flush(0).complete
    assert transport._sender._thread is None
    assert transport.close(0).complete


def test_threads_share_a_transport(producer, transport):
    """Events of many threads are numbered and sent in one order, none lost."""

    def emit(name):
        for n in range(200):
            transport.send({"thread": name, "n": n})

    threads = [threading.Thread(target=emit, args=(n,)) for n in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert transport.flush(20).complete

    events = [event for _, _, batch, _ in producer.requests for event in batch]
    assert list(range(1, 1001)) == [int(event["sequence"]) for event in events]
    for name in range(5):
        assert list(range(200)) == [e["data"]["n"] for e in events if e["data"]["thread"] == name]


def test_a_signal_handler_may_send(producer, transport):
    """A handler that runs in the middle of `send` deadlocks nothing, and its events arrive in an order that holds."""
    signal.signal(signal.SIGALRM, lambda *_: transport.send({"from": "handler"}))
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        for _ in range(3000):
            transport.send({"from": "loop"})
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
    assert transport.flush(20).complete

    events = [event for _, _, batch, _ in producer.requests for event in batch]
    assert list(range(1, len(events) + 1)) == [int(event["sequence"]) for event in events]
    assert len(events) > 3000


def test_reentrant_sends_are_taken_in_turn(producer):
    """An event that is sent while another is being taken comes after it."""
    transport = LoopcastTransport(
        producer.url, "e", redact=lambda e: transport.send({"n": 2}) or e if e["n"] == 1 else e
    )
    transport.send({"n": 1})
    transport.close()

    assert [[{"n": 1}, {"n": 2}]] == producer.taken


async def test_an_asyncio_program_is_not_held_up(producer, transport):
    """The loop goes on while the producer stands still."""
    producer.hold.clear()
    for _ in range(100):
        transport.send({})
        await asyncio.sleep(0)
    producer.hold.set()

    assert (await asyncio.to_thread(transport.flush, 10)).complete


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_begins_anew(producer):
    """Parent and child each send their own events under their own emitter, none twice."""
    program = f"""
import os, sys
from loopcast import LoopcastTransport
t = LoopcastTransport({producer.url!r}, "e", "r")
for n in range(100): t.send({{"who": "parent", "n": n}})
pid = os.fork()
if pid == 0:
    assert t.stats.emitted == 0, t.stats
    for n in range(100): t.send({{"who": "child", "n": n}})
    report = t.close(10)
    os._exit(0 if report.complete else 1)
for n in range(100, 200): t.send({{"who": "parent", "n": n}})
_, status = os.waitpid(pid, 0)
assert t.close(10).complete
sys.exit(os.waitstatus_to_exitcode(status))
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, timeout=60)

    assert (0, "") == (done.returncode, done.stderr)
    events = [event for _, _, batch, _ in producer.requests for event in batch]
    by_emitter = {}
    for event in events:
        by_emitter.setdefault((event["emitter"], event["data"]["who"]), []).append(event["data"]["n"])
    assert [list(range(100)), list(range(200))] == sorted(by_emitter.values(), key=len)
    assert len(events) == len({event["id"] for event in events})


@pytest.mark.parametrize("ending", ["pass", "sys.exit(3)", "raise RuntimeError"])
def test_the_end_of_the_interpreter_delivers(producer, ending):
    """A program that just ends, in whatever way Python ends, has its last events delivered."""
    program = f"""
import sys
from loopcast import LoopcastTransport
def go():
    t = LoopcastTransport({producer.url!r}, "e")
    for n in range(500): t.send({{"n": n}})
go()
{ending}
"""
    subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60)

    assert list(range(500)) == [event["n"] for batch in producer.taken for event in batch]


def test_importing_is_cheap():
    """`import loopcast` imports neither JSON library nor HTTP: an agent's start must not notice it."""
    program = (
        "import sys, loopcast; print([m for m in ('msgspec', 'http.client', 'ssl', 'logging') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(Path(loopcast.__file__).parents[1])},
    )

    assert ("[]\n", "") == (done.stdout, done.stderr)


def test_an_event_over_the_producers_limit_is_refused_alone(producer, transport, quick):
    """The event that is too large is given up, and those around it arrive."""
    producer.script = [lambda events: 413 if any(len(str(e)) > MAX_EVENT_BYTES for e in events) else 202] * 20
    transport.send({"n": 1})
    transport.send({"n": 2, "x": "y" * (MAX_EVENT_BYTES + 1)})
    transport.send({"n": 3})
    assert transport.flush(20).complete

    assert (2, 1) == (exact(transport.stats).accepted, transport.stats.refused)
