"""
Ingest over HTTP, confirmed: the producer, beside the plain FastAPI + aio-pika way and the publisher alone.

`make bench T=tests/benchmarks/ingest.py`: a private RabbitMQ with the log alone bound, a load client in C, all on the
same machine in the same run. CPU times are of the process named, for each event.
"""

import argparse
import os
import platform
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
sys.path.insert(0, str(ROOT / "tests" / "support"))

from little_loops.transport import JsonlTransport, UnixSocketTransport  # noqa: E402
from processes import Producer, free_port  # noqa: E402

from loopcast import LoopcastTransport  # noqa: E402
from loopcast.node import Node  # noqa: E402

EVENT = (
    b'{"event":"state_enter","ts":"2026-11-20T17:38:28.606955+00:00","state":"draft","iteration":1,"iteration_count":0}'
)
BATCH = 100
BURST = 20
ALONE = f"""
import asyncio, json, os, sys, time, uvloop
from loopcast.broker.clients import client_of
from loopcast.broker.declare import ensure
from loopcast.broker.publisher import Publisher
from loopcast.events import Event
from loopcast.topology import Topology
from loopcast.wire import to_message
import msgspec
async def main():
    client, url, seconds = client_of("loopcast"), os.environ["LOOPCAST_AMQP_URL"], float(sys.argv[1])
    await ensure(client, url, Topology(), mode="declare", name="bench")
    event = Event(id="0192f0c1-0000-7000-8000-000000000001", source="/experiments/exp-42/runs/r", type="state_enter",
                  experiment="exp-42", run="r", recorded_time="2026-11-20T17:38:28.606955Z", emitter="0" * 16,
                  sequence="0" * 20, time="2026-11-20T17:38:28.606955Z", data=msgspec.Raw({EVENT!r}))
    done = n = 0
    async with Publisher(client, url, name="bench") as publisher:
        await publisher.wait_connected()
        message = to_message(event, 0)
        def batch():
            nonlocal n
            made = []
            for _ in range({BATCH}):
                n += 1
                copy = message.__class__(exchange=message.exchange, routing_key=message.routing_key, body=message.body,
                    message_id=f"{{n:036}}", type=message.type, headers=message.headers,
                    content_type=message.content_type, app_id=message.app_id, timestamp=message.timestamp)
                made.append(copy)
            return made
        async def worker(until):
            nonlocal done
            while time.perf_counter() < until:
                await publisher.publish(batch(), timeout=30)
                done += {BATCH}
        began, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(worker(began + seconds) for _ in range(8)))
        took = time.perf_counter() - began
        print(done / took, (time.process_time() - cpu) / done * 1e6)
uvloop.run(main())
"""


def request(body):
    head = "POST /v1/experiments/exp-42/events HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def cpu_of(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def cpu_of_children():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Load:
    """The client in C, beside the broker's process `server`."""

    def __init__(self, folder, server):
        self.server = server
        self.program = folder / "ingest_client"
        source = HERE / "ingest_client.c"
        subprocess.run(["cc", "-O2", "-D_GNU_SOURCE", "-o", self.program, source], check=True)
        self.folder = folder

    def run(self, pid, port, connections, seconds, batch=0):
        """Events a second, latencies in ms; for each event the CPU of `pid`, the broker and the client in µs."""
        body = b"[" + b",".join([EVENT] * batch) + b"]" if batch else EVENT
        file = self.folder / "request"
        file.write_bytes(request(body))
        before = cpu_of(pid), cpu_of(self.server), cpu_of_children()
        command = [self.program, str(port), str(connections), str(seconds), file]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        good, bad, took, p50, p99 = (float(value) for value in out)
        assert not bad, f"{bad:.0f} of {good + bad:.0f} answers were no 202"
        events = good * (batch or 1)
        after = cpu_of(pid), cpu_of(self.server), cpu_of_children()
        cpu = ((a - b) / max(events, 1) * 1e6 for a, b in zip(after, before, strict=True))
        return events / took, p50 / 1000, p99 / 1000, *cpu


def wait_port(port):
    for _ in range(600):
        with socket.socket() as s:
            if not s.connect_ex(("127.0.0.1", port)):
                return
        time.sleep(0.05)
    raise RuntimeError("it does not listen")


def row(name, figures):
    rate, p50, p99, cpu, broker, client = figures
    print(f"| {name} | {rate:,.0f} | {p50:.1f} | {p99:.1f} | {cpu:.0f} | {broker:.0f} | {client:.0f} |", flush=True)


def over_http(load, producer, plain, plain_port, seconds):
    print("\n| | events/s | p50 ms | p99 ms | CPU µs/event | broker's | client's |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    rates = {}
    for connections, batch in ((1, 0), (16, 0), (64, 0), (256, 0), (8, BATCH)):
        what = f"batches of {batch}" if batch else "single requests"
        for name, pid, port in (
            ("producer", producer.process.pid, producer.port),
            ("plain", plain.pid, plain_port),
        ):
            load.run(pid, port, connections, 0.5, batch)
            figures = load.run(pid, port, connections, seconds, batch)
            rates[name, connections, batch] = figures[0]
            row(f"{name}, {what}, {connections} connections", figures)
    for connections, batch in ((64, 0), (256, 0), (8, BATCH)):
        ratio = rates["producer", connections, batch] / rates["plain", connections, batch]
        print(f"\n{connections} connections, batch {batch or 1}: {ratio:.1f} times the plain way")
    return rates


def alone(url, seconds):
    environment = {**os.environ, "LOOPCAST_AMQP_URL": url}
    out = subprocess.run([sys.executable, "-c", ALONE, str(seconds)], check=True, capture_output=True, text=True,
                         env=environment).stdout.split()  # fmt: skip
    return float(out[0]), float(out[1])


def cost_of_send(transport, events):
    """Microseconds of `send` in bursts with pauses: median, p99, mean, and the caller's CPU for each."""
    import json

    event = json.loads(EVENT)
    for _ in range(2000):
        transport.send(event)
    time.sleep(1)
    times, cpu = [], 0
    for _ in range(events // BURST):
        used = time.thread_time_ns()
        for _ in range(BURST):
            began = time.perf_counter_ns()
            transport.send(event)
            times.append((time.perf_counter_ns() - began) / 1000)
        cpu += time.thread_time_ns() - used
        time.sleep(0.002)
    times.sort()
    return times[len(times) // 2], times[int(len(times) * 0.99)], statistics.mean(times), cpu / len(times) / 1000


def reading(path):
    """A client of little-loops' socket that reads everything."""
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(str(path))
        while s.recv(65536):
            pass


def sends(url, folder, events):
    print("\n| `send` of | p50 µs | p99 µs | mean µs | CPU µs |\n| --- | ---: | ---: | ---: | ---: |")
    unix = UnixSocketTransport(folder / "events.sock")
    threading.Thread(target=reading, args=(folder / "events.sock",), daemon=True).start()
    time.sleep(0.2)
    for name, transport in (
        ("LoopcastTransport", LoopcastTransport(url, "exp-42")),
        ("little-loops JSONL", JsonlTransport(folder / "events.jsonl")),
        ("little-loops Unix socket, one client", unix),
    ):
        p50, p99, mean, cpu = cost_of_send(transport, events)
        print(f"| {name} | {p50:.1f} | {p99:.1f} | {mean:.1f} | {cpu:.1f} |", flush=True)
        transport.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="how long each load runs")
    parser.add_argument("--sends", type=int, default=20_000, help="how many events are sent through each transport")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with Node(folder / "node", cache=ROOT / ".loopcast" / "rabbitmq") as node:
            load = Load(folder, int(node.eval("os:getpid().").strip().strip('"')))
            print(f"Python {platform.python_version()}, RabbitMQ {node.version}, load {os.getloadavg()[0]:.1f}")
            producer = Producer(node.amqp_url, folder / "log").start()
            port = free_port()
            environment = {**os.environ, "LOOPCAST_AMQP_URL": node.amqp_url, "LOOPCAST_PORT": str(port)}
            plain = subprocess.Popen([sys.executable, HERE / "ingest_plain.py"], env=environment)
            try:
                wait_port(port)
                rates = over_http(load, producer, plain, port, options.seconds)
                rate, cpu = alone(node.amqp_url, options.seconds)
                print(f"\nThe publisher alone, batches of {BATCH}: {rate:,.0f} events/s, {cpu:.0f} µs of CPU each.")
                print(f"The producer in batches: {rates['producer', 8, BATCH] / rate:.0%} of it.")
                plain.terminate()
                sends(producer.url, folder, options.sends)
            finally:
                plain.kill()
                plain.wait()
                producer.stop()


if __name__ == "__main__":
    main()
