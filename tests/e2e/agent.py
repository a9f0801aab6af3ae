"""
An agent's process: a real little-loops loop with a Loopcast transport, and a second one that writes down what was sent.

Usage: agent.py FOLDER URL EXPERIMENT; what was sent is in FOLDER/sent.jsonl.
"""

import json
import os
import sys
from pathlib import Path

from little_loops.fsm.persistence import PersistentExecutor
from little_loops.fsm.validation import load_and_validate

from loopcast import LoopcastTransport

LOOPS = {
    "parent": """
name: parent
description: retries, a sub-loop and a handoff
scope: ["."]
initial: try
max_steps: 30
max_edge_revisits: 8
on_handoff: pause
states:
  try:
    action: |
      n=$(cat n 2>/dev/null || echo 0); n=$((n+1)); echo $n > n; echo "attempt $n — größer ✓"; test $n -ge 3
    action_type: shell
    evaluate: {type: exit_code}
    on_yes: sub
    on_no: try
    max_retries: 5
    on_retry_exhausted: failed
  sub:
    loop: child
    on_yes: hand
    on_no: failed
  hand:
    action: |
      if [ -f handed ]; then echo "resumed"; else touch handed; echo "CONTEXT_HANDOFF: go on"; fi
    action_type: shell
    evaluate: {type: exit_code}
    on_yes: done
    on_no: failed
  done: {terminal: true}
  failed: {terminal: true, failure: true}
""",
    "child": """
name: child
description: a sub-loop
scope: ["."]
initial: probe
max_steps: 10
states:
  probe:
    action: for i in 1 2 3 4 5 6 7 8 9 10; do echo "line $i"; done
    action_type: shell
    evaluate: {type: exit_code}
    on_yes: done
    on_no: failed
  done: {terminal: true}
  failed: {terminal: true, failure: true}
""",
}


class Sent:
    """Writes down each event at the moment of sending."""

    def __init__(self, path):
        self._file = path.open("w", encoding="utf-8")

    def send(self, event):
        self._file.write(json.dumps(event) + "\n")
        self._file.flush()

    def close(self):
        self._file.close()


def main(folder, url, experiment):
    """Run the parent loop up to its handoff, and resume it, as little-loops does it itself."""
    loops = Path(folder, ".loops")
    loops.mkdir()
    for name, text in LOOPS.items():
        (loops / f"{name}.yaml").write_text(text)
    os.chdir(folder)
    transports = [Sent(Path(folder, "sent.jsonl")), LoopcastTransport(url, experiment)]
    for start in ("run", "resume"):
        loop, _ = load_and_validate(loops / "parent.yaml")
        executor = PersistentExecutor(loop, loops_dir=loops)
        for transport in transports:
            executor.event_bus.add_transport(transport)
        getattr(executor, start)()
    for transport in transports:
        transport.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
