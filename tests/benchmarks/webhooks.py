"""
The webhook-forwarder, measured beside what one would write with aio-pika and aiohttp, in the same run.

    python tests/benchmarks/webhooks.py [--events 60000] [--rounds 3] [--seconds 10] [--all] [--amqp URL]

*Throughput*: a queue of events of about 400 bytes is drained in batches of 100 to a sink on the loopback; events/s from
the first call to the last, and the processor time of the draining process for each event, which other work on the
machine moves less; with `--profile`, py-spy's stacks of each drain. *Isolation*: 200 events/s to a healthy endpoint
alone and beside 20 ill endpoints, with `--all` also with 20 more queues for the broker to fill and beside 20 healthy
endpoints; how old an event is when the sink has it.
"""

import argparse
import asyncio
import base64
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec
import yaml

from loopcast.broker.clients import client_of
from loopcast.broker.declare import ensure
from loopcast.broker.publisher import Publisher
from loopcast.events import Event, format_time, source_of
from loopcast.ids import uuid7
from loopcast.node import Node
from loopcast.node.ports import free_ports
from loopcast.topology import EVENTS, Binding, Topology, webhook_queue
from loopcast.wire import to_message

SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()
NAME = "bench"
BASELINE = """
import asyncio, sys, aio_pika, aiohttp
async def main(url, queue, target):
    connection = await aio_pika.connect(url)
    channel = await connection.channel()
    await channel.set_qos(prefetch_count=200)
    queue = await channel.get_queue(queue)
    async with aiohttp.ClientSession() as session, queue.iterator() as messages:
        batch = []
        async for message in messages:
            batch.append(message)
            if len(batch) == 100:
                body = b"[" + b",".join(m.body for m in batch) + b"]"
                async with session.post(target, data=body) as answer:
                    assert answer.status == 200
                    await answer.read()
                await batch[-1].ack(multiple=True)
                batch = []
asyncio.run(main(*sys.argv[1:]))
"""


class Sink(asyncio.Protocol):
    """Answers every POST with 200 and notes how many events it held, and how old the first was."""

    def __init__(self, seen):
        self.seen = seen
        self.buffer = bytearray()

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = bytes(self.buffer[:end]).lower()
            size = int(head.partition(b"content-length:")[2].split(b"\r\n")[0])
            if len(self.buffer) < end + 4 + size:
                return
            body = bytes(self.buffer[end + 4 : end + 4 + size])
            del self.buffer[: end + 4 + size]
            self.seen(body)
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


async def sink(port):
    """A process of its own: prints a line for each call, `time events`, or with latencies."""
    out = sys.stdout.buffer

    def seen(body):
        now = time.time()
        ages = ""
        if len(body) < 20_000:
            sent = (float(event["data"]["at"]) for event in json.loads(body))
            ages = " ".join(f"{(now - at) * 1000:.3f}" for at in sent)
        out.write(f"{now} {body.count(b'specversion')} {ages}\n".encode())
        out.flush()

    server = await asyncio.get_running_loop().create_server(lambda: Sink(seen), "127.0.0.1", port)
    await server.serve_forever()


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Bench:
    """The processes of one run, and what the sink says."""

    def __init__(self, url, folder):
        self.url, self.folder = url, folder
        self.client = client_of("loopcast")
        self.ports = free_ports(4)
        self.target = f"http://127.0.0.1:{self.ports[0]}/hook"
        self.lines = asyncio.Queue()

    @contextlib.asynccontextmanager
    async def process(self, *args, environment=None, reading=False):
        process = await asyncio.create_subprocess_exec(
            sys.executable, *args, env={**os.environ, **(environment or {})},
            stdout=asyncio.subprocess.PIPE if reading else (self.folder / "out").open("ab"),
            stderr=(self.folder / "err").open("ab"), limit=2**24,
        )  # fmt: skip
        task = asyncio.create_task(self._read(process)) if reading else None
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)
            await process.wait()
            if task:
                task.cancel()

    async def _read(self, process):
        async for line in process.stdout:
            at, events, *ages = line.split()
            self.lines.put_nowait((float(at), int(events), [float(a) for a in ages]))

    def forwarder(self, endpoints):
        file = self.folder / "endpoints.yaml"
        file.write_text(yaml.safe_dump({"endpoints": endpoints}))
        (self.folder / "key").write_text(SECRET)
        names = {"AMQP_URL": self.url, "WEBHOOKS_FILE": str(file), "OPS_PORT": str(self.ports[1])}
        return self.process(
            "-m", "loopcast_webhook_forwarder", environment={f"LOOPCAST_{k}": v for k, v in names.items()}
        )

    def endpoint(self, name, url, **more):
        return {"name": name, "url": url, "bindings": ["#"], "allow_private": True, "secret": {"file": "key"},
                "batch": {"max_events": 100, "max_ms": 20}, **more}  # fmt: skip

    def message(self, size=400):
        at = time.time()
        data = {"event": "state_enter", "at": at, "pad": "x" * max(0, size - 330)}
        return to_message(
            Event(
                id=uuid7(), source=source_of("exp-42", "r1"), type="state_enter", experiment="exp-42", run="r1",
                recorded_time=format_time(int(at * 1e6)), data=msgspec.Raw(json.dumps(data).encode()),
            ), 0,
        )  # fmt: skip

    async def fill(self, publisher, count):
        for _ in range(0, count, 1000):
            await publisher.publish([self.message() for _ in range(1000)], timeout=60)

    async def drained(self, process, count):
        """Events/s from the first call to the last, and µs of processor time an event."""
        cpu, first, seen = 0.0, None, 0
        while seen < count:
            at, events, _ = await asyncio.wait_for(self.lines.get(), 120)
            if first is None:
                first, cpu = at, cpu_seconds(process.pid)
                continue
            seen += events
            if seen >= count - 100:
                break
        return seen / (at - first), (cpu_seconds(process.pid) - cpu) / seen * 1e6


@contextlib.contextmanager
def profiled(pid, file):
    """Sample the stacks of a process into a file, while the block runs, where a file is given."""
    if file is None:
        yield
        return
    sampler = subprocess.Popen(["py-spy", "record", "-r", "500", "-f", "raw", "-o", file, "-p", str(pid)])
    try:
        yield
    finally:
        sampler.send_signal(signal.SIGINT)
        sampler.wait()


async def throughput(bench, publisher, count, profile):
    link = await bench.client.open_admin(bench.url, name="bench")
    queue = webhook_queue(NAME)
    await link.declare(queue)
    results = {}
    for what in ("aio-pika + aiohttp", "forwarder"):
        await link.bind(Binding(source=EVENTS, destination=queue.name, to="queue", key="#"))
        await bench.fill(publisher, count)
        if what == "forwarder":
            context = bench.forwarder([bench.endpoint(NAME, bench.target)])
        else:
            context = bench.process("-c", BASELINE, bench.url, queue.name, bench.target)
        async with context as process:
            with profiled(process.pid, profile if what == "forwarder" else None):
                results[what] = await bench.drained(process, count)
        while not bench.lines.empty():
            bench.lines.get_nowait()
        await link.delete(queue.name)
        await link.declare(queue)
    await link.delete(queue.name)
    await link.close()
    return results


async def isolation(bench, publisher, seconds, kinds, idle=0):
    endpoints = [bench.endpoint("well", bench.target)]
    endpoints += [bench.endpoint(f"other-{n}", url, timeout=5) for n, url in enumerate(kinds)]
    link = await bench.client.open_admin(bench.url, name="bench")
    queues = [webhook_queue(f"idle-{n}") for n in range(idle)]
    for queue in queues:
        await link.declare(queue)
        await link.bind(Binding(source=EVENTS, destination=queue.name, to="queue", key="#"))
    async with bench.forwarder(endpoints):
        await asyncio.sleep(6 + len(kinds) / 4)
        ages = []
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            await publisher.publish([bench.message()], timeout=20)
            await asyncio.sleep(0.005)
        await asyncio.sleep(1)
        while not bench.lines.empty():
            ages += bench.lines.get_nowait()[2]
    for name in (*(endpoint["name"] for endpoint in endpoints), *(f"idle-{n}" for n in range(idle))):
        await link.delete(webhook_queue(name).name)
        await link.delete(f"loopcast.state.webhook.{name}")
    await link.close()
    ages = sorted(ages)
    return ages[len(ages) // 2], ages[int(len(ages) * 0.99)]


async def silent(port):
    """A server that takes connections and never answers."""

    async def hold(reader, writer):
        with contextlib.suppress(Exception):
            await reader.read()

    return await asyncio.start_server(hold, "127.0.0.1", port)


async def main(options, url, folder):
    bench = Bench(url, folder)
    await ensure(bench.client, url, Topology(max_bytes=200_000_000), mode="declare", name="bench")
    async with (
        Publisher(bench.client, url, name="bench") as publisher,
        bench.process(__file__, "--sink", str(bench.ports[0]), reading=True),
        bench.process(__file__, "--sink", str(bench.ports[3])),
    ):
        await publisher.wait_connected()
        server = await silent(bench.ports[2])
        if options.events:
            rounds = [
                await throughput(bench, publisher, options.events, options.profile) for _ in range(options.rounds)
            ]
            print("| batch 100 | events/s | processor time an event | all rounds |\n| --- | --- | --- | --- |")
            for what in rounds[0]:
                rate, cpu = (statistics.median(r[what][i] for r in rounds) for i in (0, 1))
                every = ", ".join(f"{r[what][0]:,.0f}" for r in rounds)
                print(f"| {what} | {rate:,.0f} | {cpu:.1f} µs | {every} |")
        if not options.seconds:
            return
        print("\n| healthy endpoint, 200 events/s | p50 | p99 |\n| --- | --- | --- |", flush=True)
        refusing, mute, healthy = ("http://127.0.0.1:1/", *(f"http://127.0.0.1:{n}/" for n in bench.ports[2:]))
        every = {
            "alone": ([], 0),
            "alone, with 20 queues that nobody reads": ([], 20),
            "beside 20 ill ones (refusing, silent)": ([refusing, mute] * 10, 0),
            "beside 20 healthy ones": ([healthy] * 20, 0),
        }
        kinds = {what: given for what, given in every.items() if options.all or what.endswith(("alone", "silent)"))}
        found = {what: [] for what in kinds}
        for _ in range(options.rounds):
            for what, (urls, idle) in kinds.items():
                found[what].append(await isolation(bench, publisher, options.seconds, urls, idle))
        for what, figures in found.items():
            p50, p99 = (statistics.median(f[i] for f in figures) for i in (0, 1))
            print(f"| {what} | {p50:.1f} ms | {p99:.1f} ms |", [round(p99, 1) for _, p99 in figures])
        server.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=60_000, help="0 leaves throughput out")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10, help="0 leaves isolation out")
    parser.add_argument("--all", action="store_true", help="isolation beside idle queues and healthy endpoints, too")
    parser.add_argument("--profile", help="where py-spy, if it is installed, puts the forwarder's stacks")
    parser.add_argument("--amqp", help="a broker that runs; else one of the benchmark's own")
    parser.add_argument("--sink", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.sink:
        asyncio.run(sink(given.sink))
    else:
        with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
            address = given.amqp or stack.enter_context(Node(Path(name) / "node")).amqp_url
            asyncio.run(main(given, address, Path(name)))
