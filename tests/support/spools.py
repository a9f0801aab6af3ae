"""Spools of tests: made, taken from as the sender does, and found again by the next process."""

import resource
import subprocess
import sys

from loopcast.sdk.folder import left_over, make_folder
from loopcast.sdk.recovery import recover

BASE = "http://127.0.0.1:1"


def folder(root):
    return make_folder(root, {"base": BASE, "path": "/v1/experiments/e/events"})


def batch(spool, records=500, size=100_000):
    """Take the next batch, as the sender does."""
    plan = spool.plan()
    if plan is None:
        return []
    loaded, damaged = spool.load(plan, records, size)
    return spool.batch.records if spool.take(plan, loaded, damaged) else []


def drain(spool, records=500):
    """Everything that is left, settled."""
    found = []
    while taken := batch(spool, records):
        found += taken
        spool.settle(len(taken))
    return found


def recovered(root):
    """What the next process finds of the only spool in `root`."""
    (held,) = left_over(root, BASE)
    return recover(held)


def limited(program):
    """Run `program` where no file may grow over 4,000 bytes: a disk that is full."""

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, resource.RLIM_INFINITY))

    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, preexec_fn=limit)
