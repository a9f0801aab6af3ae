"""
What a replay of one sparse experiment costs: by the index alone, and with the broker's stream filter beside it.

Needs RabbitMQ 3.13 or later: its URL is `--url` (a virtual host of its own there, which is filled and left). The log is
written as producers write it, in requests of a few events of many experiments; in it one experiment has an event in so
many, and is read as a gateway reads it, nothing of it in memory.

    make bench T=tests/benchmarks/stream_filter.py ARGS="--url amqp://guest:guest@127.0.0.1:5672/bench"
"""

import argparse
import asyncio
import random
import statistics
import time

import uvloop
from broker import messages

from loopcast.broker.clients import client_of
from loopcast.broker.declare import ensure
from loopcast.broker.log import LogReader
from loopcast.broker.publisher import Publisher
from loopcast.topology import Topology
from loopcast_gateway.history import History
from loopcast_gateway.partition import Partition
from loopcast_gateway.reading import Reading

EVERY = (100, 1000, 10_000, 50_000)
CLIENT = client_of("loopcast")


def of(experiment, count, start):
    """Events of a run of its own: equal numbers of the same one would be repeats."""
    found = messages(count, experiment)
    for message in found:
        message.headers["run"] = f"{experiment}-{start}"
    return found


async def fill(url, count, request):
    """Write `count` events of 200 experiments, and one in so many of each sparse one, in requests of `request`."""
    await ensure(CLIENT, url, Topology(), mode="declare", name="bench topology")
    chance = random.Random(1)
    made = []
    for start in range(0, count, 1000):
        made += of(f"busy-{start // 1000 % 200}", 1000, start)
    chance.shuffle(made)
    for number, every in enumerate(EVERY):
        places = range(every // 2 + number, count, every)
        for place, message in zip(places, of(f"one-in-{every}", len(places), 0), strict=True):
            made[place] = message
    async with Publisher(CLIENT, url, name="bench publish") as publisher:
        await publisher.wait_connected()
        room = asyncio.Semaphore(4)

        async def send(part):
            async with room:
                await publisher.publish(part, timeout=120)

        await asyncio.gather(*(send(made[i : i + request]) for i in range(0, count, request)))


async def digest(url, count):
    """What a gateway knows of the log; nothing of it in its rings."""
    partition = Partition(0, ring_events=1, ring_bytes=1000, ring_total_bytes=1000)
    partition.begin(partition.digest, -1)
    read = 0
    async with LogReader(CLIENT, url, "loopcast.log.0", name="bench digest") as reader:
        async for batch in reader.batches("first"):
            partition.take(batch)
            read += len(batch)
            if read >= count:
                break
    return partition


async def replay(url, partition, experiment, *, filters):
    """Seconds of a whole replay, how many events it had, and how many messages came for it."""
    history = History(CLIENT, url, Topology(), name="bench", cache_bytes=0)
    if filters:
        # As a gateway that has read something of this broker knows it.
        await history.first(0, "first")
    begun = time.perf_counter()
    reading = Reading(partition, history, experiment, -1, partition.tail)
    found = [e async for entries in reading.batches() for e in entries if e.experiment == experiment]
    return time.perf_counter() - begun, len(found), reading.scanned, history.reads


async def run(options):
    """Each experiment by both ways in turns."""
    if not options.filled:
        await fill(options.url, options.events, options.request)
    partition = await digest(options.url, options.events)
    print("| one event in | events | way | seconds, median | range | messages | reads |\n|---|---|---|---|---|---|---|")
    for every in options.every:
        results = {}
        for _ in range(options.rounds):
            for way in ("index", "index and filter"):
                found = await replay(options.url, partition, f"one-in-{every}", filters=way != "index")
                results.setdefault(way, []).append(found)
        for way, runs in results.items():
            seconds = [one[0] for one in runs]
            _, events, scanned, reads = runs[0]
            print(
                f"| {every:,} | {events} | {way} | {statistics.median(seconds):.2f} "
                f"| {min(seconds):.2f} to {max(seconds):.2f} | {scanned:,} | {reads} |"
            )


def main():
    """Read the options, and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--url", required=True)
    parser.add_argument("--events", type=int, default=300_000)
    parser.add_argument("--request", type=int, default=20, help="events of one request")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--every", type=int, nargs="+", default=list(EVERY), help="how rare: one event in so many")
    parser.add_argument("--filled", action="store_true", help="the log is there already")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
