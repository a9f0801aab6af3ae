"""Run the demo: little-loops' own engine, with a Loopcast transport on its event bus."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from loopcast import LoopcastTransport

if TYPE_CHECKING:
    from little_loops.fsm.persistence import PersistentExecutor

__all__ = ["main", "run_once"]

EXPERIMENT = "demo"
LOOP = "tune-prompt"
PAUSE_SECONDS = 3.0
NO_ENGINE = "The demo needs little-loops: in a checkout of Loopcast, pip install './shared[demo]'\n"


def main() -> None:
    """Run it until this process is ended, or its parent is gone."""
    try:
        import little_loops.fsm.persistence  # noqa: F401
    except ImportError:
        sys.stderr.write(NO_ENGINE)
        sys.exit(2)
    experiment = os.environ.get("LOOPCAST_EXPERIMENT", EXPERIMENT)
    parent = os.getppid()
    stopped = threading.Event()
    runs = 0
    with contextlib.suppress(KeyboardInterrupt):
        while os.getppid() == parent and not stopped.wait(PAUSE_SECONDS if runs else 0):
            runs += 1
            events = run_once(LoopcastTransport(os.environ["LOOPCAST_URL"], experiment))
            sys.stdout.write(f"run {runs} of the loop {LOOP} ended: {events} events in experiment {experiment}\n")
            sys.stdout.flush()


def run_once(transport: LoopcastTransport) -> int:
    """
    Run the loop once in a folder of its own, resume it after its handoff, and close `transport`.

    Returns:
        How many events the loop gave to the transport.
    """
    count = 0

    def counted(_: dict[str, object]) -> None:
        nonlocal count
        count += 1

    home = Path.cwd()
    with tempfile.TemporaryDirectory(prefix="loopcast-demo-") as folder:
        loops = Path(folder, ".loops")
        with resources.as_file(resources.files("loopcast.demo") / "loops") as source:
            shutil.copytree(source, loops)
        os.chdir(folder)
        try:
            _attempt(loops, transport, counted, lambda e: e.run())
            _attempt(loops, transport, counted, lambda e: e.resume())
        finally:
            os.chdir(home)
            transport.close()
    return count


def _attempt(
    loops: Path,
    transport: LoopcastTransport,
    counted: Callable[[dict[str, object]], None],
    start: Callable[[PersistentExecutor], object],
) -> None:
    from little_loops.fsm.persistence import PersistentExecutor
    from little_loops.fsm.validation import load_and_validate

    loop, _ = load_and_validate(loops / f"{LOOP}.yaml")
    executor = PersistentExecutor(loop, loops_dir=loops)
    executor.event_bus.register(counted)
    executor.event_bus.add_transport(transport)
    start(executor)


if __name__ == "__main__":
    main()
