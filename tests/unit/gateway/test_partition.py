"""What a process knows of a partition, and reading stretches of it again."""

from loopcast.broker.interface import Delivery
from loopcast.holes import Hole
from loopcast.metrics import REPEAT_KEYS_EVICTED, Metrics
from loopcast.position import Anchor, Position
from loopcast.repeats import Repeats
from loopcast.settings import GatewaySettings
from loopcast.topology import APP_ID, HEARTBEAT
from loopcast_gateway.digest import Digest
from loopcast_gateway.gateway import Gateway
from loopcast_gateway.instruments import Instruments
from loopcast_gateway.partition import Partition
from loopcast_gateway.resume import LEAD_IN, Stretch

BOUNDS = {"ring_events": 4, "ring_bytes": 10**6, "ring_total_bytes": 10**6}


def message(offset, *, n=None, id_=None, app=APP_ID, type_="t", headers=None, body=b'{"n":1}'):
    given = {"experiment": "a", "run": "r", "emitter": "e", "sequence": offset if n is None else n, "recorded": 7}
    return Delivery(
        tag=0,
        routing_key="a.t",
        body=body,
        message_id=f"id-{offset if n is None else n}" if id_ is None else id_,
        type=type_,
        headers=given if headers is None else headers,
        app_id=app,
        offset=offset,
    )


def heartbeat(offset):
    return message(offset, id_=f"beat-{offset}", type_=HEARTBEAT, headers={})


def offsets(entries):
    return [entry.offset for entry in entries]


def test_heartbeats_and_repeats_are_read_and_not_shown():
    """The tail goes over everything, and only first copies of events come out."""
    partition = Partition(0, **BOUNDS)
    fresh = partition.take([message(3), heartbeat(4), message(5, n=3), message(6)])

    assert [3, 6] == offsets(fresh)
    assert (6, 1) == (partition.tail, partition.repeats)
    assert str(Position.of(0, 6, "id-6")) == partition.pos


def test_what_is_no_longer_known_for_a_repeat_is_counted():
    """Each emitter or id that had to go counts once, over two looks and a log made anew."""
    metrics = Metrics("gateway", "0")
    gateway, instruments = Gateway(object(), GatewaySettings(), metrics), Instruments(metrics)
    partition = gateway.tails[0].partition

    counted = []
    for first in (0, 10):
        partition.digest.repeats = Repeats(pairs=1, ids=1)
        partition.take([message(first + n, app="other", id_=f"{first}-{n}") for n in range(3)])
        instruments.report(gateway)
        counted.append(metrics.registry.get_sample_value(REPEAT_KEYS_EVICTED.name))
        partition.reset()

    assert [2, 4] == counted


def counted(offset, n, *, attempt=1, type_="t"):
    """An event that its source numbered; without an attempt a producer did."""
    headers = {"experiment": "a", "run": "r", "emitter": "e", "sequence": n, "attempt": attempt}
    given = {name: value for name, value in headers.items() if value}
    return message(offset, n=n, type_=type_, headers=given, body=b'{"data":{}}')


def whole():
    """A partition that is read from the beginning of its log."""
    partition = Partition(0, **BOUNDS)
    partition.begin(Digest(), -1)
    return partition


def test_numbers_that_were_skipped_are_missing_of_their_run():
    """Each hole is told once, by the run too; a repeat, an emitter's first and a producer's numbers tell of none."""
    partition = whole()
    partition.take([counted(0, 7, type_="loop_start"), counted(1, 9), counted(2, 9), heartbeat(3)])
    partition.take([counted(4, 8), counted(5, 14), counted(6, 15), counted(7, 30, attempt=0)])

    assert [Hole("a", "r", 1), Hole("a", "r", 4)] == partition.digest.missed()
    assert [] == partition.digest.missed()
    assert [5] == [run.missing for run in partition.digest.runs.of("a", 0)]


def test_a_checkpoint_knows_what_is_missing():
    """Who goes on from a checkpoint adds to what it says, also behind a hole that the restart lay in."""
    before = whole()
    before.take([counted(0, 1, type_="loop_start"), counted(1, 5)])
    after = Partition(0, **BOUNDS)
    after.begin(Digest.load(before.digest.dump()), 1)
    after.take([counted(2, 8)])

    assert [Hole("a", "r", 2)] == after.digest.missed()
    assert [5] == [run.missing for run in after.digest.runs.of("a", 0)]


def test_a_checkpoint_from_before_missing_events_were_counted_is_read():
    """Its runs are missing nothing so far, and what it wrote has no such member."""
    before = whole()
    before.take([counted(0, 1, type_="loop_start"), counted(1, 2)])
    record = before.digest.dump()
    after = Partition(0, **BOUNDS)
    after.begin(Digest.load(record), 1)
    after.take([counted(2, 4)])

    assert b"missing" not in record["runs"]
    assert [1] == [run.missing for run in after.digest.runs.of("a", 0)]


def test_who_began_in_the_middle_says_of_nothing_that_it_is_missing():
    """What stands first there may be half of a repeat; the reading of what was before it tells."""
    partition = Partition(0, **BOUNDS)
    log = [counted(7, 2, type_="loop_start"), counted(8, 5)]
    partition.take(log)
    assert [] == partition.digest.missed()
    assert [0] == [run.missing for run in partition.digest.runs.of("a", 0)]

    digest = Digest()
    for delivery in (counted(6, 1), *log):
        digest.read(delivery, 0)
    partition.complete(digest)
    partition.take([counted(9, 7)])

    assert [Hole("a", "r", 1)] == partition.digest.missed()
    assert [3] == [run.missing for run in partition.digest.runs.of("a", 0)]


def test_an_event_that_is_called_a_heartbeat_is_an_event():
    """Only what has no experiment and comes from us is a heartbeat; an event may have any type."""
    partition = Partition(0, **BOUNDS)

    assert [1] == offsets(partition.take([message(1, type_=HEARTBEAT)]))


def test_a_stranger_cannot_pass_for_a_repeat_or_a_heartbeat():
    """A stranger's numbers are not believed, so that it can neither hide an event of others nor its own."""
    partition = Partition(0, **BOUNDS)
    fresh = partition.take([
        message(1, n=5),
        message(2, n=9, id_="x", app="other"),
        message(3, n=6),
        message(4, n=9, id_="x", app="other"),
        message(5, id_="y", app="other", type_=HEARTBEAT, headers={}),
    ])  # fmt: skip

    assert [1, 2, 3, 5] == offsets(fresh)
    assert all(entry.experiment == "a" for entry in fresh)


def test_positions_are_proven_from_memory():
    """Events, repeats and heartbeats that were read prove a position of theirs, and disprove another of the place."""
    partition = Partition(0, **BOUNDS)
    partition.take([message(0), heartbeat(1), message(2, n=0)])

    assert [Anchor.PROVEN] * 3 == [
        partition.prove(Position.of(0, offset, id_)) for offset, id_ in ((0, "id-0"), (1, "beat-1"), (2, "id-0"))
    ]
    assert Anchor.EPOCH_CHANGED is partition.prove(Position.of(0, 1, "other"))
    assert partition.prove(Position.of(0, 3, "id-3")) is None


def test_reset_forgets_everything():
    """After a reset nothing of the old log is left, and whoever holds on to it can tell."""
    partition = Partition(0, **BOUNDS)
    partition.take([message(0), message(1)])
    partition.reset()

    assert (-1, None, 1) == (partition.tail, partition.pos, partition.generation)
    assert partition.prove(Position.of(0, 0, "id-0")) is None
    assert partition.since("a", -1) is None
    assert 0 == len(partition.catalog)
    assert [0] == offsets(partition.take([message(0)]))


def test_a_replay_leaves_out_what_the_live_feed_left_out():
    """A repeat far behind its first copy is left out of a stretch that never saw the first."""
    partition = Partition(0, **BOUNDS)
    far = 2 * LEAD_IN
    first, again = (message(offset, n=0, headers={"experiment": "a", "run": "q", "emitter": "e", "sequence": 0})
                    for offset in (0, far))  # fmt: skip
    log = [first, *(message(n) for n in range(1, far)), again, message(far + 1)]
    partition.take(log)
    stretch = partition.stretch(Position.of(0, far - 1, f"id-{far - 1}"))
    found = stretch.feed([m for m in log if m.offset >= stretch.start])

    assert [far + 1] == offsets(found)


def test_the_lead_in_warms_the_table():
    """A repeat of what stands before a position is known for one by a process that just started."""
    partition = Partition(0, **BOUNDS)
    log = [message(0), message(1), message(2, n=0), message(3)]
    stretch = partition.stretch(Position.of(0, 1, "id-1"), until=3)

    assert 0 == stretch.start
    assert [3] == offsets(stretch.feed(log))
    assert (Anchor.PROVEN, True, 2) == (stretch.verdict, stretch.done, stretch.scanned)


def read(delivery, repeats):
    return Partition(0, **BOUNDS)._replayed(delivery, repeats)


def test_a_stretch_ends_at_its_end():
    """Nothing above the end is given, whether or not the end itself is still there."""
    for log in ([message(0), message(1), message(2)], [message(0), message(2)]):
        stretch = Stretch(-1, 1, read)
        found = stretch.feed(log)

        assert all(entry.offset <= 1 for entry in found)
        assert stretch.done


def test_a_stretch_without_anything_is_done():
    """Where the end is not above the beginning there is nothing to read."""
    assert (True, True) == ((stretch := Stretch(5, 5, read)).empty, stretch.done)
    assert not Stretch(Position.of(0, 5, "x"), 5, read).empty


def test_a_truncated_log_is_not_resumed():
    """If the log begins above the position, what was between is gone."""
    stretch = Stretch(Position.of(0, 1, "id-1"), 9, read)

    assert [] == stretch.feed([message(4), message(5)])
    assert (Anchor.TRUNCATED, True) == (stretch.verdict, stretch.done)


def test_another_log_is_not_resumed():
    """Another message in the place of the anchor, or none where others stand before it, is another log."""
    for log in ([message(1, id_="other"), message(2)], [message(0), message(2)]):
        stretch = Stretch(Position.of(0, 1, "id-1"), 9, read)

        assert [] == stretch.feed(log)
        assert (Anchor.EPOCH_CHANGED, True) == (stretch.verdict, stretch.done)


def test_the_anchor_itself_is_not_sent_again():
    """What a position points at was seen already."""
    stretch = Stretch(Position.of(0, 1, "id-1"), 9, read)

    assert [2] == offsets(stretch.feed([message(1), message(2)]))
    assert not stretch.done
