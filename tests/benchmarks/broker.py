"""
How fast one process publishes, reads the log and consumes a queue, with our own client and with aio-pika beside it.

Both clients go through the same `Publisher`, `LogReader` and `Consumer`, on the same private node, in turns, so that a
busy machine is as busy for both. Events of 512 bytes with the headers that a producer sends. The broker shares the
machine and is often the limit, so a bare socket that parses nothing is beside them: what the broker gives and takes.

    make bench T=tests/benchmarks/broker.py ARGS="--rounds 5"
"""

import argparse
import asyncio
import os
import platform
import resource
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import msgspec
import uvloop
from bare_socket import drain, flood

from loopcast.broker.clients import client_of
from loopcast.broker.consumer import Consumer
from loopcast.broker.declare import ensure
from loopcast.broker.log import LogReader
from loopcast.broker.publisher import Publisher
from loopcast.events import Event, format_time, source_of
from loopcast.ids import uuid7
from loopcast.node import Node
from loopcast.topology import EVENTS, Topology
from loopcast.wire import to_message

CLIENTS = ("loopcast", "aio-pika")
BARE = "a bare socket"
BODY_BYTES = 512
BATCH = 500
IN_FLIGHT = 4
PREFETCH = 5000
RATE = 500
WARM = "2026-11-20T17:38:28.606955Z"
TICK = os.sysconf("SC_CLK_TCK")


def messages(count, experiment="bench"):
    """Events as a producer publishes them, 512 bytes each."""
    made, padding = [], None
    for n in range(count):
        event = Event(
            id=uuid7(),
            source=source_of(experiment, "run-1"),
            type="action_output",
            subject="bench",
            time=WARM,
            experiment=experiment,
            run="run-1",
            attempt=1,
            recorded_time=format_time(1_780_000_000_000_000 + n),
            emitter="0123456789abcdef",
            sequence=f"{n + 1:020}",
            data=msgspec.Raw(b'{"line":"%s"}' % (b"x" * (padding or 0))),
        )
        if padding is None:
            padding = BODY_BYTES - len(event.encode())
            event = msgspec.structs.replace(event, data=msgspec.Raw(b'{"line":"%s"}' % (b"x" * padding)))
        made.append(to_message(event, 0))
    return made


class Clock:
    """Wall time, and processor time of this process and of the broker."""

    def __init__(self, pid):
        self._stat = Path(f"/proc/{pid}/stat")

    def __enter__(self):
        self._begin = self._now()
        return self

    def __exit__(self, *_):
        self.wall, self.client, self.broker = (b - a for a, b in zip(self._begin, self._now(), strict=True))

    def _now(self):
        usage = resource.getrusage(resource.RUSAGE_SELF)
        fields = self._stat.read_text().rpartition(")")[2].split()
        return time.perf_counter(), usage.ru_utime + usage.ru_stime, (int(fields[11]) + int(fields[12])) / TICK


class Bench:
    """One node, one virtual host a case."""

    def __init__(self, node, pid):
        self.node, self.pid, self._hosts = node, pid, 0

    async def host(self):
        """A URL with the topology declared, nothing in the log."""
        self._hosts += 1
        url = await asyncio.to_thread(self.node.add_vhost, f"bench-{self._hosts}")
        await ensure(client_of("aio-pika"), url, Topology(), mode="declare", name="bench topology")
        return url

    async def publish(self, client, url, batch, *, size=BATCH, in_flight=IN_FLIGHT):
        """Publish `batch` in requests of `size`, `in_flight` at a time, each confirmed."""
        async with Publisher(client_of(client), url, name="bench publish") as publisher:
            await publisher.wait_connected()
            room = asyncio.Semaphore(in_flight)

            async def request(part):
                async with room:
                    await publisher.publish(part, timeout=120)

            with Clock(self.pid) as clock:
                await asyncio.gather(*(request(batch[i : i + size]) for i in range(0, len(batch), size)))
        return clock

    async def read(self, client, url, count):
        """Read `count` events of the log from its beginning."""
        seen = 0
        async with LogReader(client_of(client), url, "loopcast.log.0", name="bench read", prefetch=PREFETCH) as reader:
            with Clock(self.pid) as clock:
                async for deliveries in reader.batches("first"):
                    seen += len(deliveries)
                    if seen >= count:
                        break
        return clock

    async def consume(self, client, url, count):
        """Consume `count` messages of a quorum queue, acknowledged in batches."""
        seen = 0
        async with Consumer(client_of(client), url, "bench", name="bench consume", prefetch=1000) as consumer:
            with Clock(self.pid) as clock:
                async for deliveries in consumer.batches():
                    seen += len(deliveries)
                    consumer.ack(deliveries[-1].tag)
                    if seen >= count:
                        break
        return clock

    async def latency(self, client, url, seconds):
        """Milliseconds from before publishing to having read, at 500 events a second."""
        took, sent = [], {}
        batch = messages(RATE * seconds)
        async with (
            LogReader(client_of(client), url, "loopcast.log.0", name="bench read") as reader,
            Publisher(client_of(client), url, name="bench publish") as publisher,
        ):
            await publisher.wait_connected()

            async def follow():
                async for deliveries in reader.batches("next"):
                    now = time.perf_counter()
                    took.extend((now - sent[d.message_id]) * 1000 for d in deliveries)
                    if len(took) >= len(batch):
                        return

            following = asyncio.create_task(follow())
            await reader.wait_connected()
            await asyncio.sleep(0.3)
            begin, pending = time.perf_counter(), set()
            for n, message in enumerate(batch):
                await asyncio.sleep(max(0, begin + n / RATE - time.perf_counter()))
                sent[message.message_id] = time.perf_counter()
                pending.add(asyncio.create_task(publisher.publish([message], timeout=30)))
            await asyncio.gather(*pending)
            await asyncio.wait_for(following, 30)
        return sorted(took)


def queue(node, host):
    """A quorum queue bound to everything, in the virtual host of the URL `host`."""

    async def make():
        import aio_pika

        connection = await aio_pika.connect(host)
        async with connection:
            channel = await connection.channel()
            made = await channel.declare_queue("bench", durable=True, arguments={"x-queue-type": "quorum"})
            await made.bind(EVENTS, "#")

    return make()


def row(case, client, counts, clocks):
    """A line of the table: median rate, and processor time for each event."""
    rates = [n / clock.wall for n, clock in zip(counts, clocks, strict=True)]
    client_us = statistics.median(clock.client / n * 1e6 for n, clock in zip(counts, clocks, strict=True))
    broker_us = statistics.median(clock.broker / n * 1e6 for n, clock in zip(counts, clocks, strict=True))
    spread = f"{min(rates):,.0f} to {max(rates):,.0f}"
    print(
        f"| {case} | {client} | {statistics.median(rates):,.0f} | {spread} | {client_us:.1f} | {broker_us:.1f} |",
        flush=True,
    )


async def run(bench, options):
    """Every case, the clients in turns."""
    results = {}
    for _ in range(options.rounds):
        for client in CLIENTS:
            count = options.events if client == "loopcast" else options.events // 5
            batch = messages(count)
            if client == "loopcast":
                await bare(bench, results, batch)
            url = await bench.host()
            results.setdefault(("publish", client), []).append((count, await bench.publish(client, url, batch)))
            results.setdefault(("read, written in bursts", client), []).append(
                (count, await bench.read(client, url, count))
            )
            url = await bench.host()
            await queue(bench.node, url)
            await bench.publish("loopcast", url, batch)
            results.setdefault(("consume", client), []).append((count, await bench.consume(client, url, count)))
        url = await bench.host()
        single = messages(options.singles)
        await bench.publish("loopcast", url, single, size=1, in_flight=1)
        # Not counted: whoever reads first also warms the broker's cache.
        drain(url, options.singles, ack_every=PREFETCH // 4)
        results.setdefault(("read, written one by one", BARE), []).append(
            (options.singles, timed(bench, drain, url, options.singles, ack_every=PREFETCH // 4))
        )
        for client in CLIENTS:
            results.setdefault(("read, written one by one", client), []).append(
                (options.singles, await bench.read(client, url, options.singles))
            )
    print("| | client | events/s, median | spread | client µs/event | broker µs/event |")
    print("|---|---|---|---|---|---|")
    for (case, client), runs in sorted(results.items()):
        row(case, client, [n for n, _ in runs], [clock for _, clock in runs])
    print("\n| publish → read at 500/s | p50 ms | p99 ms |\n|---|---|---|")
    for client in CLIENTS:
        rounds = [await bench.latency(client, await bench.host(), options.seconds) for _ in range(options.rounds)]
        p50 = statistics.median(r[len(r) // 2] for r in rounds)
        p99 = statistics.median(r[len(r) * 99 // 100] for r in rounds)
        print(f"| {client} | {p50:.2f} | {p99:.2f} |", flush=True)


async def bare(bench, results, batch):
    """The same publishing and reading by a bare socket."""
    url = await bench.host()
    published = timed(bench, flood, url, batch, size=BATCH, in_flight=IN_FLIGHT)
    results.setdefault(("publish", BARE), []).append((len(batch), published))
    read = timed(bench, drain, url, len(batch), ack_every=PREFETCH // 4)
    results.setdefault(("read, written in bursts", BARE), []).append((len(batch), read))


def timed(bench, work, *args, **options):
    """The clock of `work`, which says itself how many seconds counted."""
    with Clock(bench.pid) as clock:
        seconds = work(*args, **options)
    clock.wall = seconds
    return clock


def server_pid(data):
    """The process of the node whose data lies in `data`."""
    listing = subprocess.run(["ps", "-A", "-ww", "-o", "pid=,args="], capture_output=True, text=True, check=True)
    return next(int(line.split()[0]) for line in listing.stdout.splitlines() if str(data) in line and "beam" in line)


def main():
    """Run on a private node, and print tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--events", type=int, default=50_000, help="events a case (a fifth of it for aio-pika)")
    parser.add_argument("--singles", type=int, default=8_000, help="events of the log that is written one by one")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5, help="of the latency case")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="loopcast-bench-") as data, Node(Path(data)) as node:
        print(f"RabbitMQ {node.version}, Python {platform.python_version()}, {os.cpu_count()} cores, {BODY_BYTES} B\n")
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run(Bench(node, server_pid(data)), options))


if __name__ == "__main__":
    main()
