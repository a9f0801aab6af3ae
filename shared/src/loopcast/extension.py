"""
The little-loops extension: with Loopcast installed and `LOOPCAST_URL` set, every loop of a project is sent, unchanged.

little-loops finds it by its entry point (`little_loops.extensions`) and may load it a second time by its configuration;
one a process is active, any other does nothing, and without `LOOPCAST_URL` all of them do nothing.

The events of loops come from the files that little-loops writes before anything else (see
:mod:`loopcast.relays.little_loops`), because an extension is handed a copy that has lost the field `type`, and is not
told of the end. Through the extension itself come those that are in no file: `issue.*`, `parallel.*` and `state.*`.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from loopcast.sdk.transport import LoopcastTransport

__all__ = ["LittleLoopsExtension"]

POLL_SECONDS = 0.05
EXIT_SECONDS = 2.0


class LLEvent(Protocol):
    """What little-loops hands to an extension."""

    def to_dict(self) -> dict[str, Any]:
        """The flat object."""
        ...


class LittleLoopsExtension:
    """
    What little-loops makes of its own accord.

    Raises:
        ConfigurationError: a `LOOPCAST_*` variable is wrong. little-loops logs it and goes on without the extension.
    """

    event_filter = ("issue.*", "parallel.*", "state.*")

    def __init__(self) -> None:
        self._feed: _Feed | None = None
        with _lock:
            if os.environ.get("LOOPCAST_URL") and _active.get("pid") != os.getpid():
                self._feed = _Feed()
                _active["pid"] = os.getpid()

    def on_event(self, event: LLEvent) -> None:
        """Send an event that is in no file."""
        if self._feed is not None:
            self._feed.transport.send(event.to_dict())


_lock = threading.Lock()
_active: dict[str, int] = {}
"""The process that has one: a fork's child is another."""


class _Feed:
    """The transport, and the thread that reads the files."""

    transport: LoopcastTransport

    def __init__(self) -> None:
        from loopcast.relays.little_loops import LittleLoopsSource, is_past, running_folder
        from loopcast.sdk.configuration import spool_folder
        from loopcast.sdk.transport import LoopcastTransport

        self.transport = LoopcastTransport()
        root = spool_folder(None, os.environ)
        # What is over is not of this process's loops, and is passed over before the loop goes on.
        self._source = LittleLoopsSource(self.transport, running_folder(Path()), root, from_end=is_past)
        self._try_step()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="loopcast-relay", daemon=True)
        self._thread.start()
        # Registered after the transport's own, so it comes before that.
        atexit.register(self._end, os.getpid())

    def _run(self) -> None:
        while not self._stop.is_set():
            if not self._try_step():
                self._stop.wait(POLL_SECONDS)

    def _try_step(self) -> int:
        try:
            return self._source.step()
        except OSError:  # Tried again; a file that cannot be read now loses nothing.
            return 0

    def _end(self, pid: int) -> None:
        if pid != os.getpid():
            return
        self._stop.set()
        self._thread.join(EXIT_SECONDS)
        if not self._thread.is_alive():
            with contextlib.suppress(OSError):  # The next process goes on where this one was.
                self._source.finish()
            self._source.close()
        self.transport.close(EXIT_SECONDS)
