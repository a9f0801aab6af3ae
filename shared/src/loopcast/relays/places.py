"""
Where a relay is in a file, on disk beside the spool: so that it goes on there, and nobody else follows it meanwhile.

With the place are kept the emitter, the numbers and the runs at that place. A relay that was killed between handing
events on and writing its place down reads some lines again, and stamps them with the same ids and numbers as before, so
that readers know them as repeats.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["Place"]

VERSION = 1


class Place:
    """
    The place in one file, held by this process.

    Args:
        root: the folder of spools.
        key: what is followed, and where it goes: another address or experiment is another place.
    """

    def __init__(self, root: Path, *key: str) -> None:
        digest = hashlib.sha256("\0".join(key).encode("utf-8", "surrogatepass")).hexdigest()[:32]
        self._path = root / "places" / f"{digest}.json"
        self._key = list(key)
        self._lock = -1

    def hold(self) -> bool:
        """
        Keep others from following it; False where another process does.

        Raises:
            OSError: the folder does not let it.
        """
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = os.open(self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(file)
                return False
        self._lock = file
        return True

    def read(self) -> dict[str, object]:
        """What was written last; empty where nothing was, or it cannot be read."""
        try:
            memory = json.loads(self._path.read_bytes())
        except (OSError, ValueError):
            return {}
        return memory if isinstance(memory, dict) and memory.get("version") == VERSION else {}

    def write(self, memory: dict[str, object]) -> None:
        """
        Replace it as a whole.

        Raises:
            OSError: the disk does not take it; what was written before stands.
        """
        new = self._path.with_suffix(f".{os.getpid()}.new")
        text = json.dumps({"version": VERSION, "key": self._key, **memory})
        try:
            new.write_text(text)
        except FileNotFoundError:  # Somebody tidied up.
            new.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            new.write_text(text)
        new.replace(self._path)

    def release(self, *, forget: bool = False) -> None:
        """Let others follow it; with `forget`, from the beginning."""
        if forget:
            for path in (self._path, self._path.with_suffix(".lock")):
                with contextlib.suppress(OSError):
                    path.unlink()
        file, self._lock = self._lock, -1
        if file >= 0:
            os.close(file)
