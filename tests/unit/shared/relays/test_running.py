"""A relay as a program: how it ends."""

import os
import signal
import threading
import time

from loopcast import LoopcastTransport
from loopcast.relays import running
from loopcast.relays.lines import Counts
from loopcast.relays.running import run_relay


class Source:
    """One event, then nothing; says when it was read to its end."""

    counts = Counts()

    def __init__(self, transport):
        self._transport = transport
        self._steps = 0
        self.closed = threading.Event()

    def step(self):
        self._steps += 1
        if self._steps == 1:
            self._transport.send({"event": "a"})
        return int(self._steps == 1)

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
