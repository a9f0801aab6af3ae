"""The spool in trouble: a disk that takes or gives nothing, a deleted folder, a signal in a write."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from spools import BASE, batch, drain, folder, limited, recovered

from loopcast.sdk.folder import left_over
from loopcast.sdk.framing import HEAD_BYTES
from loopcast.sdk.segments import FileSegment
from loopcast.sdk.spool import MOST_FAULTS, Spool


def test_one_that_does_not_fit_costs_itself_alone(tmp_path):
    """An event larger than all the room there can be is dropped, and none that waits goes for it."""
    spool = Spool(1000, "drop_oldest", lambda: folder(tmp_path))
    for n in range(10):
        spool.append(b"%d" % n)

    assert 1 == spool.append(b"x" * 1000)
    batch(spool, 5)
    assert 1 == spool.append(b"x" * (1000 - HEAD_BYTES))
    assert (10, 2) == (len(spool), spool.dropped)


SUPPORT = Path(__file__).parents[2] / "support"
PROGRAM = """
import os, resource, sys, time
from pathlib import Path
sys.path[:0] = [{tests!r}]
import loopcast.sdk.spool as module
from spools import batch, drain, folder, recovered
module.DISK_AGAIN_SECONDS = {again}
root = Path({root!r})
spool = module.Spool({capacity}, "drop_oldest", lambda: folder(root))
"""


def on_a_full_disk(tmp_path, program, *, again=1000.0, capacity=10_000_000):
    """Run `program` where no file may grow over 4,000 bytes."""
    head = PROGRAM.format(tests=str(SUPPORT), root=str(tmp_path), again=again, capacity=capacity)
    done = limited(head + program)
    assert (0, "") == (done.returncode, done.stderr)


def test_a_disk_that_stays_full_takes_no_handles(tmp_path):
    """It is tried again and again: no file, no handle and no segment stays of a try, for hours."""
    on_a_full_disk(
        tmp_path,
        """
for n in range(100): spool.append(b"%03d" % n * 30)
resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
before = len(os.listdir("/proc/self/fd"))
for n in range(100, 200):
    spool.append(b"%03d" % n * 30)
    time.sleep(0.003)
after = len(os.listdir("/proc/self/fd"))
assert after <= before, (before, after)
assert len(spool._segments) < 5, spool._segments
assert [b"%03d" % n * 30 for n in range(200)] == drain(spool)
""",
        again=0.001,
    )


def test_a_full_disk_a_batch_in_hand_and_a_full_spool(tmp_path):
    """All three at once: memory stays within the bound, and what was dropped is on the disk for the next to tell."""
    on_a_full_disk(
        tmp_path,
        """
for n in range(40): spool.append(b"%04d" % n * 20)
taken = batch(spool, 5, 1000)
assert len(taken) == 5
for n in range(40, 5000): spool.append(b"%04d" % n * 20)
kept = sum(segment.size for segment in spool._segments)
assert kept < 50_000 + 2 * spool._segment_bytes, kept
assert len(spool) + spool.dropped == 5000
dropped = spool.dropped
spool.forget()
again = recovered(root)
assert again.dropped == dropped > 4000, again.dropped
assert drain(again)[:5] == taken
""",
        capacity=50_000,
    )


def test_a_folder_that_was_deleted_is_made_anew(tmp_path):
    """Somebody tidies up under a process that lives: what waits is written to a new folder, and outlives it there."""
    spool = Spool(1_000_000, "drop_oldest", lambda: folder(tmp_path / "root"))
    for n in range(100):
        spool.append(b"%03d" % n)
    batch(spool, 5)
    shutil.rmtree(tmp_path / "root")

    assert 0 == spool.in_memory
    spool.append(b"100")
    spool.forget()
    assert [b"%03d" % n for n in range(101)] == drain(recovered(tmp_path / "root"))


def test_a_folder_that_cannot_be_made_anew_leaves_events_in_memory(tmp_path):
    """And they are counted as such, not as safe."""
    spool = Spool(1_000_000, "drop_oldest", lambda: folder(tmp_path / "root"))
    for n in range(100):
        spool.append(b"%03d" % n)
    shutil.rmtree(tmp_path / "root")
    (tmp_path / "root").touch()

    assert 100 == spool.in_memory
    spool.append(b"100")
    assert 101 == spool.in_memory
    assert "File exists" in spool.error
    assert [b"%03d" % n for n in range(101)] == drain(spool)


def test_only_its_own_unfinished_folders_are_tidied_up(tmp_path):
    """A folder of the user's that looks a little like one stays, however old."""
    mine, dead = tmp_path / ".my-notes-2026", tmp_path / ".18ea34c9d69fa2ee-17511-40e17b00"
    for path in (mine, dead):
        path.mkdir()
        os.utime(path, (0, 0))
    list(left_over(tmp_path, BASE))

    assert [mine] == list(tmp_path.iterdir())


def test_left_overs_come_in_the_order_in_which_they_were_made(tmp_path, monkeypatch):
    """Also where the clock was set back in between: numbers of one emitter may be in both."""
    first = folder(tmp_path)
    monkeypatch.setattr("loopcast.sdk.folder.time.time_ns", lambda: 1)
    second = folder(tmp_path)
    expected = [first.path, second.path]
    first.close(remove=False)
    second.close(remove=False)

    assert expected == [held.path for held in left_over(tmp_path, BASE)]


def test_an_interrupted_write_is_written_over(tmp_path, monkeypatch):
    """Ctrl-C right behind the write: that event is the loop's loss, and no other's."""
    spool = Spool(1_000_000, "drop_oldest", lambda: folder(tmp_path))
    spool.append(b"before")
    write = os.pwrite

    def interrupted(*arguments):
        write(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "pwrite", interrupted)
    with pytest.raises(KeyboardInterrupt):
        spool.append(b"interrupted")
    monkeypatch.setattr(os, "pwrite", write)
    spool.append(b"after")

    assert [b"before", b"after"] == drain(spool)
    assert 0 == spool.unreadable


def test_what_is_written_and_not_counted_yet_is_not_taken(tmp_path):
    """A signal's handler that flushes in the middle of an append costs nothing of what was there before."""
    spool = Spool(1_000_000, "drop_oldest", lambda: folder(tmp_path))
    spool.append(b"a")
    spool.append(b"b")
    assert spool._tail.append(b"c")

    assert [b"a", b"b"] == batch(spool)
    assert 0 == spool.unreadable


@pytest.mark.parametrize("oldest", [True, False])
def test_a_segment_that_the_disk_does_not_give_is_given_up(tmp_path, monkeypatch, oldest):
    """Its events are counted as unreadable, the others are there; a full spool gets over it as well."""
    spool = Spool(2_000, "drop_oldest", lambda: folder(tmp_path))
    spool._segment_bytes = 200
    for n in range(20):
        spool.append(b"%03d" % n)
    read = FileSegment.read

    def failing(segment, offset, size):
        if segment.number == 1:
            raise OSError(5, "Input/output error")
        return read(segment, offset, size)

    monkeypatch.setattr(FileSegment, "read", failing)
    if oldest:
        dropped = sum(spool.append(b"%03d" % n) for n in range(20, 300))
    else:
        dropped = 0
        for _ in range(MOST_FAULTS):
            assert 0 == spool.unreadable
            plan = spool.plan()
            with pytest.raises(OSError, match="Input/output"):
                spool.load(plan, 10, 1000)
            spool.stumble(plan)
    left = len(drain(spool))

    assert spool.unreadable > 0
    assert (300 if oldest else 20) == left + dropped + spool.unreadable


def test_killed_between_the_cursor_and_the_file(tmp_path, monkeypatch):
    """At the worst moment of dropping nothing is lost that the next process does not tell of."""
    spool = Spool(2_000, "drop_oldest", lambda: folder(tmp_path))
    spool._segment_bytes = 200
    delete = FileSegment.delete

    def killed(segment):
        delete(segment)
        raise SystemExit

    monkeypatch.setattr(FileSegment, "delete", killed)
    appended = 0
    with pytest.raises(SystemExit):
        for n in range(1000):
            appended += 1
            spool.append(b"%03d" % n)
    spool.forget()
    monkeypatch.setattr(FileSegment, "delete", delete)
    again = recovered(tmp_path)

    # The last one was not appended yet.
    assert appended - 1 == len(drain(again)) + again.dropped


def test_damage_takes_up_no_room_for_ever(tmp_path):
    """What could not be read is gone from the size too."""
    spool = Spool(100_000, "drop_oldest", lambda: folder(tmp_path))
    for n in range(100):
        spool.append(b"%03d" % n)
    path = next(tmp_path.glob("*/*.events"))
    content = bytearray(path.read_bytes())
    content[500:700] = bytes(200)
    path.write_bytes(content)
    drain(spool)

    assert spool.damaged > 0
    assert 1.0 == spool.room


def test_a_child_keeps_no_lock_of_its_parents(tmp_path):
    """Not even of a left-over that the parent's thread was just looking at: when the parent is dead, others send it."""
    folder(tmp_path).close(remove=False)
    make = "make_folder(root, {'base': base, 'path': '/v1'}).close(remove=False)"
    program = f"""
import os, sys, time
from pathlib import Path
from loopcast import LoopcastTransport
from loopcast.sdk.folder import left_over, make_folder
root, base = Path({str(tmp_path)!r}), {BASE!r}
transport = LoopcastTransport(base, "e", spool=root)
{make}
held = list(left_over(root, base))
assert len(held) == 2, held
if os.fork() == 0:
    os.close(1), os.close(2)
    (root / "began").touch()
    while not os.path.exists(root / "end"): time.sleep(0.02)
while not os.path.exists(root / "began"): time.sleep(0.02)
os._exit(0)
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True, timeout=60)
    held = list(left_over(tmp_path, BASE))
    (tmp_path / "end").touch()

    assert 2 == len(held)
    for one in held:
        one.close(remove=True)
