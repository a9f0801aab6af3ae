"""A relay as a program: how it ends."""

import os
import signal
import threading
import time

from scripted import ScriptedProducer

from loopcast import LoopcastTransport
from loopcast.relays import running
from loopcast.relays.lines import Counts
from loopcast.relays.running import run_relay


class Source:
    """So many events, then nothing; says when it was read to its end."""

    counts = Counts()
    is_waiting = False

    def __init__(self, transport, *, events=1):
        self._transport = transport
        self._steps = 0
        self._events = events
        self.closed = threading.Event()

    def step(self):
        self._steps += 1
        if self._steps <= self._events:
            self._transport.send({"event": "a"})
        return int(self._steps <= self._events)

    def close(self):
        self.closed.set()


def test_a_wait_for_a_producer_that_is_away_ends_by_ctrl_c(monkeypatch, tmp_path, capsys):
    """--once waits until all is delivered, and no longer than somebody waits for it; what is left lies on disk."""
    monkeypatch.setattr(running, "CLOSE_SECONDS", 0.1)
    transport = LoopcastTransport("http://127.0.0.1:9", "e", spool=tmp_path)
    source = Source(transport)

    def interrupt():
        source.closed.wait(30)
        time.sleep(0.1)  # Into the wait for the producer, which comes next.
        os.kill(os.getpid(), signal.SIGINT)

    person = threading.Thread(target=interrupt)
    person.start()
    code = run_relay(source, transport, once=True, clock=time.monotonic, name="file")
    person.join()

    assert 0 == code
    assert "0 accepted, 1 spooled, 0 dropped" in capsys.readouterr().err


def test_what_was_lost_before_it_was_read_ends_with_code_1(tmp_path, capsys):
    """All that was read is delivered, but a file was gone before its end: scripts are to know, not the eye alone."""
    with ScriptedProducer() as producer:
        transport = LoopcastTransport(producer.url, "e", spool=tmp_path)
        source = Source(transport)
        source.counts = Counts()
        source.counts.lost = 1
        code = run_relay(source, transport, once=True, clock=time.monotonic, name="file")

    assert 1 == code
    assert "1 lost; 1 accepted, 0 spooled, 0 dropped" in capsys.readouterr().err


def test_a_relay_without_a_new_line_sends_what_the_one_before_left(tmp_path, capsys):
    """A relay was killed while the producer was away, and its loop ended: --once delivers those events, and says so."""
    with ScriptedProducer() as producer:
        producer.script = [503] * 100
        killed = LoopcastTransport(producer.url, "e", spool=tmp_path)
        for n in range(5):
            killed.send({"event": "a", "n": n})
        killed._sender.stop()
        killed._sender.join(5)
        producer.requests.clear()
        producer.script.clear()
        transport = LoopcastTransport(producer.url, "e", spool=tmp_path)
        code = run_relay(Source(transport, events=0), transport, once=True, clock=time.monotonic, name="file")

    assert 0 == code
    assert [[{"event": "a", "n": n} for n in range(5)]] == producer.taken
    assert "0 accepted, 0 spooled, 0 dropped, 5 inherited" in capsys.readouterr().err
