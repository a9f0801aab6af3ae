"""The Unix socket: what clients get, when, and what becomes of the slow ones."""

import asyncio
import contextlib
import json
import socket
import stat
import threading
import time

import pytest
from little_loops.fsm.persistence import LoopState
from recorder_log import deliver, envelopes, lines

from loopcast.errors import StorageError
from loopcast_recorder.socket_sink import SocketSink

PARENT, HANDOFF = lines("demo-parent"), lines("demo-handoff")


class Clock:
    """Later than everything that was recorded, and as a test moves it."""

    def __init__(self):
        self.now = 1_795_196_400_000_000

    def __call__(self):
        return self.now


@pytest.fixture
def loop():
    """An event loop in a thread of its own, as the service has it."""
    made = asyncio.new_event_loop()
    thread = threading.Thread(target=made.run_forever)
    thread.start()
    yield made
    made.call_soon_threadsafe(made.stop)
    thread.join()
    made.close()


@pytest.fixture
def make(tmp_path, loop):
    """Makes sinks that listen at the same path, unless told not to."""
    made = []

    def sink(listen=True, **settings):
        clock = Clock()
        made.append(SocketSink("socket", tmp_path / "events.sock", now=clock, **settings))
        made[-1].serve_in(loop)
        if listen:
            made[-1].resume(0)
            clock.now += 2_000_000
            made[-1].tick()
        return made[-1]

    yield sink
    for one in made:
        one.close()


@pytest.fixture
def connect(tmp_path):
    """Makes clients; each is a file of lines."""
    with contextlib.ExitStack() as stack:

        def client(timeout=10):
            sock = stack.enter_context(socket.socket(socket.AF_UNIX))
            sock.settimeout(timeout)
            sock.connect(str(tmp_path / "events.sock"))
            return stack.enter_context(sock.makefile("rb"))

        yield client


def joined(sink, count):
    """Wait until so many clients are connected."""
    deadline = time.monotonic() + 5
    while sink.server.clients != count:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def log(raw, *, offset=0, **kwargs):
    return deliver(envelopes(raw, **kwargs), offset=offset)


def test_every_client_gets_every_line_in_order(make, connect):
    """Two clients each get the loop's own objects, byte for byte."""
    sink = make()
    clients = [connect(), connect()]
    joined(sink, 2)
    deliveries = log(PARENT)

    sink.write(0, deliveries)

    expected = [json.dumps(line).encode() + b"\n" for line in PARENT]
    assert [expected, expected] == [[client.readline() for _ in PARENT] for client in clients]


@pytest.mark.parametrize("count", [10, 500, 1000, 5000])
def test_what_is_queued_at_close_is_delivered(make, connect, count):
    """A burst and then the end: every client has all of it, where little-loops' own socket delivered one event."""
    sink = make()
    client = connect()
    joined(sink, 1)
    raw = [{"event": "action_output", "line": f"line {n} " + "x" * 100} for n in range(count)]

    got = []
    reader = threading.Thread(target=lambda: got.extend(client))
    reader.start()

    sink.write(0, log([*raw, {"event": "loop_complete"}], run="r"))
    sink.close()
    reader.join()

    assert [*raw, {"event": "loop_complete"}] == [json.loads(line) for line in got]
    assert 0 == sink.server.dropped


def test_a_late_client_gets_the_open_runs_first(make, connect):
    """In the middle of a run a client learns of it at once, as little-loops' `LoopState`, and then each event once."""
    sink = make()
    sink.write(0, log(PARENT[:30]))
    client = connect()
    joined(sink, 1)
    sink.write(0, deliver(envelopes(PARENT)[30:], offset=30))

    seed, *rest = [json.loads(client.readline()) for _ in range(1 + len(PARENT) - 30)]

    assert PARENT[30:] == rest
    assert ("state_change", "demo-parent", "sub", "running", "demo-child") == tuple(
        seed[name] for name in ("event", "loop_name", "current_state", "status", "active_sub_loop")
    )
    state = LoopState.from_dict(seed)
    assert ("demo-parent", "sub", 5) == (state.loop_name, state.current_state, state.iteration)


def test_a_run_that_waits_is_open_and_one_that_ended_is_not(make, connect):
    """After a handoff the run is told with its continuation; a finished one is not told."""
    sink = make()
    sink.write(0, log(PARENT))
    sink.write(0, log(HANDOFF, offset=100, emitter="b" * 16))

    seed = json.loads(connect().readline())

    assert ("demo-handoff", "awaiting_continuation", "Continue from step 2") == (
        seed["loop_name"],
        seed["status"],
        seed["continuation_prompt"],
    )


def test_open_runs_are_known_after_a_restart(make, connect):
    """A recorder that starts again tells the runs that were open when it ended."""
    first = make()
    first.write(0, log(PARENT[:30]))
    first.close()

    assert 29 == make().resume(0).offset
    assert "demo-parent" == json.loads(connect().readline())["loop_name"]


def test_runs_silent_for_a_day_are_not_told(make, connect):
    """A run that was killed long ago is no open run."""
    sink = make()
    sink.write(0, log(PARENT[:30]))
    sink._now.now += 86_500_000_000

    client = connect()
    joined(sink, 1)
    sink.write(0, log([{"event": "note"}], offset=50, emitter="c" * 16))

    assert {"event": "note"} == json.loads(client.readline())


def test_only_the_owner_may_connect(make, tmp_path):
    """The socket has mode 0600."""
    make()

    assert 0o600 == stat.S_IMODE((tmp_path / "events.sock").stat().st_mode)


def test_a_stale_socket_is_replaced(make, connect, tmp_path):
    """A socket file that a killed process left is no hindrance."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "events.sock"))

    sink = make()
    client = connect()
    joined(sink, 1)
    sink.write(0, log(PARENT))

    assert PARENT[0] == json.loads(client.readline())


def test_a_live_socket_of_another_is_respected(make, tmp_path):
    """Somebody else's live socket, and another recorder's, are left alone with a sentence."""
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(tmp_path / "events.sock"))
        other.listen()
        refused = make(listen=False)
        with pytest.raises(StorageError, match="another program listens"):
            refused.resume(0)
        refused.close()
    make()

    with pytest.raises(StorageError, match="another recorder serves it"):
        make(listen=False).resume(0)
    assert (tmp_path / "events.sock").exists()


def test_what_is_no_socket_is_left_alone(make, tmp_path):
    """A file of that name is not deleted."""
    (tmp_path / "events.sock").write_text("mine")

    with pytest.raises(StorageError, match="no socket"):
        make(listen=False).resume(0)

    assert "mine" == (tmp_path / "events.sock").read_text()


def test_too_many_clients_are_told_so_and_counted(make, connect, capsys):
    """Clients over the cap get a line that says why, and the log one warning, not one each."""
    sink = make(max_clients=2)
    kept = [connect(), connect()]
    joined(sink, 2)

    refused = [connect().readlines() for _ in range(5)]

    told = {"event": "loopcast.rejected", "reason": "too many clients", "max_clients": 2}
    assert [[told]] * 5 == [[json.loads(line) for line in lines] for lines in refused]
    assert 5 == sink.server.rejected
    assert 1 == capsys.readouterr().out.count("socket_clients_rejected")
    sink.write(0, log(PARENT))
    assert PARENT[0] == json.loads(kept[0].readline())


def test_a_slow_client_is_ended_and_costs_nobody_else(make, connect):
    """One that does not read is told and ended, with what it missed counted; the other has every line."""
    sink = make(queue_bytes=200_000)
    slow, good = connect(), connect()
    joined(sink, 2)
    got = []
    reader = threading.Thread(target=lambda: got.extend(good.readline() for _ in range(20_000)))
    reader.start()
    raw = [{"event": "action_output", "line": f"{n} " + "x" * 100} for n in range(20_000)]

    for start in range(0, len(raw), 100):
        sink.write(0, deliver(envelopes(raw[start : start + 100], run="r", first=start + 1), offset=start))
    reader.join()
    received = [json.loads(line) for line in slow]

    assert raw == [json.loads(line) for line in got]
    assert {"event": "loopcast.dropped", "reason": "slow client", "queue_bytes": 200_000} == received[-1]
    assert raw[: len(received) - 1] == received[:-1]
    joined(sink, 1)
    assert len(raw) - (len(received) - 1) == sink.server.dropped


def test_what_could_not_be_delivered_at_close_is_counted(make, connect, monkeypatch, capsys):
    """A client that does not read gets what its buffers hold; the rest is counted and told, not lost in silence."""
    monkeypatch.setattr("loopcast_recorder.socket_sink.CLOSE_SECONDS", 0.3)
    sink = make(queue_bytes=100_000_000)
    client = connect()
    joined(sink, 1)
    raw = [{"event": "action_output", "line": f"{n} " + "x" * 1000} for n in range(3000)]

    sink.write(0, log(raw, run="r"))
    sink.close()
    received = [line for line in client if line.endswith(b"\n")]

    assert raw[: len(received)] == [json.loads(line) for line in received]
    assert 0 < sink.server.dropped <= len(raw) - len(received)
    assert "socket_undelivered" in capsys.readouterr().out


def test_a_client_that_leaves_is_forgotten(make, connect):
    """Its place is free, and nothing counts as dropped."""
    sink = make(max_clients=1)
    with socket.socket(socket.AF_UNIX) as first:
        first.connect(str(sink._path))
        joined(sink, 1)
    joined(sink, 0)

    client = connect()
    joined(sink, 1)
    sink.write(0, log(PARENT))

    assert PARENT[0] == json.loads(client.readline())
    assert 0 == sink.server.dropped


def test_nobody_is_let_in_before_it_has_caught_up(make, tmp_path):
    """While older events come, there is no socket; it comes with the first that is as new as the process."""
    sink = make(listen=False)
    sink.resume(0)
    sink.write(0, log(PARENT[:10]))
    assert not (tmp_path / "events.sock").exists()

    sink._began = 0
    sink.write(0, deliver(envelopes(PARENT)[10:], offset=10))

    assert (tmp_path / "events.sock").exists()
