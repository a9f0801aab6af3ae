"""
Which run each loop of an experiment had last, on disk, so that a resume in another process goes on with it.

One small JSON file an experiment, replaced as a whole under a lock. Read when a loop resumes, written when a run
begins, waits or ends: a handful of times in a run.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = ["RunMemory"]

VERSION = 1
MAX_LOOPS = 1000
TRIES = 10
"""Milliseconds that another process may hold the lock."""


class RunMemory:
    """
    The runs of `experiment`, by loop.

    Args:
        root: the folder of spools.
        experiment: its id.
    """

    def __init__(self, root: Path, experiment: str) -> None:
        digest = hashlib.sha256(experiment.encode("utf-8", "surrogatepass")).hexdigest()[:32]
        self._path = root / "runs" / f"{digest}.json"
        self._experiment = experiment

    def recall(self, loop: str) -> object:
        """What was remembered of `loop`, None where nothing was or it cannot be read."""
        return self._read().get(loop)

    def remember(self, loop: str, run: object) -> None:
        """
        Remember `run`, plain JSON types, as the last one of `loop`.

        Raises:
            OSError: the disk does not take it; what was remembered before stands.
        """
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(self._path.with_suffix(".lock")):
            loops = self._read()
            loops.pop(loop, None)
            loops[loop] = run
            while len(loops) > MAX_LOOPS:
                del loops[next(iter(loops))]
            memory = {"version": VERSION, "experiment": self._experiment, "loops": loops}
            new = self._path.with_suffix(f".{os.getpid()}.new")
            new.write_text(json.dumps(memory))
            new.replace(self._path)

    def _read(self) -> dict[str, object]:
        try:
            memory = json.loads(self._path.read_bytes())
        except (OSError, ValueError):
            return {}
        if not isinstance(memory, dict) or memory.get("version") != VERSION:
            return {}
        loops = memory.get("loops")
        return loops if isinstance(loops, dict) else {}


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Alone with the file, unless that takes too long or the system has no locks: then the last to write counts."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        for _ in range(TRIES):
            # Never waits for another process without end: that one may stand still, and this is inside a loop.
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                time.sleep(0.001)
        yield
    finally:
        os.close(file)
