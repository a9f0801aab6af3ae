"""A file system of its own that is small, so that it can really be full."""

import contextlib
import errno
import subprocess

import pytest


@contextlib.contextmanager
def small_disk(folder, size):
    """A tmpfs of `size` bytes at `folder`, which need not exist; skips the test where mounting is not permitted."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True, text=True
        )
    except OSError as error:
        pytest.skip(f"needs to mount a small file system: {error}")
    if done.returncode:
        pytest.skip(f"needs to mount a small file system, which is not permitted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(path, leave=0):
    """Fill the file system that `path` lies on with that file, but for about `leave` bytes."""
    with path.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)) == 4096:
                pass
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
        file.truncate(max(0, file.tell() - leave))
    return path
