"""
How many deliveries a second one gateway process makes, beside the plain FastAPI `send_json` loop in the same run.

    python tests/benchmarks/fanout.py [--runs 5] [--connections 1000] [--seconds 1.5] [--only fanout,stalled,memory]

Each server is a process of its own on core 0, the load client (C, epoll) another on core 1. Events are made inside the
server, in bursts of 1, 8 and 32, the next burst when the last is in the sockets: what is measured is everything from a
message of the log to the socket, without the broker. The peers take turns, so that a busy machine troubles both.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
BURSTS = (1, 8, 32)
EVENT_BYTES = 256
COMMAND = '{"action":"subscribe","experiment_id":"exp"}'
PATHS = {"gateway": ("/ws", "loopcast.v1.json", COMMAND), "fastapi": ("/ws", "", "")}


class Server:
    """A server under test, which makes its own events when told to."""

    def __init__(self, kind: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.kind = kind
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "fanout_server.py"), kind, str(self.port), str(EVENT_BYTES)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.tell() == "ready"

    def tell(self, line: str = "") -> str:
        """Send a line, if there is one, and read the answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        if line:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def memory(self) -> int:
        """Resident bytes."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def end(self) -> None:
        """Stop it."""
        self.process.kill()
        self.process.communicate()


class Client:
    """The load client, connected and subscribed."""

    def __init__(self, binary: Path, server: Server, connections: int, stalled: int = 0) -> None:
        path, subprotocol, command = PATHS[server.kind]
        arguments = [str(server.port), str(connections), str(stalled), path, subprotocol, command]
        self.process = subprocess.Popen(
            [*_on_core(1), str(binary), *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._read() == ["ready"]

    def count(self, events: int) -> None:
        """Begin to count up to `events` a connection."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"count {events}\n")
        self.process.stdin.flush()

    def result(self) -> tuple[float, int]:
        """Seconds and deliveries of the last count."""
        word, *numbers = self._read()
        assert word == "done", word
        return float(numbers[0]), int(numbers[1])

    def end(self) -> None:
        """Close every connection."""
        self.process.kill()
        self.process.communicate()

    def _read(self) -> list[str]:
        assert self.process.stdout is not None
        return self.process.stdout.readline().split()


def _on_core(number: int) -> list[str]:
    return ["taskset", "-c", str(number)] if shutil.which("taskset") and (os.cpu_count() or 1) > number else []


@contextlib.contextmanager
def compiled() -> Iterator[Path]:
    """The load client as a program."""
    compiler = shutil.which("cc") or sys.exit("A C compiler is needed: apt-get install gcc libc6-dev")
    with tempfile.TemporaryDirectory() as folder:
        binary = Path(folder, "fanout_client")
        subprocess.run([compiler, "-O2", "-o", binary, HERE / "fanout_client.c"], check=True)
        yield binary


@dataclass(frozen=True)
class Rate:
    """What one measurement gave."""

    wall: float
    """Deliveries a second, as the client counted them."""
    cpu: float
    """Deliveries a second of the server's processor time: what the wall would show on a core of its own."""


def measure(server: Server, client: Client, burst: int, seconds: float) -> Rate:
    """Deliveries over about so many seconds."""
    events = burst
    while True:
        client.count(events)
        _, user, system = server.tell(f"run {events} {burst}").split()
        took, deliveries = client.result()
        if took >= seconds / 2:
            return Rate(deliveries / took, deliveries / (float(user) + float(system)))
        events = max(events * 2, int(events * seconds / max(took, 1e-3)))
        events = min(events + -events % burst, 200_000)


def fanout(binary: Path, connections: int, runs: int, seconds: float) -> None:
    """The main table."""
    rates: dict[tuple[str, int], list[Rate]] = {}
    peers = {kind: Server(kind) for kind in PATHS}
    clients = {kind: Client(binary, server, connections) for kind, server in peers.items()}
    for _ in range(runs):
        for burst in BURSTS:
            for kind, server in peers.items():
                rates.setdefault((kind, burst), []).append(measure(server, clients[kind], burst, seconds))
    for client in clients.values():
        client.end()
    for server in peers.values():
        server.end()
    print(f"\n{connections} connections, {EVENT_BYTES} B, deliveries/s, median of {runs} (lowest - highest)\n")
    print("| burst | clock | gateway | FastAPI `send_json` | ratio |")
    print("|---|---|---|---|---|")
    for burst in BURSTS:
        for clock in ("wall", "cpu"):
            ours, theirs = ([getattr(rate, clock) for rate in rates[kind, burst]] for kind in PATHS)
            ratio = statistics.median(ours) / statistics.median(theirs)
            print(f"| {burst} | {clock} | {_spread(ours)} | {_spread(theirs)} | {ratio:.1f} |")


def stalled(binary: Path, runs: int, seconds: float) -> None:
    """What one viewer among 101 that does not read costs the other 100."""
    rates: dict[int, list[Rate]] = {0: [], 1: []}
    grown: list[int] = []
    for _ in range(runs):
        for number, found in rates.items():
            server = Server("gateway")
            client = Client(binary, server, 100 + number, stalled=number)
            before = server.memory()
            found.append(measure(server, client, 8, seconds))
            if number:
                grown.append(server.memory() - before)
            client.end()
            server.end()
    print(f"\n100 viewers, bursts of 8, deliveries/s, median of {runs}\n")
    print("| clock | all read | and one that does not | the others lose |")
    print("|---|---|---|---|")
    for clock in ("wall", "cpu"):
        without, beside = ([getattr(rate, clock) for rate in rates[number]] for number in rates)
        lost = 1 - statistics.median(beside) / statistics.median(without)
        print(f"| {clock} | {_spread(without)} | {_spread(beside)} | {lost:.1%} |")
    print(f"\nmemory grew by at most {max(grown) / 2**20:.1f} MiB")


def memory(binary: Path, connections: int) -> None:
    """What an idle connection takes."""
    print(f"\n{connections} idle connections with one subscription each\n")
    print("| | KB a connection |")
    print("|---|---|")
    for kind in PATHS:
        server = Server(kind)
        # The first connections load what is loaded once.
        Client(binary, server, 100).end()
        time.sleep(0.5)
        before = server.memory()
        client = Client(binary, server, connections)
        server.tell("settle")
        print(f"| {kind} | {(server.memory() - before) / connections / 1024:.1f} |")
        client.end()
        server.end()


def _spread(rates: list[float]) -> str:
    return f"{statistics.median(rates):,.0f} ({min(rates):,.0f} - {max(rates):,.0f})"


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[1])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--idle", type=int, default=5000)
    parser.add_argument("--only", default="fanout,stalled,memory")
    options = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {time.strftime('%F')}")
    with compiled() as binary:
        if "fanout" in options.only:
            fanout(binary, options.connections, options.runs, options.seconds)
        if "stalled" in options.only:
            # Long enough for the one that does not read to be found out.
            stalled(binary, options.runs, 2 * options.seconds)
        if "memory" in options.only:
            memory(binary, options.idle)


if __name__ == "__main__":
    main()
