"""
Whatever happens in whatever order, a viewer gets each event that it asked for, once, or hears that some are missing.

The hub, the rings, the stretches and the chase are real; the log, its readers and the viewer's socket are made up here,
so that Hypothesis can interleave them as no broker would.
"""

import asyncio
import json
import struct
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopcast.broker.interface import Delivery
from loopcast.errors import BrokerUnavailable
from loopcast.position import Position
from loopcast.topology import APP_ID, HEARTBEAT, Topology
from loopcast_gateway import blocks
from loopcast_gateway.catchup import CatchUp
from loopcast_gateway.dialects import JSON
from loopcast_gateway.digest import Digest
from loopcast_gateway.history import History
from loopcast_gateway.hub import Hub
from loopcast_gateway.partition import Partition
from loopcast_gateway.places import Places
from loopcast_gateway.protocol import Subscribe
from loopcast_gateway.prover import Prover
from loopcast_gateway.resume import LEAD_IN
from loopcast_gateway.tally import Tally


@pytest.fixture(autouse=True, scope="module")
def _blocks_of_any_size():
    yield
    blocks.BLOCK_OFFSETS = OFFSETS


class Log:
    """A stream in memory, with offsets that rise but have holes, as a broker's do."""

    def __init__(self):
        self.messages = []
        """What it has now."""
        self.ever = []
        """What it has and had."""
        self._sequences = Counter()

    def append(self, experiment):
        """An event, a heartbeat (None), or the last event of an experiment once more (in upper case)."""
        offset = self.messages[-1].offset + 1 + len(self.messages) % 7 // 6 if self.messages else 0
        if experiment is None:
            self._add(offset, f"beat-{offset}", HEARTBEAT, b"{}", {})
            return
        repeat, experiment = experiment.isupper(), experiment.lower()
        number = self._sequences[experiment] = max(1, self._sequences[experiment] + (not repeat))
        headers = {"experiment": experiment, "run": experiment, "emitter": "e", "sequence": number}
        headers["recorded"] = offset * 10**6
        body = f'{{"experiment":"{experiment}","n":{number}}}'.encode()
        self._add(offset, f"{experiment}-{number}", "t", body, headers)

    def _add(self, offset, id_, type_, body, headers):
        message = Delivery(
            tag=0,
            routing_key="",
            body=body,
            message_id=id_,
            type=type_,
            headers=headers,
            app_id=APP_ID,
            offset=offset,
        )
        self.messages.append(message)
        self.ever.append(message)

    def truncate(self, count):
        """Retention takes the first messages; the last one is never among them."""
        del self.messages[: min(count, len(self.messages) - 1)]

    def events(self):
        """(experiment, n, offset) of each event's first copy."""
        seen, found = set(), []
        for message in self.ever:
            if message.type != HEARTBEAT and message.message_id not in seen:
                seen.add(message.message_id)
                found.append((message.headers["experiment"], message.headers["sequence"], message.offset))
        return found


class Memory(History):
    """Reads the log in small batches, giving way to everything else between them; blocks and sharing are real."""

    def __init__(self, log, batch, cache):
        super().__init__(None, "", Topology(), name="memory", cache_bytes=cache)
        self._log = log
        self._batch = batch

    async def _batches(self, partition, start, *, prefetch=2000):  # noqa: ARG002
        begin = 0 if start == "first" else start
        if isinstance(begin, str):
            # By time a broker is exact to the chunk only.
            late = [m.offset for m in self._log.messages if m.headers.get("recorded", 0) >= int(begin[1:]) * 10**6]
            begin = max(0, (late[0] if late else self._log.messages[-1].offset) - 3)
        while True:
            await asyncio.sleep(0)
            batch = [m for m in self._log.messages if m.offset >= begin][: self._batch]
            if not batch:
                raise BrokerUnavailable("silent")
            yield batch
            begin = batch[-1].offset + 1


class Tail:
    """What reads the log to its end: here, when it is told to."""

    def __init__(self, log, partition):
        self.partition = partition
        self.ready = asyncio.Event()
        self.read_on = self.catch_up
        self._log = log
        self._read = 0

    def begin_at(self, number):
        """Leave out the first messages, as a gateway does that starts on a long log."""
        self._read = number
        self.partition.lead_in(self._log.ever[:number][-LEAD_IN:])

    def complete(self):
        """Know of all that was read and of what stood in the log before."""
        digest = Digest()
        for message in self._log.ever[: self._read]:
            digest.read(message, 0)
        self.partition.complete(digest)

    def catch_up(self, count):
        batch = self._log.ever[self._read : self._read + count]
        self._read += len(batch)
        return self.partition.take(batch)

    async def mark(self, timeout):  # noqa: ARG002
        self._log.append(None)
        offset = self._log.messages[-1].offset
        # It is known by coming back: all that stands before it was read then.
        await asyncio.sleep(0)
        self.read_on(len(self._log.ever))
        return offset


class Viewer:
    """A socket that may be full."""

    dialect = JSON

    def __init__(self):
        self.frames = []
        self.congested = False
        self._room = asyncio.Event()

    def put(self, chunk):
        while chunk:
            size, at = chunk[1], 2
            if size == 126:
                (size,), at = struct.unpack(">H", chunk[2:4]), 4
            self.frames.append(json.loads(chunk[at : at + size]))
            chunk = chunk[at + size :]

    def say(self, frame):
        self.put(JSON.frame(frame))

    async def room(self):
        while self.congested:
            self._room.clear()
            await self._room.wait()

    def read(self, congested):
        self.congested = congested
        self._room.set()


class World:
    """All of them together."""

    def __init__(self, *, ring, batch, block, cache, before):
        blocks.BLOCK_OFFSETS = block
        self.log = Log()
        self.partition = Partition(0, ring_events=ring, ring_bytes=10**6, ring_total_bytes=10**6)
        self.tail = Tail(self.log, self.partition)
        self.tail.read_on = self.read
        self.hub = Hub(1)
        self.viewer = Viewer()
        history = Memory(self.log, batch, cache)
        prover, places = Prover([self.tail], history), Places([self.tail], history, max_scan=10**6)
        self.catch_up = CatchUp(
            self.hub, [self.tail], history, prover=prover, places=places, tally=Tally(), max_scan=10**6
        )
        self.tasks = []
        for experiment in before:
            self.log.append(experiment)
        self.tail.begin_at(len(before))
        self.partition.whole = not before
        self.log.append(None)
        self.read(1)
        self.tail.ready.set()

    def read(self, count):
        self.hub.dispatch(0, self.tail.catch_up(count))

    def subscribe(self, experiment, start):
        """
        From "now", "earliest", behind the n-th message that was read, at its time, or the last n events.

        Or "ahead", behind one that perhaps only another gateway has read. Where it begins, None if it is refused.
        """
        if self.hub.get(self.viewer, experiment) is not None:
            return None
        subscription = self.hub.add(self.viewer, experiment)
        tail = self.partition.tail
        known = [message for message in self.log.ever if message.offset <= tail]
        behind, resumed = -1, {}
        command = Subscribe(experiment_id=experiment, start=start if isinstance(start, str) else "now")
        if start == "now":
            behind = tail
        elif isinstance(start, tuple):
            how, number = start
            known = self.log.ever if how == "ahead" else known
            anchor = known[number % len(known)]
            behind = anchor.offset
            if how in ("resume", "ahead"):
                resumed = {0: Position.of(0, anchor.offset, anchor.message_id)}
                command.resume = str(resumed[0])
            elif how == "since":
                command.since_ts = anchor.offset
            else:
                command.start, command.limit = "last", number
                mine = [o for e, _, o in self.log.events() if o <= tail and experiment in (e, "*")]
                behind = mine[-number - 1] if len(mine) > number else -1
                behind = tail if number == 0 else behind
        self.hub.place(subscription, {0: behind if start == "now" else -1}, [tail])
        if start == "now":
            self.catch_up.from_now(subscription, command)
        else:
            self._run(self.catch_up.with_history(subscription, command, resumed))
        return behind

    def _run(self, work):
        self.tasks.append(asyncio.get_running_loop().create_task(work))

    async def happen(self, what, value):
        if what == "publish":
            for experiment in value:
                self.log.append(experiment)
        elif what == "read":
            self.read(value)
        elif what == "complete":
            self.tail.complete()
        elif what == "truncate":
            # Not what this gateway has still to read live: it is there as soon as it is published.
            first = next((n for n, m in enumerate(self.log.messages) if m.offset > self.partition.tail), 10**6)
            self.log.truncate(min(value, max(0, first - 1)))
        elif what == "full":
            self.viewer.read(value)
        else:
            for _ in range(value):
                await asyncio.sleep(0)

    async def settle(self):
        """Let the viewer read, and the tail reach the end, until nothing more happens."""
        self.viewer.read(False)
        self.tail.complete()
        self.read(len(self.log.ever))
        await asyncio.gather(*self.tasks)

    def seen(self):
        return [f["event"] for f in self.viewer.frames if f["type"] == "event"]

    def said(self, kind):
        return [f for f in self.viewer.frames if f["type"] == kind]


OFFSETS = blocks.BLOCK_OFFSETS
starts = st.one_of(
    st.sampled_from(["now", "earliest"]), st.tuples(st.sampled_from(["resume", "since", "last"]), st.integers(0, 40))
)
happenings = st.one_of(
    st.tuples(st.just("publish"), st.lists(st.sampled_from(["a", "b", "A", None]), max_size=8)),
    st.tuples(st.just("read"), st.integers(1, 6)),
    st.tuples(st.just("turns"), st.integers(1, 12)),
    st.tuples(st.just("full"), st.booleans()),
    st.tuples(st.just("complete"), st.none()),
)
subscriptions = st.one_of(
    st.tuples(st.just("subscribe"), st.sampled_from(["a", "b", "*"]), starts),
    st.tuples(st.just("unsubscribe"), st.sampled_from(["a", "b", "*"])),
)
worlds = st.fixed_dictionaries(
    {
        "ring": st.integers(1, 6),
        "batch": st.integers(1, 7),
        "block": st.sampled_from([4, 8, 4096]),
        "cache": st.sampled_from([0, 10_000, 10**6]),
        "before": st.lists(st.sampled_from(["a", "b", "A", None]), max_size=12),
    }
)


def play(shape, before, experiment, start, after):
    """A world in which one subscription begins between two stretches of happenings, and what it has to be given."""

    async def scenario():
        world = World(**shape)
        for step in before:
            await world.happen(*step)
        behind = world.subscribe(experiment, start)
        for step in after:
            await world.happen(*step)
        await world.settle()
        return world, behind

    world, behind = asyncio.run(scenario())
    return world, [(e, n) for e, n, offset in world.log.events() if offset > behind and experiment in (e, "*")]


@settings(max_examples=300, deadline=None)
@given(
    worlds,
    st.lists(happenings, max_size=25),
    st.sampled_from(["a", "*"]),
    st.one_of(starts, st.tuples(st.just("ahead"), st.integers(0, 40))),
    st.lists(happenings, max_size=25),
)
def test_one_subscription_is_exact(shape, before, experiment, start, after):
    """One subscription gets every event behind its beginning, once each, in the order of the log."""
    world, wanted = play(shape, before, experiment, start, after)

    assert wanted == [(event["experiment"], event["n"]) for event in world.seen()]
    assert [] == world.said("gap")
    if start != "now":
        assert 1 == len(world.said("caught_up"))
        assert all(frame.get("reason") is None for frame in world.said("subscribed"))


@settings(max_examples=500, deadline=None)
@given(worlds, st.lists(st.one_of(happenings, subscriptions), max_size=50))
def test_any_subscriptions_lose_nothing_and_repeat_only_history(shape, steps):
    """
    Over any subscribing and unsubscribing, nothing that was asked for is missing, and what is live comes once.

    An event comes at least once if a subscription that still stands covers it. It comes at most once for each history
    that it was in when that was asked for, and once live.
    """

    async def scenario():
        world, current, asked = World(**shape), {}, []
        for what, *values in steps:
            if what == "subscribe":
                behind = world.subscribe(*values)
                if behind is not None:
                    current[values[0]] = behind
                    asked.append((values[0], behind, world.partition.tail))
            elif what == "unsubscribe":
                world.hub.remove(world.viewer, values[0])
                current.pop(values[0], None)
            else:
                await world.happen(what, *values)
        await world.settle()
        return world, current, asked

    world, current, asked = asyncio.run(scenario())
    seen = Counter((event["experiment"], event["n"]) for event in world.seen())
    for experiment, number, offset in world.log.events():
        names = (experiment, "*")
        covered = any(name in names and offset > behind for name, behind in current.items())
        history = sum(name in names and behind < offset <= tail for name, behind, tail in asked)
        live = any(name in names and offset > tail for name, _, tail in asked)

        assert covered <= seen[experiment, number] <= history + live, (experiment, number, offset)
    assert [] == world.said("gap")


busy = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.lists(st.sampled_from(["a", "a", "b"]), min_size=1, max_size=5)),
        st.tuples(st.just("read"), st.integers(1, 5)),
        st.tuples(st.just("turns"), st.integers(1, 4)),
    ),
    max_size=6,
)


@settings(max_examples=600, deadline=None)
@given(worlds, st.lists(busy, min_size=4, max_size=4), st.tuples(starts, starts), st.booleans())
def test_everything_stays_whole_beside_one_in_detail(shape, fillings, places, everything_first):
    """A viewer of * misses nothing of an experiment that it also followed by itself for a while."""

    async def scenario():
        world, behind = World(**shape), {}
        order = ["*", "a"] if everything_first else ["a", "*"]
        for filling, step in zip(fillings, [*zip(order, places, strict=True), None, None], strict=True):
            for happening in filling:
                await world.happen(*happening)
            if step is not None:
                behind[step[0]] = world.subscribe(*step)
            else:
                world.hub.remove(world.viewer, "a")
        world.log.append("a")
        await world.settle()
        return world, behind

    world, behind = asyncio.run(scenario())
    seen = Counter((event["experiment"], event["n"]) for event in world.seen())
    missing = [(e, n) for e, n, offset in world.log.events() if offset > behind["*"] and not seen[e, n]]

    assert [] == missing
    assert 1 == world.hub.count(world.viewer)
    assert world.hub.get(world.viewer, "a") is None


@settings(max_examples=500, deadline=None)
@given(
    # Whoever has read neither the first copy nor a checkpoint cannot know a repeat whose first copy is gone.
    worlds.map(lambda shape: {**shape, "before": []}),
    st.lists(st.one_of(happenings, st.tuples(st.just("truncate"), st.integers(1, 15))), max_size=20),
    st.sampled_from(["a", "*"]),
    starts,
    st.lists(st.one_of(happenings, st.tuples(st.just("truncate"), st.integers(1, 15))), max_size=25),
)
def test_what_retention_takes_is_said(shape, before, experiment, start, after):
    """
    Whenever retention takes a part of the log, what comes is in order and once, and a hole in it is said.

    Only where the earliest there is was asked for may the beginning be later than it once was.
    """
    world, wanted = play(shape, before, experiment, start, after)
    seen = [(event["experiment"], event["n"]) for event in world.seen()]
    said = world.said("gap") or [frame for frame in world.said("subscribed") if frame.get("reason")]
    missing = [place for place, event in enumerate(wanted) if event not in seen]
    beginning = not isinstance(start, tuple) or start[0] != "resume"

    assert seen == [event for event in wanted if event in seen]
    assert said or missing == (list(range(len(missing))) if beginning else [])


@settings(max_examples=200, deadline=None)
@given(worlds, st.lists(st.sampled_from(["a", "b"]), min_size=4, max_size=30), st.integers(0, 90))
def test_a_position_of_another_log_is_never_resumed(shape, published, offset):
    """A position that the log does not have, past its end or with another message in its place, is said to be none."""

    async def scenario():
        world = World(**shape)
        for experiment in published:
            world.log.append(experiment)
        world.read(len(world.log.messages))
        subscription = world.hub.add(world.viewer, "a")
        world.hub.place(subscription, {0: offset}, [world.partition.tail])
        position = Position.of(0, offset, "an id of another log")
        command = Subscribe(experiment_id="a", resume=str(position))
        await world.catch_up.with_history(subscription, command, {0: position})
        world.log.append("a")
        world.read(100)
        return world

    world = asyncio.run(scenario())
    answer = world.viewer.frames[0]

    assert ("subscribed", False) == (answer["type"], answer["recovered"])
    assert answer["reason"] in ("epoch_changed", "truncated")
    assert 1 == len(world.seen())
