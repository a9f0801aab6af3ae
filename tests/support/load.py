"""Events at a steady rate from an SDK, numbered, until told to stop."""

import threading
import time

from loopcast import LoopcastTransport

RATE = 100
"""Events a second."""


class Load:
    """Sends `{"number": 0}`, `{"number": 1}`, … to a producer; `sent` is how many."""

    def __init__(self, url, experiment, token=None):
        self.sent = 0
        self._transport = LoopcastTransport(url, experiment, run="run-1", spool="off", token=token)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._emit)
        self._thread.start()

    def _emit(self):
        begun = time.monotonic()
        while not self._stop.wait(max(0, begun + self.sent / RATE - time.monotonic())):
            self._transport.send({"event": "note", "number": self.sent})
            self.sent += 1

    def end(self):
        """Stop, and deliver everything."""
        self._stop.set()
        self._thread.join()
        flushed = self._transport.flush(60)
        self._transport.close()
        assert flushed.complete, flushed.stats
        assert 0 == flushed.stats.dropped
