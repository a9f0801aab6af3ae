"""
What an event costs the loop: `send` of the SDK beside little-loops' own transports, and what importing costs.

`make bench T=tests/benchmarks/send.py`. Each transport in a process of its own, one after the other, several rounds,
medians of the rounds. A producer that takes everything at once runs beside (no broker: it is the caller's time that is
measured). Bursts: 20 events, 2 ms of nothing, as a loop's states come. Without a pause: one after the other.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

EVENT = {
    "event": "state_enter",
    "ts": "2026-11-20T17:38:28.606955+00:00",
    "run_id": "2026-11-20T173828-tune-prompt",
    "loop": "tune-prompt",
    "state": "draft",
    "iteration": 1,
    "iteration_count": 0,
}
BURST = 20
ROWS = (
    ("spool", "LoopcastTransport, spool"),
    ("memory", "LoopcastTransport, in memory"),
    ("away", "LoopcastTransport, spool, producer away"),
    ("jsonl", "little-loops JSONL"),
    ("unix", "little-loops Unix socket, one client"),
)
ANSWER = """
import json, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        n = body.count(b'{"specversion"')
        answer = json.dumps({"accepted": n, "duplicates": 0, "invalid": 0,
                             "events": [{"id": "", "status": "accepted"}] * n}).encode()
        self.send_response(202)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
    def log_message(self, *_):
        pass
server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""


def made(kind, url, folder):
    """The transport to be measured."""
    if kind in ("spool", "memory", "away"):
        from loopcast import LoopcastTransport

        spool = "off" if kind == "memory" else folder / "spool"
        return LoopcastTransport("http://127.0.0.1:9" if kind == "away" else url, "exp-42", spool=spool)
    from little_loops.transport import JsonlTransport, UnixSocketTransport

    if kind == "jsonl":
        return JsonlTransport(folder / "events.jsonl")
    transport = UnixSocketTransport(folder / "s")
    reader = (
        f"import socket\ns = socket.socket(socket.AF_UNIX)\ns.connect({str(folder / 's')!r})\nwhile s.recv(65536): pass"
    )
    subprocess.Popen([sys.executable, "-c", reader])
    while not transport._clients:
        time.sleep(0.01)
    return transport


def measure(kind, url, folder, events):
    """One round, in this process: percentiles in µs of both ways of sending."""
    import logging

    logging.disable(logging.CRITICAL)
    transport = made(kind, url, folder)
    for _ in range(2000):
        transport.send(dict(EVENT))
    time.sleep(0.5)
    figures = {}
    for name, pause in (("bursts", 0.002), ("on", 0)):
        times, used = [], time.thread_time_ns()
        for n in range(events):
            if pause and n % BURST == 0:
                time.sleep(pause)
            began = time.perf_counter_ns()
            transport.send(EVENT)
            times.append(time.perf_counter_ns() - began)
        cpu = time.thread_time_ns() - used
        times.sort()
        figures[name] = [
            times[len(times) // 2] / 1000,
            times[int(len(times) * 0.99)] / 1000,
            times[int(len(times) * 0.999)] / 1000,
            cpu / events / 1000,
        ]
        time.sleep(0.5)
    print(json.dumps(figures))
    sys.stdout.flush()
    os._exit(0)


def rounds(url, count, events):
    """The median figures of each transport, and before them the least p50 of its rounds."""
    found = {kind: [] for kind, _ in ROWS}
    for _ in range(count):
        for kind, _ in ROWS:
            folder = Path(tempfile.mkdtemp())
            command = [sys.executable, __file__, "--round", kind, "--url", url, "--folder", str(folder)]
            out = subprocess.run([*command, "--sends", str(events)], check=True, capture_output=True, text=True).stdout
            found[kind].append(json.loads(out))
            shutil.rmtree(folder, ignore_errors=True)
    return {
        kind: {
            way: [
                min(one[way][0] for one in all_),
                *(statistics.median(f) for f in zip(*(one[way] for one in all_), strict=True)),
            ]
            for way in all_[0]
        }
        for kind, all_ in found.items()
    }


def parts(folder):
    """Where the time goes, without the sending thread: microseconds of each part, the least of 200 stretches of 200."""
    from loopcast import LoopcastTransport
    from loopcast.coerce import encode
    from loopcast.ids import uuid7
    from loopcast.sdk.framing import frame
    from loopcast.sdk.segments import FileSegment
    from loopcast.sdk.stamping import Stamper

    stamper = Stamper("exp-42")
    record = stamper.stamp(EVENT)
    file = os.open(folder / "file", os.O_WRONLY | os.O_CREAT)
    framed, segment = frame(record), FileSegment(folder / "segment", 1)
    transports = [LoopcastTransport("http://127.0.0.1:9", "e", spool=s, max_bytes=2**30) for s in (folder / "s", "off")]
    for transport in transports:
        transport._sender.idle = False
    spooled, kept = transports
    yield "the object's JSON, and that it is plain", least(lambda: encode(EVENT))
    yield "which run it is of", least(lambda: stamper.runs.identify(EVENT, "state_enter"))
    yield "the id", least(uuid7)
    yield "the envelope, with the three above", least(lambda: stamper.stamp(EVENT))
    yield "the frame, with its checksum", least(lambda: frame(record))
    yield "the write, a system call", least(lambda: os.write(file, framed))
    yield "appending to a segment, with the two above", least(lambda: segment.append(record))
    yield "`send` in memory", least(lambda: kept.send(EVENT))
    yield "`send` with the spool", least(lambda: spooled.send(EVENT))


def least(call, calls=200, stretches=200):
    """Microseconds of one call, in the best of many stretches: what it takes when nobody else is there."""
    call()
    found = []
    for _ in range(stretches):
        began = time.perf_counter_ns()
        for _ in range(calls):
            call()
        found.append((time.perf_counter_ns() - began) / calls / 1000)
    return min(found)


def measure_parts(folder):
    """In this process, which ends."""
    print(f"\n| part of `send`, a record of {len(_record())} bytes | least µs |\n| --- | ---: |")
    for name, figure in parts(folder):
        print(f"| {name} | {figure:.2f} |")
    sys.stdout.flush()
    os._exit(0)


def _record():
    from loopcast.sdk.stamping import Stamper

    return Stamper("exp-42").stamp(EVENT)


def started(statement, times=15):
    """Milliseconds that Python takes for a statement, over what it takes for nothing: medians."""

    def run(program):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-I", "-c", program], check=True)
        return (time.perf_counter() - began) * 1000

    pairs = [(run("pass"), run(statement)) for _ in range(times)]
    return statistics.median(b for _, b in pairs) - statistics.median(a for a, _ in pairs)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sends", type=int, default=20_000)
    parser.add_argument("--round")
    parser.add_argument("--parts", action="store_true", help="only where the time goes")
    parser.add_argument("--url")
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    if options.parts:
        with tempfile.TemporaryDirectory() as name:
            measure_parts(options.folder or Path(name))
    if options.round:
        measure(options.round, options.url, options.folder, options.sends)
    server = subprocess.Popen([sys.executable, "-c", ANSWER], stdout=subprocess.PIPE, text=True)
    try:
        url = f"http://127.0.0.1:{server.stdout.readline().strip()}"
        print(f"Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}, medians of {options.rounds} rounds")
        figures = rounds(url, options.rounds, options.sends)
        for way, title in (("bursts", "bursts of 20"), ("on", "without a pause")):
            print(
                f"\n| `send`, {title} | least p50 µs | p50 µs | p99 µs | p99.9 µs | CPU µs |"
                "\n| --- | ---: | ---: | ---: | ---: | ---: |"
            )
            for kind, name in ROWS:
                print(f"| {name} | " + " | ".join(f"{figure:.1f}" for figure in figures[kind][way]) + " |")
        with tempfile.TemporaryDirectory() as name:
            subprocess.run([sys.executable, __file__, "--parts", "--folder", name], check=True)
        print("\n| | ms over an empty program |\n| --- | ---: |")
        for statement, name in (
            ("import loopcast", "`import loopcast`"),
            ("import loopcast; loopcast.LoopcastTransport('http://127.0.0.1:9', 'e')", "a transport made and closed"),
            ("import little_loops.transport", "`import little_loops.transport`"),
        ):
            print(f"| {name} | {started(statement):.1f} |")
    finally:
        server.kill()
        server.wait()


if __name__ == "__main__":
    main()
