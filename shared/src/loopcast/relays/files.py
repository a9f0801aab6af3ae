"""
One file's events, handed to the SDK in order, each once over any number of restarts.

Ids and numbers are functions of the file and the place in it, see :mod:`loopcast.relays.places`.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from loopcast.events import normalize_time, to_microseconds
from loopcast.ids import new_emitter
from loopcast.relays.following import Follower
from loopcast.relays.lines import Counts, Line, parse_line
from loopcast.relays.places import Place

if TYPE_CHECKING:
    from loopcast.sdk.transport import LoopcastTransport

__all__ = ["FileRelay"]

GONE_SECONDS = 30.0
"""A file that was deleted so long ago does not come back."""

WAIT_SECONDS = 60.0
"""So long a file waits for what the relay before left of it, where another process has that in hand."""
ASK_SECONDS = 1.0
ROOM_EVERY = 20
LITTLE_ROOM = 0.5
"""A relay can wait, its file keeps what it has: it never fills the spool so far that something is dropped."""


class FileRelay:
    """
    Relays one file. Not thread-safe.

    Args:
        transport: takes the events.
        path: the file, which need not exist yet.
        root: where places are kept; None to keep none, and begin anew each time.
        from_end: where to begin a file that was never followed: behind what it has, or at its beginning.
        counts: what becomes of the lines.
        run: the run of all its events, where the caller knows it.
        alive: the process behind the file, for heartbeats.
    """

    def __init__(
        self,
        transport: LoopcastTransport,
        path: Path,
        root: Path | None,
        *,
        from_end: bool,
        counts: Counts,
        run: str | None = None,
        alive: Callable[[], int | None],
    ) -> None:
        self._transport = transport
        self._path = path
        self._counts = counts
        self._from_end = from_end
        self._follower = Follower(path, counts)
        self._place = None if root is None else Place(root, str(path), transport.address, transport.experiment)
        self._salt = new_emitter()
        self._began = time.time_ns() // 1000
        self._end = 0
        self._read: deque[Line] = deque()
        self._at_end = False
        self._is_saved = True
        self._spools: list[str] = []
        self.is_waiting = False
        """Whether its lines wait for what the relay before left of it."""
        self._waits_until = self._asks_at = 0.0
        self._when = 0
        self.last = time.monotonic()
        """When the last event came."""
        self._stamper = transport.source(
            remember=False, run=run, alive=alive, new_id=self._new_id, new_suffix=self._new_suffix, now=self._now
        )

    def open(self) -> bool:
        """
        Begin, where it was left or as was said; False where another process follows the file.

        Raises:
            OSError: places cannot be kept.
        """
        if self._place is not None and not self._place.hold():
            return False
        memory = {} if self._place is None else self._place.read()
        if memory:
            self._go_on(memory)
        else:
            self._follower.start(at_end=self._from_end)
            self._end = self._follower.offset
            # At once: what is added while no relay runs is to be read by the next, wherever this one began.
            self.save()
        return True

    @property
    def is_over(self) -> bool:
        """Whether the file was deleted, and everything in it was relayed."""
        return self._at_end and self._follower.is_gone and time.monotonic() - self.last > GONE_SECONDS

    def step(self) -> int:
        """
        Relay the next lines, and say how many those were; 0 where there are none now or the spool has no room.

        Raises:
            OSError: the place cannot be written down, or the file not be opened; it is to be tried again.
        """
        if self.is_waiting and not self._may_go_on():
            return 0
        if self._transport.room < LITTLE_ROOM:
            self._follower.look()
            return 0
        if not self._read:
            gone = self._follower.is_gone
            self._read.extend(self._follower.read())
            # Only a read after the deletion says that nothing is left: a relay may have waited for room until then.
            self._at_end = gone and not self._read
        done = 0
        while self._read and (done % ROOM_EVERY or self._transport.room >= LITTLE_ROOM):
            line = self._read.popleft()
            self._relay(line)
            self._end = line.end
            done += 1
        if done:
            self.last = time.monotonic()
            self._is_saved = False
        elif not self._read:
            self._end = self._follower.offset
        if not self._is_saved:
            self.save()
        return done

    def save(self) -> None:
        """
        Write the place down, after the events before it are on the disk.

        Not while some wait in memory, because no disk takes them: the file still has those, where they would be lost.
        """
        if self._place is None or not self._transport.is_durable:
            self._is_saved = self._place is None
            return
        self._transport.sync()
        own = self._transport.place
        self._spools = [place for place in self._spools if place != own and os.path.lexists(place)]
        self._spools += [own] if own else []
        self._place.write(
            {
                "mark": self._follower.mark(self._end),
                "salt": self._salt,
                "began": self._began,
                "stamper": self._stamper.dump(),
                "path": os.fspath(self._path),
                "spools": self._spools,
            }
        )
        self._is_saved = True

    def close(self, *, forget: bool = False) -> None:
        """Let go of the file; with `forget`, it is gone for good."""
        if not self._at_end and self._follower.is_gone and (self._read or self._follower.has_more):
            self._counts.lost += 1  # Nobody else can open it.
        self._follower.close()
        self._transport.drop_source(self._stamper)
        if self._place is not None:
            self._place.release(forget=forget)

    def _may_go_on(self) -> bool:
        """
        Whether numbers may follow on those of the relay before: nothing that it left is sent after this one's.

        It left a spool, and whoever sends that may be another process. It is waited for, but not for ever: then this
        one goes on under another emitter, with numbers from 1, which nothing can come too late for.
        """
        left = [place for place in self._spools if os.path.lexists(place) and not self._transport.sends_first(place)]
        now = time.monotonic()
        if left and now < self._waits_until:
            if now >= self._asks_at:
                self._asks_at = now + ASK_SECONDS
                self._transport.take_over()
            return False
        self.is_waiting = False
        if left:
            self._stamper.renew()
            self._spools = []
            self.save()
        return True

    def _go_on(self, memory: dict[str, object]) -> None:
        mark, stamper = memory.get("mark"), memory.get("stamper")
        try:
            if isinstance(stamper, dict):
                self._salt, self._began = str(memory["salt"]), int(str(memory["began"]))
                self._stamper.load(stamper)
                self._wait_for(memory.get("spools"))
        except (KeyError, ValueError):
            # A place of another version: the file is known, its lines are new under new ids.
            self._salt = new_emitter()
        if isinstance(mark, dict):
            self._follower.resume(mark)
        self._end = self._follower.offset

    def _wait_for(self, spools: object) -> None:
        self._spools = [str(place) for place in spools] if isinstance(spools, list) else []
        self.is_waiting = bool(self._spools)
        self._waits_until = time.monotonic() + WAIT_SECONDS

    def _relay(self, line: Line) -> None:
        event = parse_line(line, self._counts)
        if event is None:
            return
        self._end = line.end
        time_ = normalize_time(event.get("ts"))
        self._when = self._began if time_ is None else to_microseconds(time_)
        self._counts.relayed += 1
        self._transport.relay(self._stamper, event)

    def _now(self) -> int:
        return self._began

    def _digest(self, what: str) -> int:
        raw = f"{what}\0{self._salt}\0{self._follower.generation}\0{self._end}"
        return int.from_bytes(hashlib.blake2b(raw.encode(), digest_size=16).digest())

    def _new_suffix(self) -> str:
        return f"{self._digest('suffix') & 0xFF_FFFF:06x}"

    def _new_id(self) -> str:
        """A UUIDv7 (RFC 9562, 5.7) of the event's own time, whose random bits are a function of its place."""
        milliseconds = (self._when // 1000) & 0xFFFF_FFFF_FFFF
        bits = self._digest("id")
        tail = bits & 0x3FFF_FFFF_FFFF_FFFF
        return (
            f"{milliseconds >> 16:08x}-{milliseconds & 0xFFFF:04x}-7{bits >> 116:03x}-"
            f"{0x8000 | tail >> 48:04x}-{tail & 0xFFFF_FFFF_FFFF:012x}"
        )
