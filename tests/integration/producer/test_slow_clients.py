"""Clients that send slowly, stop in the middle or never read: what it costs the producer, them and everybody else."""

import contextlib
import json
import os
import socket
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest
from processes import Producer, read_log

SUPPORT = Path(__file__).parents[2] / "support"
MB = 1_000_000
CLIENTS = 8
LINE = b'{"event":"tick","n":%d}\n'
ACCEPTED = 'loopcast_producer_events_total{status="accepted"}'

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(sys.platform != "linux", reason="reads a process's peak of memory from /proc"),
]


class Impatient(Producer):
    """Gives slow clients three seconds."""

    module = "impatient_producer"


@pytest.fixture
def producer(vhost_url, tmp_path):
    """One that loses patience soon."""
    path = os.pathsep.join([str(SUPPORT), os.environ.get("PYTHONPATH", "")])
    with Impatient(vhost_url, tmp_path / "log", PYTHONPATH=path) as running:
        assert 202 == running.post(b'{"event":"warm"}', "warm").status_code
        yield running


@pytest.fixture
def peak(producer):
    """How far the producer's memory rose at most since the test began, in bytes."""
    proc = Path(f"/proc/{producer.process.pid}")

    def high():
        return int((proc / "status").read_text().partition("VmHWM:")[2].split()[0]) * 1024

    (proc / "clear_refs").write_text("5")
    before = high()
    return lambda: high() - before


def until(condition, what):
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError(f"{what} did not come")


@contextlib.contextmanager
def connected(producer, count=CLIENTS):
    """Plain sockets."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(socket.create_connection(("127.0.0.1", producer.port), 30)) for _ in range(count)]


def head(experiment, length=None):
    size = b"Transfer-Encoding: chunked" if length is None else b"Content-Length: %d" % length
    path = f"POST /v1/experiments/{experiment}/events HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    return path.encode() + b"Content-Type: application/x-ndjson\r\n" + size + b"\r\n\r\n"


def chunk(data):
    return b"%x\r\n%s\r\n" % (len(data), data)


def read_all(sock):
    """Everything until the connection ends."""
    raw = bytearray()
    with contextlib.suppress(TimeoutError, ConnectionError):
        while data := sock.recv(65536):
            raw += data
    return bytes(raw)


def answer(sock):
    """Status and problem of the answer, and that the connection ends behind it."""
    fields, _, body = read_all(sock).partition(b"\r\n\r\n")
    assert b"connection: close" in fields
    return int(fields.split(b" ")[1]), json.loads(body)


def taken(producer, experiment):
    """Whether a stranger's single requests are taken while all this goes on."""
    with httpx.Client(timeout=10) as http:
        posts = [
            http.post(f"{producer.url}/v1/experiments/{experiment}/events", json={"event": "x"}) for _ in range(50)
        ]
    return {202} == {post.status_code for post in posts}


async def test_lines_that_trickle_are_taken_and_the_end_says_how_far(producer, peak, vhost_url):
    """A byte now and then is waited for no longer than it is worth; each whole line of it is counted and in the log."""
    with connected(producer) as socks:
        for sock in socks:
            sock.sendall(head("trickle") + b"".join(chunk(LINE % n) for n in range(10)))
        until(lambda: producer.metric(ACCEPTED) == 1 + 10 * CLIENTS, "the whole lines")
        stop = threading.Event()

        def trickle():
            while not stop.is_set():
                for sock in socks:
                    with contextlib.suppress(OSError):
                        sock.sendall(chunk(b" "))
                time.sleep(0.02)

        thread = threading.Thread(target=trickle)
        thread.start()
        assert taken(producer, "others")
        assert 0 == producer.metric('loopcast_producer_requests_total{status="408"}'), "they were still sending"
        answers = [answer(sock) for sock in socks]
        stop.set()
        thread.join()
    messages = await read_log(vhost_url)

    assert [(408, "urn:loopcast:problem:too-slow", 10)] * CLIENTS == [
        (status, problem["type"], problem["accepted"]) for status, problem in answers
    ]
    assert 10 * CLIENTS == sum(message.type == "tick" for message in messages)
    assert CLIENTS == producer.metric('loopcast_producer_requests_total{status="408"}')
    assert peak() < 24 * MB


async def test_a_stream_that_stops_in_the_middle_keeps_what_came(producer, vhost_url):
    """Who goes away in the middle of a line loses that line alone; who stands still is told how far it came."""
    with connected(producer, 2) as (gone, still):
        for sock in (gone, still):
            sock.sendall(head("stopped") + b"".join(chunk(LINE % n) for n in range(5)) + chunk(b'{"event":"ha'))
        until(lambda: producer.metric(ACCEPTED) == 11, "the whole lines")
        gone.close()
        status, problem = answer(still)
    messages = await read_log(vhost_url)

    assert (408, 5) == (status, problem["accepted"])
    assert ["tick"] * 10 == [message.type for message in messages if message.type != "warm"]
    assert "Traceback" not in producer.log.read_text()


def test_a_client_that_reads_no_answer_is_let_go(producer):
    """An answer too long for the network's own buffers, which nobody reads, is kept for seconds and not for ever."""
    body = b"[" + b",".join([b"0"] * 100_000) + b"]"
    with connected(producer, 3) as socks:
        for sock in socks:
            sock.sendall(head("deaf", len(body)).replace(b"x-ndjson", b"json") + body)
        assert taken(producer, "others")
        until(lambda: producer.metric("loopcast_producer_answers_not_read_total") == 3, "the end of patience")
        cut = [read_all(sock) for sock in socks]

    assert all(len(raw) < int(raw.partition(b"content-length: ")[2].partition(b"\r")[0]) for raw in cut)
    assert 3 * 100_000 == producer.metric('loopcast_producer_events_total{status="invalid"}')


def test_a_client_that_asks_and_never_listens_is_held_back(producer, peak):
    """Requests without end whose answers nobody reads stop being taken long before they cost memory."""
    # Each is refused with a sentence, which fills the network's buffers sooner than a receipt.
    request = head("deaf", 1).replace(b"x-ndjson", b"json") + b"0"
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", producer.port))
        sock.settimeout(0.5)
        sent = 0
        with pytest.raises((TimeoutError, ConnectionError)):
            for _ in range(200):
                sock.sendall(request * 1000)
                sent += 1000
        assert taken(producer, "others")
        until(lambda: producer.metric("loopcast_producer_answers_not_read_total") == 1, "the end of patience")

    assert 0 < sent < 200_000
    assert peak() < 24 * MB


def test_a_connection_is_not_idle_for_what_was_answered_long_ago(producer):
    """A request that took longer to come than an idle connection may wait leaves it open for the next one."""
    body = b'{"event":"x"}'
    short = head("busy", len(body)).replace(b"x-nd", b"") + body
    other = head("busy", len(body)).replace(b"/events", b"/events?x").replace(b"x-nd", b"")
    with connected(producer, 1) as (sock,):
        sock.sendall(short)
        answers = [sock.recv(65536)]
        sock.sendall(other)
        time.sleep(2.5)
        sock.sendall(body)
        answers.append(sock.recv(65536))
        time.sleep(0.5)
        sock.sendall(short)
        answers.append(sock.recv(65536))

    assert [b"HTTP/1.1 202"] * 3 == [found[:12] for found in answers]


@pytest.mark.parametrize("path", ["/v1/experiments/idle/events", "/v1/experiments/idle/events?x"])
def test_a_connection_that_is_idle_for_long_is_closed(producer, path):
    """Whichever way its requests went: a second request in time is answered, and then the end comes by itself."""
    body = b'{"event":"x"}'
    request = (
        head("idle", len(body)).replace(b"/v1/experiments/idle/events", path.encode()).replace(b"x-nd", b"") + body
    )
    with connected(producer, 1) as (sock,):
        for pause in (1.0, 0.0):
            sock.sendall(request)
            assert b"HTTP/1.1 " == sock.recv(65536)[:9]
            time.sleep(pause)
        assert b"" == sock.recv(65536)
