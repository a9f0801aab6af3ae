"""The JSONL sink: lines that count with the position, files that are cut, rotated and packed."""

import gzip
import json
import os
import random
from pathlib import Path

import msgspec
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from recorder_log import cut, deliver, envelopes, lines

from loopcast.errors import InvalidExperiment, StorageError
from loopcast.events import format_time, slice_data
from loopcast.routing import check_experiment
from loopcast_recorder.jsonl_sink import JsonlSink
from loopcast_recorder.line_files import _path
from loopcast_recorder.line_retention import LineRetention
from loopcast_recorder.sinks import Written

DAY = "2026-11-20"
RAW = lines("demo-parent") + lines("demo-cycle")
LOG = deliver(envelopes(RAW))
EXPECTED = b"".join(slice_data(delivery.body) + b"\n" for delivery in LOG)


class Clock:
    """Microseconds that a test sets."""

    def __init__(self):
        self.now = 1_795_200_000_000_000

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    """The sinks' clock, on the day after the recorded streams."""
    return Clock()


@pytest.fixture
def make(tmp_path, clock):
    """Makes sinks on the same folder; each lets go of it before the next."""
    made = []

    def sink(**settings):
        for one in made:
            one.close()
        made.append(JsonlSink("jsonl", tmp_path, now=clock, **{"fsync": "always", **settings}))
        return made[-1]

    yield sink
    for one in made:
        one.close()


def read(folder, experiment="exp"):
    """All lines of an experiment, whatever its files are called or packed with."""
    found = b""
    for path in sorted((folder / experiment).iterdir(), key=lambda p: (len(p.name.split(".")[1]) < 5, p.name)):
        raw = path.read_bytes()
        found += {".zst": unzstd, ".gz": gzip.decompress}.get(path.suffix, bytes)(raw)
    return found


def unzstd(raw):
    return zstandard.ZstdDecompressor().decompressobj().decompress(raw)


def die(sink):
    """What SIGKILL leaves: open files are closed, nothing is saved."""
    sink._files.close()
    sink._database.close()
    sink._files = sink._database = sink._ledger = None
    sink._moved.clear()


def test_lines_are_the_loops_own_objects_byte_for_byte(make, tmp_path):
    """One file an experiment and day, a line an event, in the log's order."""
    sink = make()
    sink.resume(0)

    assert Written(len(LOG), 0) == sink.write(0, LOG)
    assert EXPECTED == (tmp_path / "exp" / f"{DAY}.jsonl").read_bytes()
    assert RAW == [json.loads(line) for line in EXPECTED.splitlines()]


def test_lines_are_cloudevents_where_that_is_asked_for(make, tmp_path):
    """`cloudevents` writes the envelopes, byte for byte."""
    make(format_="cloudevents").write(0, LOG)

    assert b"".join(d.body + b"\n" for d in LOG) == read(tmp_path)


@pytest.mark.parametrize("seed", range(20))
def test_a_kill_at_any_moment_loses_and_repeats_no_line(make, tmp_path, clock, seed):
    """Whatever was written and did not count is cut, a torn line too, and comes again: the file is the log's lines."""
    chance, log = random.Random(seed), LOG
    sink = make(fsync="interval", seconds=1.0)
    path = tmp_path / "exp" / f"{DAY}.jsonl"
    for _ in range(6):
        position = sink.resume(0)
        rest = [d for d in log if position is None or d.offset > position.offset]
        for batch in cut(rest, 7)[: chance.randrange(1, 5)]:
            sink.write(0, batch)
            clock.now += chance.choice([100_000, 1_100_000])
        die(sink)
        with path.open("ab") as torn:
            torn.write(EXPECTED[: chance.randrange(200)])
    position = sink.resume(0)
    sink.write(0, [d for d in log if position is None or d.offset > position.offset] or log[-1:])
    sink.close()

    assert EXPECTED == path.read_bytes()


def test_a_repeat_is_written_once_also_over_a_restart(make, tmp_path):
    """Events that the log has twice have one line."""
    make().write(0, LOG[:20])
    again = deliver(envelopes(RAW), offset=20)

    assert Written(len(LOG) - 20, 20) == make().write(0, again)
    assert EXPECTED == read(tmp_path)


@pytest.mark.parametrize(("compression", "suffix"), [("zstd", "zst"), ("gzip", "gz")])
def test_a_day_that_is_over_is_packed_and_late_events_begin_another_part(make, tmp_path, clock, compression, suffix):
    """A closed file is compressed whole; what comes later for that day goes into a part of its own."""
    sink = make(compression=compression)
    sink.write(0, LOG[:30])
    clock.now += 86_400_000_000
    sink.tick()
    sink.write(0, LOG[30:])
    sink.close()

    names = {p.name for p in (tmp_path / "exp").iterdir()}
    assert {f"{DAY}.jsonl.{suffix}", f"{DAY}.1.jsonl"} == names
    assert EXPECTED == read(tmp_path)


def test_a_kill_while_packing_keeps_the_lines_once(make, tmp_path, clock):
    """With both the plain and the packed file there, the packing is done again from the plain one."""
    sink = make()
    sink.write(0, LOG)
    clock.now += 86_400_000_000
    sink.tick()
    packed = tmp_path / "exp" / f"{DAY}.jsonl.zst"
    (tmp_path / "exp" / f"{DAY}.jsonl").write_bytes(EXPECTED)
    packed.write_bytes(b"half")
    sink._database.run("UPDATE files SET state = 'closed'")
    sink.tick()

    assert [packed] == list((tmp_path / "exp").iterdir())
    assert EXPECTED == unzstd(packed.read_bytes())


def test_a_large_file_is_followed_by_the_next_part(make, tmp_path):
    """No part is over the limit, lines are never divided, and together they are all lines."""
    sink = make(max_bytes=1024, compression="none")
    for batch in cut(LOG, 10):
        sink.write(0, batch)
    sink.close()

    files = list((tmp_path / "exp").iterdir())
    assert len(files) > 5
    assert all(path.stat().st_size <= 1024 and path.read_bytes().endswith(b"\n") for path in files)
    assert sorted(EXPECTED.splitlines()) == sorted(line for path in files for line in path.read_bytes().splitlines())


def test_a_file_of_somebody_elses_is_left_alone(make, tmp_path):
    """A file that is there and that no ledger knows keeps its bytes; the day goes on in another part."""
    (tmp_path / "exp").mkdir()
    (tmp_path / "exp" / f"{DAY}.jsonl").write_bytes(b"mine\n")

    make().write(0, LOG)

    assert b"mine\n" == (tmp_path / "exp" / f"{DAY}.jsonl").read_bytes()
    assert EXPECTED == (tmp_path / "exp" / f"{DAY}.1.jsonl").read_bytes()


def test_runs_of_two_experiments_do_not_share_a_file(make, tmp_path):
    """Two runs at the same time, which little-loops writes into one file without saying whose a line is."""
    one = envelopes(lines("demo-parent"), experiment="a/b", emitter="1" * 16)
    two = envelopes(lines("demo-cycle"), experiment="..", emitter="2" * 16)
    mixed = [event for pair in zip(one, two, strict=False) for event in pair]

    make().write(0, deliver(mixed))

    assert {"a%2Fb", "%2E%2E"} == {p.name for p in tmp_path.iterdir() if p.is_dir()}
    assert b"".join(bytes(e.data) + b"\n" for e in mixed if e.experiment == "..") == read(tmp_path, "%2E%2E")


def test_two_recorders_do_not_share_a_folder(make, tmp_path, clock):
    """The second is refused with a sentence, and the first goes on."""
    first = make()
    first.write(0, LOG[:10])
    second = JsonlSink("jsonl", tmp_path, now=clock)

    with pytest.raises(StorageError, match="another recorder writes here"):
        second.resume(0)

    assert Written(len(LOG) - 10, 0) == first.write(0, LOG[10:])


def test_a_file_that_others_cut_is_noticed(make, tmp_path, capsys):
    """A file that is shorter than it was is told of, and what follows is added behind what is there."""
    make().write(0, LOG[:10])
    path = tmp_path / "exp" / f"{DAY}.jsonl"
    os.truncate(path, 5)

    make().write(0, LOG[10:11])

    assert "lines_missing" in capsys.readouterr().out
    assert path.read_bytes()[5:] == slice_data(LOG[10].body) + b"\n"


@settings(deadline=None)
@given(st.text(min_size=1, max_size=255))
def test_any_experiment_has_a_safe_name(experiment):
    """Whatever an experiment is called, its files lie in one folder of their own, right below the recorder's."""
    try:
        check_experiment(experiment)
    except InvalidExperiment:
        return
    folder, name = _path(experiment, DAY, 2).split("/")

    assert f"{DAY}.2.jsonl" == name
    assert folder not in ("", ".", "..")
    assert len(folder.encode()) <= 150
    assert set(folder) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-%~")


def test_the_day_is_that_of_the_recording(make, tmp_path, clock):
    """An event whose own clock is wrong goes where it was recorded."""
    (event,) = envelopes([{"event": "note", "ts": "1999-01-01T00:00:00+00:00"}])
    event = msgspec.structs.replace(event, recorded_time=format_time(clock.now))

    make().write(0, deliver([event]))

    assert [format_time(clock.now)[:10] + ".jsonl"] == [p.name for p in (tmp_path / "exp").iterdir()]


@pytest.mark.parametrize(("fsync", "forced"), [("always", 3), ("interval", 1), ("never", 0)])
def test_lines_are_forced_to_the_disk_as_the_policy_says(make, tmp_path, monkeypatch, fsync, forced):
    """With each batch, once an interval, or never; little-loops' own file is never forced."""
    done, really = [], os.fsync
    monkeypatch.setattr("os.fsync", lambda descriptor: done.append(str(Path(f"/proc/self/fd/{descriptor}").readlink())))
    sink = make(fsync=fsync, seconds=1.0)
    for batch in cut(LOG[:30], 10):
        sink.write(0, batch)
    monkeypatch.setattr("os.fsync", really)

    assert forced == done.count(str(tmp_path / "exp" / f"{DAY}.jsonl"))


DAY_MICROSECONDS = 86_400_000_000


def days(sink, clock, count):
    """Write an event and begin another day, `count` times; the names of the days."""
    names = []
    for number in range(count):
        (event,) = envelopes([{"event": "note", "n": number}], emitter=None, run=f"r{number}")
        event = msgspec.structs.replace(event, recorded_time=format_time(clock.now))
        sink.write(0, deliver([event], offset=number))
        names.append(format_time(clock.now)[:10])
        clock.now += DAY_MICROSECONDS
        sink.tick()
    return names


def test_files_of_days_long_gone_are_deleted(make, tmp_path, clock):
    """A file goes when its day ended longer ago than was asked for, whole; the younger stay, and it is counted."""
    retention = LineRetention(max_age_seconds=3 * 86_400)
    sink = make(retention=retention)

    names = days(sink, clock, 10)

    kept = sorted(path.name[:10] for path in (tmp_path / "exp").iterdir())
    assert names[-3:] == kept
    assert 7 == retention.deleted
    assert [(name,) for name in kept] == sink._database.rows("SELECT day FROM files ORDER BY day")


def test_the_oldest_files_go_while_all_are_too_large(make, tmp_path, clock):
    """What lies in the folder stays near what was asked for, counted as it lies there, compressed; the newest stays."""
    sink = make(retention=LineRetention(max_bytes=200))

    names = days(sink, clock, 20)

    kept = sorted(path.name[:10] for path in (tmp_path / "exp").iterdir())
    assert names[-len(kept) :] == kept
    assert 1 < len(kept) < 8
    assert sum(path.stat().st_size for path in (tmp_path / "exp").iterdir()) <= 200


def test_what_is_written_to_is_never_deleted(make, tmp_path, clock):
    """However small the limit, today's lines stay."""
    sink = make(retention=LineRetention(max_bytes=1, max_age_seconds=1))
    clock.now -= DAY_MICROSECONDS // 2
    sink.write(0, LOG)
    sink.tick()

    assert EXPECTED == (tmp_path / "exp" / f"{DAY}.jsonl").read_bytes()


def test_a_kill_while_deleting_is_gone_on_with(make, tmp_path, clock):
    """Rows whose files are gone already are deleted with the rest, and a folder without files goes too."""
    sink = make(retention=LineRetention(max_age_seconds=86_400))
    sink.write(0, LOG)
    (tmp_path / "exp" / f"{DAY}.jsonl").unlink()
    clock.now += 5 * DAY_MICROSECONDS
    sink.tick()

    assert [] == sink._database.rows("SELECT * FROM files")
    assert [] == [path for path in tmp_path.iterdir() if path.is_dir()]


def test_somebody_elses_file_outlives_its_neighbours(make, tmp_path, clock):
    """Only files that the ledger knows are deleted."""
    sink = make(retention=LineRetention(max_age_seconds=86_400))
    sink.write(0, LOG)
    (tmp_path / "exp" / "notes.txt").write_text("mine")
    clock.now += 5 * DAY_MICROSECONDS
    sink.tick()

    assert ["notes.txt"] == [path.name for path in (tmp_path / "exp").iterdir()]
