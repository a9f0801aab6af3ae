"""A real little-loops run, recorded by its own transports and by the recorder: the same, and what theirs lack."""

import asyncio
import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from recorder_log import envelopes
from recorder_service import Recorder, publish, until

from loopcast.events import normalize_time

SCRIPT = Path(__file__).parents[2] / "support" / "little_loops_run.py"


@pytest.fixture(scope="module")
def recorded(module_vhost_url, tmp_path_factory):
    """The folder of a run with retries, a sub-loop, a handoff and its resume; ours are `r.db` and `lines`."""
    folder = tmp_path_factory.mktemp("beside")
    subprocess.run([sys.executable, SCRIPT, folder / "run"], check=True, capture_output=True, timeout=60)
    raw = [json.loads(line) for line in (folder / "run" / "own.jsonl").read_text().splitlines()]
    asyncio.run(publish(module_vhost_url, envelopes(raw)))
    sinks = {"recorder_sqlite": folder / "r.db", "recorder_jsonl": folder / "lines"}
    with Recorder(module_vhost_url, folder / "log", **sinks) as recorder:
        until(
            lambda: (folder / "r.db").exists() and [(len(raw),)] == rows(folder / "r.db", "SELECT count(*) FROM events")
        )
        until(lambda: sum(len(f.read_bytes().splitlines()) for f in folder.glob("lines/exp/*")) == len(raw))
        assert 0 == recorder.terminate()
    return folder


def rows(path, sql):
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return connection.execute(sql).fetchall()
    except sqlite3.OperationalError:
        return []
    finally:
        connection.close()


def own(folder, sql):
    return rows(folder / "run" / "own.db", sql)


def ours(folder, sql):
    return rows(folder / "r.db", sql)


def test_the_lines_are_those_of_its_jsonl_transport(recorded):
    """Byte for byte, in the same order."""
    (file,) = (recorded / "lines" / "exp").iterdir()

    assert (recorded / "run" / "own.jsonl").read_bytes() == file.read_bytes()


def test_its_states_are_our_states(recorded):
    """Each state that its SQLite transport saw entered is a row here, with the same loop and time."""
    theirs = own(recorded, "SELECT loop_name, state, ts FROM loop_events WHERE transition = 'state_enter' ORDER BY id")

    assert [(loop, state, normalize_time(ts)) for loop, state, ts in theirs] == ours(
        recorded, "SELECT loop, state, started FROM states ORDER BY n"
    )


def test_its_routes_are_where_our_states_went(recorded):
    """Each route is the next state of a row here."""
    theirs = own(recorded, "SELECT state, to_state FROM loop_events WHERE transition = 'route' ORDER BY id")

    assert sorted(theirs) == sorted(ours(recorded, "SELECT state, next_state FROM states WHERE next_state IS NOT NULL"))


def test_its_statuses_are_ours(recorded):
    """What it says of the end of each loop is the status of a row here."""
    theirs = own(recorded, "SELECT loop_name, state FROM loop_events WHERE transition = 'loop_complete' ORDER BY id")

    assert theirs == ours(
        recorded, "SELECT loop, status FROM loops WHERE terminated_by IS NOT NULL ORDER BY ended, depth DESC"
    )


def test_what_its_table_does_not_have_is_here(recorded):
    """Depths, durations, verdicts, actions, the handoff's attempt, and one row for the run that both attempts are."""
    assert {(0,), (1,)} == set(ours(recorded, "SELECT DISTINCT depth FROM states"))
    assert [] == ours(recorded, "SELECT 1 FROM states WHERE duration_ms IS NULL OR loop IS NULL")
    assert [("no", 2), ("yes", 1)] == ours(
        recorded, "SELECT verdict, count(*) FROM states WHERE state = 'try' GROUP BY verdict ORDER BY verdict"
    )
    assert [(1, "awaiting_continuation"), (2, "completed")] == ours(
        recorded, "SELECT attempt, status FROM loops WHERE depth = 0 ORDER BY n"
    )
    assert [("parent", "completed", 2, "done")] == ours(
        recorded, "SELECT loop, status, attempts, final_state FROM runs"
    )
    (line,) = (recorded / "run" / "own.jsonl").read_text().splitlines()[:1]
    assert [(json.loads(line)["run_id"],)] == ours(recorded, "SELECT own_run FROM runs")
