"""
Compressing a file that nothing is added to any more.

The packed file appears whole or not at all, and the plain one goes after it is there: a kill in between leaves both,
and the packing is done again.
"""

from __future__ import annotations

import gzip
import os
import shutil
from pathlib import Path
from typing import Literal

import zstandard

from loopcast.errors import StorageError

__all__ = ["SUFFIXES", "Compression", "pack"]

Compression = Literal["zstd", "gzip", "none"]
SUFFIXES: dict[Compression, str] = {"zstd": ".zst", "gzip": ".gz", "none": ""}
LEVEL = 6
CHUNK = 1024 * 1024


def pack(path: Path, compression: Compression, *, sync: bool) -> None:
    """
    Put a compressed file in the place of `path`; with `sync`, onto the disk.

    Raises:
        StorageError: it cannot be read or written. `path` is as it was.
    """
    if compression == "none":
        return
    packed = path.with_name(path.name + SUFFIXES[compression])
    temporary = packed.with_name(packed.name + ".part")
    try:
        with path.open("rb") as source, temporary.open("wb") as target:
            if compression == "zstd":
                zstandard.ZstdCompressor(level=LEVEL).copy_stream(source, target)
            else:
                # No name and no time: the same lines give the same bytes.
                with gzip.GzipFile("", "wb", LEVEL, target, 0) as zipped:
                    shutil.copyfileobj(source, zipped, CHUNK)
            target.flush()
            if sync:
                os.fsync(target.fileno())
        temporary.replace(packed)
        path.unlink()
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise StorageError(f"{packed}: {error.strerror or error}.") from error
