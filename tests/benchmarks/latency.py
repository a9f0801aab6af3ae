"""
How long an event takes from the loop to a viewer: HTTP in, RabbitMQ, WebSocket out, each service a process of its own.

    make bench T=tests/benchmarks/latency.py ARGS="--runs 5"

500 single requests a second, 100 viewers that follow the experiment; one of them is timed, the others are the load
client of the fan-out benchmark. Beside it in the same run the plain way: an aio-pika consumer on a queue bound to the
experiment.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import aio_pika
from fanout import Client, compiled
from websockets.asyncio.client import connect

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from processes import Producer

from loopcast.node import Node

RATE = 500
VIEWERS = 100
SENDERS = 8
EXPERIMENT = "exp"


class Gateway(Producer):
    """A gateway is started and waited for as a producer is."""

    module = "loopcast_gateway"


class Times:
    """When each event was sent, accepted, and seen by whom."""

    def __init__(self):
        self.sent, self.accepted, self.seen = {}, {}, {"viewer": {}, "aio-pika consumer": {}}

    def ages(self, who, since):
        """Milliseconds, sorted."""
        ends = self.accepted if who == "answer" else self.seen[who]
        return sorted((at - since[n]) * 1000 for n, at in ends.items() if n in since)


async def send(port, numbers, begin, times):
    """Post each number at its time, on one connection that is kept."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for n in numbers:
        body = b'{"event":"tick","n":%d,"text":"%s"}' % (n, b"x" * 180)
        head = f"POST /v1/experiments/{EXPERIMENT}/events HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n"
        head += f"content-type: application/json\r\nloopcast-run: r\r\ncontent-length: {len(body)}\r\n\r\n"
        await asyncio.sleep(max(0.0, begin + n / RATE - time.perf_counter()))
        times.sent[n] = time.perf_counter()
        writer.write(head.encode() + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        times.accepted[n] = time.perf_counter()
        assert answer.startswith(b"HTTP/1.1 202"), answer
        length = next(line for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length"))
        await reader.readexactly(int(length.partition(b":")[2]))
    writer.close()


async def view(port, times, ready):
    """Follow by WebSocket."""
    async with connect(f"ws://127.0.0.1:{port}/ws", subprotocols=["loopcast.v1.json"]) as socket:
        await socket.send(json.dumps({"id": 1, "action": "subscribe", "experiment_id": EXPERIMENT}))
        async for message in socket:
            now = time.perf_counter()
            frame = json.loads(message)
            if frame["type"] == "subscribed":
                ready.set()
            elif frame["type"] == "event":
                times.seen["viewer"][frame["event"]["data"]["n"]] = now


async def consume(url, times, ready):
    """Follow by a queue of one's own."""
    connection = await aio_pika.connect(url)
    async with connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind("loopcast.events", f"{EXPERIMENT}.#")

        def took(message):
            times.seen["aio-pika consumer"][json.loads(message.body)["data"]["n"]] = time.perf_counter()

        await queue.consume(took, no_ack=True)
        ready.set()
        await asyncio.Event().wait()


async def run(url, producer, gateway, binary, seconds):
    """One run: the times of every event."""
    times, count = Times(), RATE * seconds
    followers, others = [], None
    for follow in (view(gateway.port, times, here := asyncio.Event()), consume(url, times, there := asyncio.Event())):
        followers.append(asyncio.create_task(follow))
    await asyncio.gather(here.wait(), there.wait())
    server = SimpleNamespace(kind="gateway", port=gateway.port)
    others = await asyncio.to_thread(Client, binary, server, VIEWERS - 1)
    begin = time.perf_counter() + 0.2
    await asyncio.gather(*(send(producer.port, range(k, count, SENDERS), begin, times) for k in range(SENDERS)))
    async with asyncio.timeout(20):
        while min(map(len, times.seen.values())) < count:  # noqa: ASYNC110 - an event would cost what is measured
            await asyncio.sleep(0.05)
    others.end()
    for task in followers:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    return times


def table(runs):
    """Medians of the runs' percentiles."""
    print("| | from | p50 ms | p99 ms | worst p99 |\n|---|---|---|---|---|")
    for who, start in itertools.product(("viewer", "aio-pika consumer", "answer"), ("sent", "accepted")):
        if (who, start) == ("answer", "accepted"):
            continue
        ages = [times.ages(who, getattr(times, start)) for times in runs]
        p50 = statistics.median(a[len(a) // 2] for a in ages)
        tails = [a[len(a) * 99 // 100] for a in ages]
        print(f"| {who} | {start} | {p50:.2f} | {statistics.median(tails):.2f} | {max(tails):.2f} |")


def main():
    """Start the parts, run, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=10)
    options = parser.parse_args()
    with compiled() as binary, tempfile.TemporaryDirectory(prefix="loopcast-bench-") as name:
        folder = Path(name)
        with (
            Node(folder / "node") as node,
            Producer(node.amqp_url, folder / "producer.log") as producer,
            Gateway(node.amqp_url, folder / "gateway.log") as gateway,
        ):
            print(f"RabbitMQ {node.version}, Python {platform.python_version()}, {os.cpu_count()} cores\n")
            runs = [
                asyncio.run(run(node.amqp_url, producer, gateway, binary, options.seconds)) for _ in range(options.runs)
            ]
        table(runs)


if __name__ == "__main__":
    main()
