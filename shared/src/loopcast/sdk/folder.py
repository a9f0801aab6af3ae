"""
The folder of one process's spool: where its events go, how far they have come; locked while its process lives.

    <LOOPCAST_SPOOL_DIR>/<start in ns, hexadecimal>-<pid>-<random>.spool/
        lock            held (flock) by the process that writes or sends it: two never send the same spool
        about.json      address, experiment, process: what a later process needs to send it
        cursor          how far it was delivered, and how many events were dropped because it was full
        <number>.events segments; 00000000 is a copy of the batch on its way, where what came behind it was dropped

A folder is made under a name with a dot and renamed when it is held, so that nobody takes it for a left-over before.
The system lets go of the lock when the process ends, in whatever way.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from loopcast.sdk.segments import FileSegment

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["Cursor", "SpoolFolder", "everything", "left_over", "let_go", "make_folder", "read_cursor"]

SUFFIX = ".spool"
STALE_SECONDS = 60.0
"""A folder that was never finished is removed after this."""

_held: set[int] = set()
"""Descriptors of the locks that this process holds."""

_NAME = re.compile(r"[0-9a-f]{16}-[0-9]+-[0-9a-f]{8}")

_CURSOR = struct.Struct("<QQQ")
_CURSOR_BEFORE = struct.Struct("<QQ")
"""As it was when nothing was said of what was dropped."""
_CHECK = struct.Struct("<I")


class Cursor(NamedTuple):
    """How far a spool was dealt with."""

    number: int
    """The segment."""
    offset: int
    """The place in it: everything before is delivered or dropped."""
    dropped: int
    """How many records were dropped because the spool was full."""


class SpoolFolder:
    """A folder that this process holds. Not thread-safe."""

    def __init__(self, path: Path, lock: int, about: dict[str, object]) -> None:
        self.path = path
        self.about = about
        self._lock = lock
        self._cursor = -1

    @property
    def is_gone(self) -> bool:
        """Whether somebody deleted it while it was held."""
        with contextlib.suppress(OSError):
            return self._lock >= 0 and os.fstat(self._lock).st_nlink == 0
        return False

    def segment(self, number: int) -> FileSegment:
        """
        The segment `number`, made where it is not there.

        Raises:
            OSError: the disk does not let it.
        """
        return FileSegment(self.path / f"{number:08}.events", number)

    def numbers(self) -> list[int]:
        """The numbers of the segments that are there, in order."""
        return sorted(int(path.stem) for path in self.path.glob("*.events") if path.stem.isdigit())

    def read_cursor(self) -> Cursor:
        """How far it was dealt with; all zero where that is not known."""
        return read_cursor(self.path)

    def write_cursor(self, cursor: Cursor) -> None:
        """Everything before is dealt with. Where it cannot be written, a later process sends some events again."""
        body = _CURSOR.pack(*cursor)
        with contextlib.suppress(OSError):
            if self._cursor < 0:
                self._cursor = os.open(self.path / "cursor", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            os.pwrite(self._cursor, body + _CHECK.pack(crc32(body)), 0)

    def close(self, *, remove: bool) -> None:
        """Let go of it; with `remove`, for good."""
        if remove:
            # Still held, so that nobody takes it for a left-over meanwhile.
            shutil.rmtree(self.path, ignore_errors=True)
        if self._cursor >= 0:
            with contextlib.suppress(OSError):
                os.close(self._cursor)
        _release(self._lock)
        self._cursor = self._lock = -1


def read_cursor(path: Path) -> Cursor:
    """The cursor of the spool at `path`, whoever holds it; all zero where none can be believed."""
    try:
        raw = (path / "cursor").read_bytes()
    except OSError:
        return Cursor(0, 0, 0)
    for kind in (_CURSOR, _CURSOR_BEFORE):
        body = raw[: kind.size]
        if len(raw) == kind.size + _CHECK.size and _CHECK.unpack(raw[kind.size :])[0] == crc32(body):
            number, offset, *dropped = kind.unpack(body)
            return Cursor(number, offset, sum(dropped))
    return Cursor(0, 0, 0)


def make_folder(root: Path, about: dict[str, object]) -> SpoolFolder:
    """
    A new folder under `root`, held.

    Raises:
        OSError: it cannot be made, or the file system knows no locks.
    """
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    # The order of names is the order of sending, whatever becomes of the clock.
    newest = max((int(path.name[:16], 16) for path in root.glob(f"*{SUFFIX}") if _NAME.match(path.name)), default=0)
    name = f"{max(time.time_ns(), newest + 1):016x}-{os.getpid()}-{secrets.token_hex(4)}"
    making = root / f".{name}"
    making.mkdir(mode=0o700)
    lock = -1
    try:
        lock = _hold(making / "lock", os.O_CREAT)
        (making / "about.json").write_text(json.dumps(about))
        making.rename(root / f"{name}{SUFFIX}")
    except OSError:
        _release(lock)
        shutil.rmtree(making, ignore_errors=True)
        raise
    return SpoolFolder(root / f"{name}{SUFFIX}", lock, about)


def left_over(root: Path, base: str, wants: Callable[[str, str], bool] | None = None) -> Iterator[SpoolFolder]:
    """
    The folders of dead processes whose events go to the producer at `base`, oldest first.

    Each is held by this process from the moment in which it is asked for, the next one only then.

    Args:
        root: where they lie.
        base: the producer's address.
        wants: asked for each, by its name and the path that its events are posted to, before it is held; None for all.

    Raises:
        OSError: `root` cannot be read.
    """
    _tidy(root)
    for path in sorted(root.glob(f"*{SUFFIX}")) if root.is_dir() else ():
        about = _about(path)
        posted = str(about.get("path"))
        if about.get("base") != base or not posted.startswith("/"):
            continue
        if wants is not None and not wants(path.name, posted):
            continue
        try:
            lock = _hold(path / "lock", 0)
        except OSError:  # Its process lives, another sends it, or it is gone.
            continue
        if path.is_dir():
            yield SpoolFolder(path, lock, about)
        else:
            _release(lock)


def everything(root: Path) -> list[tuple[Path, dict[str, object], SpoolFolder | None]]:
    """Every folder with what it says of itself, oldest first, held by this process unless another holds it (None)."""
    found: list[tuple[Path, dict[str, object], SpoolFolder | None]] = []
    for path in sorted(root.glob(f"*{SUFFIX}")) if root.is_dir() else ():
        about = _about(path)
        try:
            found.append((path, about, SpoolFolder(path, _hold(path / "lock", 0), about)))
        except OSError:
            found.append((path, about, None))
    return found


def _about(path: Path) -> dict[str, object]:
    try:
        about = json.loads((path / "about.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return about if isinstance(about, dict) else {}


def _hold(path: Path, flags: int) -> int:
    if fcntl is None:
        raise OSError("this system has no file locks that end with their process")
    file = os.open(path, os.O_RDWR | os.O_CLOEXEC | flags, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        raise
    _held.add(file)
    return file


def _release(lock: int) -> None:
    """Let go of a lock, unless a fork's child let go of it before."""
    if lock in _held:
        _held.discard(lock)
        with contextlib.suppress(OSError):
            os.close(lock)


def let_go() -> None:
    """
    Close all locks that a fork's child inherited: while one is open in the child, the parent's spool is its own.

    Those too that the parent's sending thread had just taken, and which no spool knows of yet.
    """
    for lock in list(_held):
        _release(lock)


def _tidy(root: Path) -> None:
    """Remove what processes left that died while they made their folder."""
    for path in root.glob(".*-*-*") if root.is_dir() else ():
        with contextlib.suppress(OSError):
            if _NAME.fullmatch(path.name[1:]) and path.stat().st_mtime < time.time() - STALE_SECONDS:
                shutil.rmtree(path, ignore_errors=True)
