"""The spool: framed segments on a real disk, what survives there, and who may send it."""

import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from zlib import crc32

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from spools import BASE, batch, drain, folder, limited, recovered

from loopcast.sdk.folder import left_over
from loopcast.sdk.framing import HEAD_BYTES, MARK, frame, unframe
from loopcast.sdk.segments import FileSegment, MemorySegment
from loopcast.sdk.spool import DISK_AGAIN_SECONDS, Spool

RECORDS = st.lists(st.binary(min_size=1, max_size=40), max_size=40)
ON_DISK = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)


@given(RECORDS)
def test_frames_come_back(records):
    """What was framed is read back, byte for byte."""
    found = unframe(b"".join(map(frame, records)), 1000, last=True)

    assert (records, 0) == (found.records, found.damaged)


@given(RECORDS, st.integers(0, 4000), st.binary(max_size=30))
def test_a_torn_tail_costs_the_torn_record_alone(records, cut, garbage):
    """Wherever the end is cut, and whatever lies behind it, all records that are whole before it are read."""
    whole = b"".join(map(frame, records))
    cut = min(cut, len(whole))
    found = unframe(whole[:cut], 1000, last=True)
    behind = unframe(whole[:cut] + garbage, 1000, last=True)

    assert records[: len(found.records)] == found.records
    assert sum(len(r) + HEAD_BYTES for r in found.records) == found.read <= cut
    assert len(found.records) == len(records) or cut - found.read < len(records[len(found.records)]) + HEAD_BYTES
    assert found.records == behind.records[: len(found.records)]


@given(st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=20), st.data())
def test_damage_costs_the_damaged_record_alone(records, data):
    """A bit that changed on the disk loses the record that it is in; those behind it are read, and it is counted."""
    whole = bytearray(b"".join(map(frame, records)))
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= 1 << data.draw(st.integers(0, 7))
    found = unframe(bytes(whole), 1000, last=True)

    end, hit = 0, 0
    while end <= place:
        end += len(records[hit]) + HEAD_BYTES
        hit += 1
    assert records[: hit - 1] + records[hit:] == found.records
    assert (found.damaged > 0) == (hit < len(records))


def test_a_record_may_hold_frames():
    """Records that look like frames inside do not confuse the reader."""
    records = [frame(b"inner"), MARK * 50, frame(frame(b"x"))]

    assert records == unframe(b"".join(map(frame, records)), 10, last=True).records


@ON_DISK
@given(RECORDS, st.integers(0, 500), st.tuples(st.booleans(), st.booleans()), st.lists(st.integers(0, 3), max_size=40))
def test_the_spool_loses_count_of_nothing(tmp_path, records, capacity, kind, actions):
    """Whatever is appended, taken and settled in part, each record is in it, settled, or counted as dropped."""
    oldest, on_disk = kind
    make = (lambda: folder(tmp_path)) if on_disk else None
    spool = Spool(capacity, "drop_oldest" if oldest else "drop_newest", make)
    spool._segment_bytes = 60
    dropped = settled = 0
    numbered = [b"%04d" % n + record[:30] for n, record in enumerate(records)]
    out = []
    for record, action in zip(numbered, [*actions, *[0] * len(records)], strict=False):
        dropped += spool.append(record)
        if action == 1 and spool.batch is None:
            batch(spool, 3, 60)
        elif action > 1 and spool.batch is not None:
            part = spool.batch.records[: action - 1]
            out += part
            settled += spool.settle(len(part))
        assert spool._size <= capacity
        assert len(spool) == spool.waiting + (len(spool.batch.records) if spool.batch else 0)
    if spool.batch:
        out += spool.batch.records
        settled += spool.settle(len(spool.batch.records))
    assert len(numbered) == len(spool) + dropped + settled
    left = drain(spool)
    assert out + left == sorted(out + left)
    assert len(numbered) == len(out) + len(left) + dropped
    assert (0, 0, 0) == (len(spool), spool._size, spool.unreadable)
    assert dropped == spool.dropped
    spool.close()


@ON_DISK
@given(st.booleans(), st.integers(200, 500), st.lists(st.tuples(st.integers(1, 15), st.integers(0, 4)), max_size=60))
def test_the_next_process_knows_all_that_became_of_it(tmp_path_factory, oldest, capacity, steps):
    """Killed at any moment, full or not, a batch in hand or not: the rest is there, in order, and what was dropped."""
    root = tmp_path_factory.mktemp("spool")
    spool = Spool(capacity, "drop_oldest" if oldest else "drop_newest", lambda: folder(root))
    spool._segment_bytes = 150
    dropped, settled = 0, []
    for n, (length, action) in enumerate(steps):
        dropped += spool.append(b"%03d" % n + b"x" * length)
        if action == 1 and spool.batch is None:
            batch(spool, 3, 60)
        elif action == 4 and spool.batch is not None:
            settled += spool.batch.records
            spool.settle(len(spool.batch.records))
    kept = sum(path.stat().st_size for path in root.glob("*/*.events"))
    in_hand = spool.batch.records if spool.batch else []
    expected = len(steps) - dropped - len(settled)
    spool.forget()

    assert kept <= capacity + 2 * 150 + sum(len(r) + HEAD_BYTES for r in in_hand)
    if steps:
        again = recovered(root)
        left = drain(again, 2)
        assert (expected, dropped, 0) == (len(left), again.dropped, again.damaged)
        assert in_hand == left[: len(in_hand)]
        assert settled + left == sorted(settled + left)
        again.close()
        assert [] == list(root.iterdir())


@pytest.mark.parametrize("on_disk", [True, False])
def test_a_batch_that_is_stuck_does_not_keep_what_is_dropped(tmp_path, on_disk):
    """While the producer is away a batch is in hand for hours; files and memory stay as small as they were told to."""
    spool = Spool(1_000_000, "drop_oldest", (lambda: folder(tmp_path)) if on_disk else None)
    kept, files = [], []
    for n in range(20_000):
        spool.append(b"%d" % n + b"x" * 500)
        if n == 0:
            batch(spool)
        if n % 1000 == 999:
            kept.append(sum(segment.size for segment in spool._segments))
            files.append(sum(path.stat().st_size for path in tmp_path.glob("*/*.events")))

    assert max(kept) < 1_000_000 + 2 * spool._segment_bytes
    assert max(files) == (max(kept) if on_disk else 0)
    assert 20_000 == len(spool) + spool.dropped


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=30)), st.integers(0, 500), st.integers(0, 500))
def test_memory_reads_like_a_file(tmp_path, records, offset, size):
    """A segment in memory gives the very bytes that a file gives, from any place, so that it can become one."""
    with tempfile.TemporaryDirectory(dir=tmp_path) as name:
        file, memory = FileSegment(Path(name) / "1", 1), MemorySegment(1)
        for record in records:
            file.append(record)
            memory.append(record)
        read = file.read(offset, size), memory.read(offset, size)
        file.close()

    assert file.size == memory.size
    assert read[0] == read[1]


@pytest.mark.parametrize("full", ["drop_oldest", "drop_newest"])
def test_a_full_spool_follows_its_policy(tmp_path, full):
    """The newest stay, or the oldest; what is on its way is never dropped."""
    spool = Spool(4 * (10 + HEAD_BYTES), full, lambda: folder(tmp_path))
    for n in range(4):
        spool.append(b"%010d" % n)
    taken = batch(spool, 1)
    dropped = [spool.append(b"%010d" % n) for n in range(4, 7)]
    spool.settle(len(taken))

    assert ([b"%010d" % 0], [1, 1, 1]) == (taken, dropped)
    assert [b"%010d" % n for n in ((4, 5, 6) if full == "drop_oldest" else (1, 2, 3))] == drain(spool)


def test_a_record_larger_than_a_batch_goes_alone(tmp_path):
    """It is sent instead of never."""
    spool = Spool(10_000, "drop_oldest", lambda: folder(tmp_path))
    spool.append(b"x" * 500)
    spool.append(b"y")

    found = []
    while taken := batch(spool, 10, 100):
        found.append(taken)
        spool.settle(len(taken))
    assert [[b"x" * 500], [b"y"]] == found


@ON_DISK
@given(RECORDS, st.integers(0, 40))
def test_what_was_not_settled_is_there_for_the_next(tmp_path_factory, records, settled):
    """A process that dies leaves exactly what was not delivered, in order, over any number of segments."""
    root = tmp_path_factory.mktemp("spool")
    spool = Spool(1_000_000, "drop_oldest", lambda: folder(root))
    spool._segment_bytes = 100
    for record in records:
        spool.append(record)
    gone = 0
    while gone < settled and (taken := batch(spool, settled - gone)):
        gone += spool.settle(len(taken))
    batch(spool, 2)
    spool.forget()  # what the system does with a process that is killed: files closed, nothing said

    if records:
        again = recovered(root)
        assert (records[gone:], 0, 0) == (drain(again), again.damaged, len(again))
        again.close()
    assert [] == list(root.iterdir())


def test_a_delivered_spool_leaves_nothing(tmp_path):
    """Segments go when they are delivered, and the folder with the last."""
    spool = Spool(100_000_000, "drop_oldest", lambda: folder(tmp_path))
    sizes = []
    for _ in range(30):
        for _ in range(20):
            spool.append(b"x" * 10_000)
        drain(spool)
        sizes.append(sum(path.stat().st_size for path in tmp_path.glob("*/*.events")))
    spool.close()

    assert max(sizes) < 300_000
    assert [] == list(tmp_path.iterdir())


def test_nobody_takes_the_spool_of_a_process_that_lives(tmp_path):
    """A spool is sent by the one that holds it, and by one other at a time when that is dead."""
    mine = folder(tmp_path)
    mine.segment(1).append(b"mine")

    assert [] == list(left_over(tmp_path, BASE))
    mine.close(remove=False)
    assert [] == list(left_over(tmp_path, "http://127.0.0.1:2"))
    (held,) = left_over(tmp_path, BASE)
    assert [] == list(left_over(tmp_path, BASE))
    held.close(remove=True)
    assert [] == list(left_over(tmp_path, BASE))


def test_the_folder_is_the_users_alone(tmp_path):
    """What an agent says is nobody else's to read."""
    held = folder(tmp_path / "new")
    held.segment(1).append(b"secret")

    assert {0o700} == {path.stat().st_mode & 0o777 for path in (tmp_path / "new", held.path)}
    assert 0o600 == (held.path / "00000001.events").stat().st_mode & 0o777


def test_a_spool_of_a_newer_or_broken_kind_is_left_alone(tmp_path):
    """What cannot be read as a spool is neither sent nor removed."""
    for name, about in (("a", "nonsense"), ("b", "[]"), ("c", json.dumps({"base": BASE}))):
        path = tmp_path / f"{name}.spool"
        path.mkdir()
        (path / "lock").touch()
        (path / "about.json").write_text(about)

    assert [] == list(left_over(tmp_path, BASE))
    assert 3 == len(list(tmp_path.iterdir()))


def test_damage_in_a_left_over_spool_is_counted(tmp_path):
    """A damaged stretch is skipped, the rest is sent, and the bytes are told."""
    held = folder(tmp_path)
    segment = held.segment(1)
    for n in range(10):
        segment.append(b"record %d" % n)
    held.close(remove=False)
    path = next(tmp_path.glob("*/*.events"))
    content = bytearray(path.read_bytes())
    content[3 * len(frame(b"record 0")) + 12] ^= 0xFF
    path.write_bytes(content + frame(b"torn")[:-1])

    again = recovered(tmp_path)
    assert 9 == len(again)
    assert [b"record %d" % n for n in range(10) if n != 3] == drain(again)
    assert len(frame(b"record 3")) == again.damaged


@pytest.mark.parametrize("cursor", [b"", b"x" * 20, b"\0" * 20, b"x" * 28, b"\0" * 28])
def test_a_cursor_that_is_damaged_repeats_and_loses_nothing(tmp_path, cursor):
    """Without a believable cursor everything is sent again: the same ids, which are known as repeats."""
    spool = Spool(1000, "drop_oldest", lambda: folder(tmp_path))
    spool.append(b"a")
    spool.append(b"b")
    spool.settle(len(batch(spool, 1)))
    spool.forget()
    next(tmp_path.glob("*/cursor")).write_bytes(cursor)

    assert [b"a", b"b"] == drain(recovered(tmp_path))


def test_a_cursor_of_the_version_before_is_read(tmp_path):
    """What waits while the package is upgraded is sent from its place on; nothing was said then of what was dropped."""
    spool = Spool(1000, "drop_oldest", lambda: folder(tmp_path))
    spool.append(b"a")
    spool.append(b"b")
    spool.settle(len(batch(spool, 1)))
    spool.forget()
    place = struct.pack("<QQ", 1, len(frame(b"a")))
    next(tmp_path.glob("*/cursor")).write_bytes(place + struct.pack("<I", crc32(place)))
    again = recovered(tmp_path)

    assert ([b"b"], 0) == (drain(again), again.dropped)


def test_a_full_disk_costs_nothing_while_the_process_lives(tmp_path):
    """What the disk does not take waits in memory, in order; when the disk takes it again, it goes there."""
    done = limited(f"""
import resource, sys
from pathlib import Path
import loopcast.sdk.spool as module
from loopcast.sdk.folder import make_folder
spool = module.Spool(10_000_000, "drop_oldest", lambda: make_folder(Path({str(tmp_path)!r}), {{"base": "b"}}))
for n in range(100): assert not spool.append(b"%03d" % n * 30)
assert 50 < spool.in_memory < 100, spool.in_memory
assert "large" in spool.error, spool.error
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
spool._again = 0
for n in range(100, 200): assert not spool.append(b"%03d" % n * 30)
assert spool.in_memory < 100, spool.in_memory
assert not spool.error
found = []
while (plan := spool.plan()) is not None:
    batch, damaged = spool.load(plan, 7, 1000)
    assert spool.take(plan, batch, damaged) and not damaged
    found += batch.records
    spool.settle(len(batch.records))
assert found == [b"%03d" % n * 30 for n in range(200)]
spool.close()
assert not list(Path({str(tmp_path)!r}).iterdir())
""")

    assert (0, "") == (done.returncode, done.stderr)
    assert 0 < DISK_AGAIN_SECONDS <= 60


def test_at_the_end_memory_goes_to_a_disk_that_takes_it(tmp_path):
    """What waited in memory for a full disk is written when the process ends, if there is room again by then."""
    room = {"there": False}

    def make():
        if not room["there"]:
            raise OSError(28, "No space left on device")
        return folder(tmp_path)

    spool = Spool(10_000, "drop_oldest", make)
    spool.append(b"a")
    assert (1, "[Errno 28] No space left on device") == (spool.in_memory, spool.error)
    room["there"], spool._again = True, 0.0
    spool._segment_bytes = 5
    spool.append(b"b")

    assert (1, 0) == (spool.in_memory, spool.abandon())
    spool.close()
    assert [b"a", b"b"] == drain(recovered(tmp_path))


@pytest.mark.parametrize("how", ["os._exit(0)", "os.kill(os.getpid(), signal.SIGKILL)"])
def test_what_was_appended_outlives_the_process(tmp_path, how):
    """However a process ends, each record that was taken is there, and its lock is gone with it."""
    program = f"""
import os, signal
from pathlib import Path
from loopcast.sdk.folder import make_folder
from loopcast.sdk.spool import Spool
spool = Spool(10_000_000, "drop_oldest", lambda: make_folder(Path({str(tmp_path)!r}),
    {{"base": {BASE!r}, "path": "/v1"}}))
for n in range(5000): spool.append(b"%d" % n)
{how}
"""
    done = subprocess.run([sys.executable, "-c", program], timeout=60)

    assert done.returncode in (0, -signal.SIGKILL)
    assert [b"%d" % n for n in range(5000)] == drain(recovered(tmp_path))


def test_a_folder_that_cannot_be_made_is_no_fault(tmp_path):
    """Where a file is in the way, for root too: events wait in memory, and it is said why."""
    (tmp_path / "file").touch()
    spool = Spool(1000, "drop_oldest", lambda: folder(tmp_path / "file" / "new"))

    assert 0 == spool.append(b"x")
    assert 1 == spool.in_memory
    assert "Not a directory" in spool.error
    assert str(tmp_path / "file") in spool.error


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_is_no_fault(tmp_path):
    """Then events wait in memory, and it is said why."""
    tmp_path.chmod(0o500)
    spool = Spool(1000, "drop_oldest", lambda: folder(tmp_path / "new"))

    assert 0 == spool.append(b"x")
    assert 1 == spool.in_memory
    assert "Permission denied" in spool.error
