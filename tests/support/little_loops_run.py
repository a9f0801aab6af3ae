"""A real little-loops run with its own JSONL and SQLite transports. Usage: little_loops_run.py FOLDER."""

import os
import sys
from pathlib import Path

from little_loops.fsm.persistence import PersistentExecutor
from little_loops.fsm.validation import load_and_validate
from little_loops.session_store.writers import SQLiteTransport
from little_loops.transport import JsonlTransport

sys.path.insert(0, str(Path(__file__).parents[1] / "e2e"))

from agent import LOOPS


def main(folder):
    """Run the loop, and resume it after its handoff."""
    loops = folder / ".loops"
    loops.mkdir(parents=True)
    for name, text in LOOPS.items():
        (loops / f"{name}.yaml").write_text(text)
    os.chdir(folder)
    transports = [JsonlTransport(folder / "own.jsonl"), SQLiteTransport(folder / "own.db")]
    for resumed in (False, True):
        loop, _ = load_and_validate(loops / "parent.yaml")
        executor = PersistentExecutor(loop, loops_dir=loops)
        for transport in transports:
            executor.event_bus.add_transport(transport)
        executor.resume() if resumed else executor.run()
    for transport in transports:
        transport.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
