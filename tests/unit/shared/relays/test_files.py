"""A file that is followed: appended to, rotated, cut, deleted, while the relay is restarted and killed."""

import gzip
import json
import os
import random
import shutil
import time

import pytest
from scripted import ScriptedProducer

from loopcast import LoopcastTransport
from loopcast.relays.following import QUIET_POLLS
from loopcast.relays.jsonl import JsonlSource
from loopcast.relays.little_loops import LittleLoopsSource, is_past, process_of, running_folder
from loopcast.relays.places import Place
from loopcast.repeats import Repeats


@pytest.fixture
def producer():
    """A producer that takes everything."""
    with ScriptedProducer() as running:
        yield running


class Relay:
    """A relay of one file, as the program has it, one step at a time."""

    def __init__(self, producer, path, root, *, from_end=False, run=None):
        self.transport = LoopcastTransport(producer.url, "e")
        self.source = JsonlSource(self.transport, path, root, from_end=from_end, run=run)

    def settle(self):
        """Read until nothing comes any more, rotations included."""
        quiet = 0
        while quiet <= QUIET_POLLS + 1:
            quiet = 0 if self.source.step() else quiet + 1
        return self

    def stop(self):
        """End as SIGTERM does."""
        self.source.close()
        assert self.transport.close(10).complete

    def kill(self, *, flush=10):
        """End as SIGKILL does: what is in the spool stays there, the place is what was written last."""
        self.transport.flush(flush)
        self.transport._sender.stop()
        self.transport._sender.join(5)
        self.source._relay._follower.close()
        self.source._relay._place.release()


def append(path, *numbers, **more):
    with path.open("a") as file:
        file.writelines(json.dumps({"event": "x", "n": n, **more}) + "\n" for n in numbers)


def delivered(producer):
    """What a reader sees, by the rule that all readers share."""
    table = Repeats()
    events = [event for path, _, batch, _ in producer.requests if path.endswith("/events") for event in batch]
    return [
        event["data"]["n"]
        for event in events
        if not table.seen(event["runid"], event["emitter"], int(event["sequence"]), event["id"])
    ]


def test_a_file_is_followed_as_it_grows(producer, tmp_path):
    """What is there and what comes is sent, lines whole or not at all."""
    path = tmp_path / "f.jsonl"
    append(path, 1, 2)
    relay = Relay(producer, path, tmp_path).settle()
    append(path, 3)
    with path.open("a") as file:
        file.write('{"n":')
    relay.settle()
    before = relay.source.counts.relayed
    with path.open("a") as file:
        file.write("4}\n")
    relay.settle().stop()

    assert 3 == before
    assert [1, 2, 3, 4] == delivered(producer)


def test_a_file_may_come_later(producer, tmp_path):
    """A relay can be started before its file is there, and then has it from the beginning."""
    path = tmp_path / "f.jsonl"
    relay = Relay(producer, path, tmp_path, from_end=True).settle()
    append(path, 1)
    relay.settle().stop()

    assert [1] == delivered(producer)


def test_from_the_end(producer, tmp_path):
    """Begun at the end, only what is added is sent; what is added while no relay runs is sent by the next."""
    path = tmp_path / "f.jsonl"
    append(path, 1, 2)
    Relay(producer, path, tmp_path, from_end=True).settle().stop()
    append(path, 3)
    Relay(producer, path, tmp_path, from_end=True).settle().stop()

    assert [3] == delivered(producer)


@pytest.mark.parametrize("how", ["rename", "rename, none new yet", "delete", "truncate", "copy and truncate"])
@pytest.mark.parametrize("restart", [False, True])
def test_rotation(producer, tmp_path, how, restart):
    """Whatever becomes of the file, each line is sent once, also when the relay was away meanwhile."""
    path = tmp_path / "f.jsonl"
    append(path, *range(10))
    relay = Relay(producer, path, tmp_path).settle()
    if restart:
        relay.stop()
    if how.startswith("rename"):
        append(path, 10)
        path.rename(tmp_path / "f.jsonl.1")
        if "none" in how:
            append(tmp_path / "f.jsonl.1", 11)
    elif how == "delete":
        path.unlink()
    elif how == "truncate":
        os.truncate(path, 0)
    else:
        (tmp_path / "f.jsonl.1").write_bytes(path.read_bytes())
        os.truncate(path, 0)
        append(path, *range(100, 120))
    if restart:
        relay = Relay(producer, path, tmp_path)
    relay.settle()
    append(path, 20, 21)
    relay.settle().stop()

    middle = {"rename": [10], "rename, none new yet": [10, 11], "copy and truncate": [*range(100, 120)]}.get(how, [])
    expected = [*range(10), *middle, 20, 21]
    assert expected == delivered(producer)
    counts = relay.source.counts
    assert 0 == counts.bad


def test_a_killed_relay_sends_the_same_ids_again(producer, tmp_path, monkeypatch):
    """Killed between handing on and writing its place down, it repeats lines under the same ids, runs and numbers."""
    path = tmp_path / "f.jsonl"
    lines = [{"event": "loop_start", "loop": "l"}, *({"event": "x", "n": n} for n in range(5))]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    relay = Relay(producer, path, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("loopcast.relays.places.Place.write", lambda *_: None)
        relay.settle()
    relay.kill()
    Relay(producer, path, tmp_path).settle().stop()

    events = [event for _, _, batch, _ in producer.requests for event in batch]
    seen = [(e["id"], e["runid"], e["emitter"], e["sequence"]) for e in events]
    assert 12 == len(seen)
    assert seen[:6] == seen[6:]
    assert 6 == len({event["id"] for event in events})
    assert {"7"} == {event["id"][14] for event in events}


def test_what_only_memory_has_is_still_the_files(producer, tmp_path, monkeypatch):
    """Killed while no disk takes its events and no producer either, it has lost nothing: the next one reads them."""
    path = tmp_path / "f.jsonl"
    append(path, *range(3))
    producer.script = [lambda _: 202] + [503] * 50

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("loopcast.sdk.inheritance.make_folder", full)
        relay = Relay(producer, path, tmp_path / "places")
        relay.settle()
        relay.transport.flush(10)
        append(path, *range(3, 6))
        relay.settle()
        assert 3 == relay.transport.stats.in_memory
        relay.kill(flush=0.1)
    del producer.requests[1:]  # Those were refused.
    producer.script = []
    Relay(producer, path, tmp_path / "places").settle().stop()

    assert list(range(6)) == delivered(producer)


def test_any_history(producer, tmp_path):
    """Over random appends, rotations, restarts and kills a reader sees each line once, in order."""
    chance = random.Random(7)
    for history in range(15):
        producer.requests.clear()
        folder = tmp_path / str(history)
        folder.mkdir()
        path = folder / "f.jsonl"
        relay, n, rotations = Relay(producer, path, folder), 0, 0
        for _ in range(25):
            match chance.choice(["append", "append", "append", "step", "rotate", "restart", "kill", "delete"]):
                case "append":
                    count = chance.randint(1, 5)
                    append(path, *range(n, n + count))
                    n += count
                case "step":
                    relay.source.step()
                case "rotate" if path.exists():
                    rotations += 1
                    path.rename(folder / f"f.jsonl.{rotations}")
                case "delete" if path.exists():
                    relay.settle()
                    path.unlink()
                case "restart":
                    relay.stop()
                    relay = Relay(producer, path, folder)
                case "kill":
                    relay.kill()
                    relay = Relay(producer, path, folder)
        relay.settle().stop()

        assert list(range(n)) == delivered(producer)


def test_lines_that_are_none_are_counted(producer, tmp_path):
    """Nonsense between events is skipped, counted, and costs no event."""
    path = tmp_path / "f.jsonl"
    path.write_bytes(b'{"n":1}\nnonsense\n\n[1]\n{"n":2}\n\xff\xfe\n{"n":3}\n')
    relay = Relay(producer, path, tmp_path).settle()
    relay.stop()

    assert [1, 2, 3] == delivered(producer)
    counts = relay.source.counts
    assert (3, 3, 1) == (counts.relayed, counts.bad, counts.blank)


def test_one_relay_follows_a_file(producer, tmp_path):
    """A second one is refused while the first lives, and goes on where that was afterwards."""
    path = tmp_path / "f.jsonl"
    append(path, 1)
    first = Relay(producer, path, tmp_path).settle()
    with pytest.raises(OSError, match="followed by another relay"):
        Relay(producer, path, tmp_path)
    first.stop()
    append(path, 2)
    Relay(producer, path, tmp_path).settle().stop()

    assert [1, 2] == delivered(producer)


def test_a_relay_waits_instead_of_dropping(producer, tmp_path):
    """A file larger than the spool, and a producer that stands still: nothing is dropped, the file has it."""
    path = tmp_path / "f.jsonl"
    append(path, *range(20_000))
    producer.hold.clear()
    transport = LoopcastTransport(producer.url, "e", max_bytes=1_000_000)
    source = JsonlSource(transport, path, tmp_path, from_end=False, run=None)
    for _ in range(50):
        source.step()
    stats = transport.stats
    producer.hold.set()
    deadline = time.monotonic() + 60
    while source.counts.relayed < 20_000:
        assert time.monotonic() < deadline
        source.step()
    source.close()
    assert transport.close(30).complete

    assert 0 < stats.spooled < 20_000
    assert (0, 20_000) == (transport.stats.dropped, transport.stats.accepted)
    assert list(range(20_000)) == delivered(producer)


def test_a_place_of_another_kind_is_no_end(producer, tmp_path):
    """A place that another version wrote, or that is damaged, costs repeats at worst."""
    path = tmp_path / "f.jsonl"
    append(path, 1)
    Relay(producer, path, tmp_path).settle().stop()
    (place,) = tmp_path.glob("places/*.json")
    for content in ("nonsense", '{"version": 9}', '{"version": 1, "mark": {"inode": 5}, "stamper": {}}'):
        place.write_text(content)
        append(path, 2)
        Relay(producer, path, tmp_path).settle().stop()

    assert 2 in delivered(producer)


def test_two_runs_in_one_file(producer, tmp_path):
    """Interleaved runs of newer little-loops are told apart, and a named run is what the user says."""
    path = tmp_path / "f.jsonl"
    with path.open("w") as file:
        for n in range(3):
            for own in "ab":
                kind = "x" if n else "loop_start"
                file.write(json.dumps({"event": kind, "loop": "l", "run_id": own, "n": n}) + "\n")
    Relay(producer, path, tmp_path).settle().stop()
    Relay(producer, path, tmp_path / "other", run="mine").settle().stop()

    events = [event for _, _, batch, _ in producer.requests for event in batch]
    assert 2 == len({event["runid"] for event in events[:6]})
    assert {"mine"} == {event["runid"] for event in events[6:]}


def make(folder, stem, *numbers, pid=None):
    folder.mkdir(parents=True, exist_ok=True)
    append(folder / f"{stem}.events.jsonl", *numbers)
    if pid is not None:
        (folder / f"{stem}.state.json").write_text(json.dumps({"pid": pid}))


def steps(source, count=10):
    for _ in range(count):
        source._scan_at = 0
        source.step()


def test_all_files_of_a_project(producer, tmp_path):
    """Every instance's file is followed, those that come later and those that are made anew included."""
    folder = running_folder(tmp_path)
    transport = LoopcastTransport(producer.url, "e")
    source = LittleLoopsSource(transport, folder, tmp_path, from_end=lambda _: False)
    steps(source, 1)
    make(folder, "a", 1, 2)
    steps(source)
    make(folder, "b", 3)
    (folder / "a.events.jsonl").unlink()
    make(folder, "a", 4)
    steps(source)
    source.close()
    assert transport.close(10).complete

    assert [1, 2, 3, 4] == sorted(delivered(producer))


def test_a_deleted_file_is_read_to_its_end_however_long_that_waits(producer, tmp_path, monkeypatch):
    """A loop ended, and its file went, while the relay waited for room: it has all of it still, and sends all of it."""
    monkeypatch.setattr("loopcast.relays.files.GONE_SECONDS", 0.05)
    folder = running_folder(tmp_path)
    make(folder, "a", *range(5000))
    producer.hold.clear()
    transport = LoopcastTransport(producer.url, "e", max_bytes=200_000)
    source = LittleLoopsSource(transport, folder, tmp_path, from_end=lambda _: False)
    steps(source)
    (folder / "a.events.jsonl").unlink()
    time.sleep(0.1)
    steps(source)
    waited = source.counts.relayed
    producer.hold.set()
    deadline = time.monotonic() + 30
    while source._relays and time.monotonic() < deadline:
        steps(source, 1)
        time.sleep(0.01)
    source.close()
    assert transport.close(10).complete

    assert 0 < waited < 5000
    assert list(range(5000)) == delivered(producer)
    assert {} == source._relays
    assert [] == list(tmp_path.glob("places/*.json"))


@pytest.mark.parametrize("copied", [True, False])
def test_a_file_that_is_cut_while_the_relay_waits(producer, tmp_path, copied):
    """With logrotate's `copytruncate` the rest is read from the copy; without a copy it is counted as lost."""
    path = tmp_path / "f.jsonl"
    append(path, *range(5000), padding="z" * 100)
    producer.hold.clear()
    transport = LoopcastTransport(producer.url, "e", max_bytes=200_000)
    source = JsonlSource(transport, path, tmp_path, from_end=False, run=None)
    for _ in range(20):
        source.step()
    waited = source.counts.relayed
    if copied:
        (tmp_path / "f.jsonl.1").write_bytes(path.read_bytes())
    os.truncate(path, 0)
    append(path, 5000, 5001)
    producer.hold.set()
    deadline = time.monotonic() + 30
    while 5001 not in delivered(producer)[-1:] and time.monotonic() < deadline:
        source.step()
        time.sleep(0.03)
    source.close()
    assert transport.close(10).complete

    assert 0 < waited < 5000
    numbers = delivered(producer)
    assert (5000, 5001) == tuple(numbers[-2:])
    if copied:
        assert list(range(5002)) == numbers
    assert (1, 0 if copied else 1) == (source.counts.truncations, source.counts.lost)


@pytest.mark.parametrize("restart", [False, True])
def test_a_file_that_is_written_whole_again_and_again(producer, tmp_path, restart):
    """Whoever adds to a file by renaming a longer one over it (rsync) adds just those; the last may be half."""
    path, new = tmp_path / "f.jsonl", tmp_path / ".new"
    relay = Relay(producer, path, tmp_path)
    for count in (10, 11, 30):
        append(new, *range(count))
        new.write_text(new.read_text() + '{"event": "x", "n"')
        new.rename(path)
        if restart:
            relay.stop()
            relay = Relay(producer, path, tmp_path)
        relay.settle()
    append(new, *range(30))
    new.write_text(new.read_text().replace('"n": 5}', '"n": 55}'))
    new.rename(path)
    relay.settle().stop()

    another = [55 if n == 5 else n for n in range(30)]
    numbers = [data["n"] for batch in producer.taken for data in batch]
    assert [*range(30), *another] == numbers
    events = [event for _, _, batch, _ in producer.requests for event in batch]
    assert 60 == len({event["id"] for event in events})


def test_files_that_begin_and_end_alike(producer, tmp_path):
    """Each file begins and ends alike: those that were rotated faster than they are read are read too."""
    path, own = tmp_path / "f.jsonl", {"event": "session", "n": -1, "schema": "s" * 300}
    path.write_text(json.dumps(own) + "\n")
    append(path, 0, 1, padding="z" * 300)
    relay = Relay(producer, path, tmp_path).settle()
    for rotated in range(3):
        path.rename(tmp_path / f"f.jsonl.{rotated}")
        time.sleep(0.02)
        path.write_text(json.dumps(own) + "\n")
        append(path, 10 + 2 * rotated, 11 + 2 * rotated, padding="z" * 300)
    relay.settle().stop()

    assert [-1, 0, 1, -1, 10, 11, -1, 12, 13, -1, 14, 15] == delivered(producer)


@pytest.mark.parametrize("keeps_time", [True, False])
def test_what_was_compressed_before_it_was_read_is_counted(producer, tmp_path, keeps_time):
    """Two files were rotated and compressed in between, after one that was read: two are lost, and the end says so."""
    path = tmp_path / "f.jsonl"
    append(path, 0)
    relay = Relay(producer, path, tmp_path).settle()
    for rotated in range(3):
        compressed = tmp_path / f"f.jsonl.{rotated}.gz"
        compressed.write_bytes(gzip.compress(path.read_bytes()))
        if keeps_time:
            os.utime(compressed, ns=(path.stat().st_mtime_ns,) * 2)
        path.unlink()
        time.sleep(0.02)
        append(path, rotated + 1)
    relay.settle()
    append(path, 4)
    path.rename(tmp_path / "f.jsonl.3")
    append(path, 5)
    relay.settle().stop()

    assert [0, 3, 4, 5] == delivered(producer)
    assert 2 == relay.source.counts.lost


def test_what_is_left_of_a_deleted_file_is_counted(producer, tmp_path):
    """A relay that has to end before it could read a deleted file to its end says so: nobody else can open it."""
    folder = running_folder(tmp_path)
    make(folder, "a", *range(5000))
    producer.hold.clear()
    transport = LoopcastTransport(producer.url, "e", max_bytes=200_000)
    source = LittleLoopsSource(transport, folder, tmp_path, from_end=lambda _: False)
    steps(source)
    (folder / "a.events.jsonl").unlink()
    source.close()
    producer.hold.set()
    assert transport.close(10).complete

    assert 1 == source.counts.lost


def full_disk_for(monkeypatch, method, path):
    """Have places of `path` alone fail."""
    original = getattr(Place, method)

    def fails(place, *arguments):
        if str(path) in place._key:
            raise OSError(28, "No space left on device")
        return original(place, *arguments)

    monkeypatch.setattr(Place, method, fails)


@pytest.mark.parametrize("method", ["hold", "write"])
def test_one_files_trouble_is_no_others(producer, tmp_path, monkeypatch, caplog, method):
    """A file whose place cannot be kept is said and tried again; the others go on, and nothing piles up meanwhile."""
    monkeypatch.setattr("loopcast.relays.little_loops.HELD_SECONDS", 0.0)
    folder = running_folder(tmp_path)
    for n, name in enumerate("abc"):
        make(folder, name, n)
    transport = LoopcastTransport(producer.url, "e")
    source = LittleLoopsSource(transport, folder, tmp_path, from_end=lambda _: False)
    with monkeypatch.context() as patch:
        full_disk_for(patch, method, folder / "a.events.jsonl")
        steps(source, 30)
        make(folder, "c", 3)
        steps(source, 30)
        others, sources = source.counts.relayed, len(transport._stampers)
    steps(source)
    source.close()
    assert transport.close(10).complete

    assert (3, 3) == (others, sources)
    assert [0, 1, 2, 3] == sorted(delivered(producer))
    (said,) = {record.getMessage() for record in caplog.records}
    assert "a.events.jsonl" in said
    assert "No space left on device; it is tried again" in said


def test_a_place_that_could_not_be_written_is_later(producer, tmp_path, monkeypatch):
    """A place that a full disk did not take is written when there is room, without a new line: nothing is repeated."""
    path = tmp_path / "f.jsonl"
    append(path, 1)
    relay = Relay(producer, path, tmp_path)
    with monkeypatch.context() as patch:
        full_disk_for(patch, "write", path)
        with pytest.raises(OSError, match="No space"):
            relay.source.step()
    relay.source.step()
    relay.kill()
    append(path, 2)
    Relay(producer, path, tmp_path).settle().stop()

    assert [[1], [2]] == [[data["n"] for data in batch] for batch in producer.taken]


def test_places_that_somebody_tidied_up_are_made_again(producer, tmp_path):
    """The folder of places is deleted under a relay: it goes on, and so does the next."""
    path = tmp_path / "f.jsonl"
    append(path, 1)
    relay = Relay(producer, path, tmp_path).settle()
    shutil.rmtree(tmp_path / "places")
    append(path, 2)
    relay.settle().stop()
    append(path, 3)
    Relay(producer, path, tmp_path).settle().stop()

    assert [1, 2, 3] == delivered(producer)


def test_a_process_with_too_many_open_files(producer, tmp_path, monkeypatch):
    """No file can be opened for a while: that says nothing of the file, and costs no line and no place."""
    path = tmp_path / "f.jsonl"
    append(path, 1)
    Relay(producer, path, tmp_path).settle().stop()
    append(path, 2)
    original = os.open

    def exhausted(name, *arguments, **options):
        if str(name) == str(path):
            raise OSError(24, "Too many open files")
        return original(name, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr("loopcast.relays.following.os.open", exhausted)
        with pytest.raises(OSError, match="Too many open files"):
            Relay(producer, path, tmp_path)
    relay = Relay(producer, path, tmp_path).settle()
    relay.stop()

    assert 0 == relay.source.counts.lost
    assert [1, 2] == delivered(producer)


def test_what_was_there_before_may_be_passed_over(producer, tmp_path):
    """From the end: files that are there are passed over, new ones are not."""
    folder = running_folder(tmp_path)
    make(folder, "old", 1)
    transport = LoopcastTransport(producer.url, "e")
    source = LittleLoopsSource(transport, folder, tmp_path, from_end=lambda _: True)
    steps(source, 1)
    make(folder, "old", 2)
    make(folder, "new", 3)
    steps(source)
    source.close()
    assert transport.close(10).complete

    assert [2, 3] == sorted(delivered(producer))


def test_a_loop_that_begins_is_not_passed_over(producer, tmp_path):
    """A file whose loop lives, or has only just made it, is sent from its beginning by whoever comes upon it first."""
    folder = running_folder(tmp_path)
    make(folder, "lives", 1, pid=os.getpid())
    make(folder, "begins", 2)
    make(folder, "dead", 3, pid=2**22 + 1)
    make(folder, "old", 4)
    os.utime(folder / "old.events.jsonl", (time.time() - 60, time.time() - 60))
    transport = LoopcastTransport(producer.url, "e")
    source = LittleLoopsSource(transport, folder, tmp_path, from_end=is_past)
    steps(source)
    source.close()
    assert transport.close(10).complete

    assert [1, 2] == sorted(delivered(producer))


def test_two_relays_share_a_project(producer, tmp_path):
    """Each file is followed by one of them, and by the other when that ends."""
    folder = running_folder(tmp_path)
    make(folder, "a", 1)
    transports = [LoopcastTransport(producer.url, "e") for _ in range(2)]
    first, second = (LittleLoopsSource(t, folder, tmp_path, from_end=lambda _: False) for t in transports)
    steps(first)
    steps(second)
    make(folder, "a", 2)
    assert 0 == second.counts.relayed
    first.close()
    assert transports[0].close(10).complete
    second.finish()
    second.close()
    assert transports[1].close(10).complete

    assert (1, 1) == (first.counts.relayed, second.counts.relayed)
    assert [1, 2] == sorted(delivered(producer))


def test_the_process_of_a_loop(tmp_path):
    """A loop's process is known by its files, and is not said to live when it does not."""
    make(tmp_path, "live", pid=os.getpid())
    make(tmp_path, "dead", pid=2**22 - 3)
    make(tmp_path, "unknown")
    make(tmp_path, "bad", pid="x")
    (tmp_path / "file.pid").write_text(f"{os.getpid()}\n")

    found = {n: process_of(tmp_path / f"{n}.events.jsonl") for n in ("live", "dead", "unknown", "bad", "file")}
    assert {"live": os.getpid(), "dead": None, "unknown": None, "bad": None, "file": os.getpid()} == found


def test_a_project_is_named_in_any_way(tmp_path):
    """The project's folder, its `.loops` or the folder of running loops."""
    running = tmp_path / ".loops" / ".running"

    assert [running] * 3 == [running_folder(p) for p in (tmp_path, tmp_path / ".loops", running)]
