"""
An agent that sends numbered events until it is killed. Usage: chaos_agent.py URL FILE [last].

Each number is written to FILE once `send` has returned, so what stands there was accepted. The number at which it was
killed may have been accepted and not written down; the next agent leaves it out.
"""

import json
import os
import random
import sys
import time
from pathlib import Path

from loopcast import LoopcastTransport


def main(url, path, last):
    """Go on behind the last number of the file; as the last agent, deliver everything and print the counters."""
    path = Path(path)
    written = path.read_text().split() if path.exists() else []
    n = int(written[-1]) + 2 if written else 1
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    transport = LoopcastTransport(url, "chaos", "run-1")
    while not last:
        transport.send({"event": "tick", "n": n, "text": "x" * random.randint(0, 2000)})
        os.write(file, b"%d\n" % n)
        n += 1
        time.sleep(random.random() * 0.004)
    transport.send({"event": "tick", "n": n})
    os.write(file, b"%d\n" % n)
    report = transport.close(120)
    print(json.dumps({"complete": report.complete, **report.stats._asdict()}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], "last" in sys.argv[3:])
