"""Which runs go on, and where they are in their loops."""

import json

import msgspec
import pytest

from loopcast.events import format_time
from loopcast.pulse import SILENT_SECONDS, Pulse
from loopcast_gateway.entry import Entry
from loopcast_gateway.open_runs import OpenRuns, ended_run

NOW = 1_000.0
COUNT = iter(range(1, 10**6))


def entry(type_, run="r", experiment="e", *, recorded=None, time="2026-11-20T17:38:28Z", attempt=1, **data):
    offset = next(COUNT)
    envelope = {"time": time, "attempt": attempt, "subject": "sub", "data": {"event": type_, **data}}
    return Entry(
        partition=0,
        offset=offset,
        id=str(offset),
        experiment=experiment,
        type=type_,
        recorded=int(NOW * 1e6) if recorded is None else recorded,
        envelope=json.dumps(envelope).encode(),
        run=run,
    )


def folded(*entries):
    runs = OpenRuns()
    for one in entries:
        runs.add(one)
    return runs


def test_a_run_is_shown_where_it_is():
    """Loop, state, iteration and since when, the sub-loops inside."""
    runs = folded(
        entry("loop_start", loop="outer", time="t0"),
        entry("state_enter", state="plan", iteration=1, time="t1"),
        entry("action_output", line="x"),
        entry("loop_start", loop="inner", depth=1, time="t2"),
        entry("state_enter", state="work", iteration=4, depth=1, time="t3"),
    )
    [run] = runs.open("e", NOW)

    assert ("outer", "running", "t0", 1) == (run.loop, run.status, run.started, run.attempt)
    assert [("outer", "plan", 1, "t1", "t0"), ("inner", "work", 4, "t3", "t2")] == [
        (level.loop, level.state, level.iteration, level.since, level.started) for level in run.loops
    ]
    assert [run] == runs.open(None, NOW)
    assert [] == runs.open("other", NOW)


def test_sub_loops_end():
    """After a sub-loop's end, or when the loop around it goes on, it is no more in the stack."""
    start = [entry("loop_start", loop="outer"), entry("loop_start", loop="inner", depth=1)]
    ended = folded(*start, entry("loop_complete", depth=1, terminated_by="terminal"))
    left = folded(*start, entry("state_enter", state="next", iteration=2))

    assert [["outer"]] * 2 == [[level.loop for level in runs.open("e", NOW)[0].loops] for runs in (ended, left)]


@pytest.mark.parametrize(
    ("data", "status"),
    [
        ({"terminated_by": "terminal"}, "completed"),
        ({"terminated_by": "cycle_detected", "error": "x"}, "failed"),
        ({"terminated_by": "timeout"}, "timed_out"),
    ],
)
def test_a_run_ends(data, status):
    """A run that ended is not open, keeps how, and does not begin again by what comes behind its end."""
    end = entry("loop_complete", **data)
    runs = folded(entry("loop_start", loop="l"), end, entry("ab_summary"), entry("state_enter", state="late"))

    assert [] == runs.open("e", NOW)
    assert [(status, [])] == [(run.status, run.loops) for run in runs.of("e", NOW)]
    assert status == ended_run(end)
    assert None is ended_run(entry("loop_complete", depth=1, **data))


def test_a_run_waits_and_is_resumed():
    """A handoff lets a run wait, which is open; a resume goes on with the next attempt, whatever its run was."""
    start = [entry("loop_start", loop="l", time="t0"), entry("handoff_detected", state="work")]
    waiting = folded(*start)
    resumed = folded(
        *start,
        entry("loop_resume", loop="l", attempt=2, time="t5"),
        entry("loop_start", loop="l", attempt=2, time="t6"),
    )
    unknown = folded(entry("loop_resume", loop="l", attempt=2))

    assert ["awaiting_continuation"] == [run.status for run in waiting.open("e", NOW)]
    assert [("running", 2, "t0", 1)] == [(r.status, r.attempt, r.started, len(r.loops)) for r in resumed.open("e", NOW)]
    assert [(True, "running")] == [(run.resumed, run.status) for run in unknown.open("e", NOW)]


def test_who_is_silent_for_a_day_is_not_shown_as_open():
    """A run that was killed says nothing, ever; after a day of silence it is not among the open ones."""
    runs = folded(entry("loop_start", recorded=0))

    assert 1 == len(runs.open("e", 24 * 3600 - 1))
    assert [] == runs.open("e", 24 * 3600 + 1)
    assert 1 == len(runs.of("e", NOW))


def beat(seconds, run="r"):
    """A pulse that a producer took so many seconds after NOW."""
    at = format_time(round((NOW + seconds) * 1e6))
    return Pulse(experiment="e", run=run, pid=1, host="h", emitter="m", recordedtime=at)


def test_a_run_whose_pulse_stops_is_silent():
    """Three pulses that do not come: its process was killed. It is open all the same: nobody said that it ended."""
    runs = folded(entry("loop_start"))
    runs.beat(beat(60))

    [soon], [late] = (runs.open("e", NOW + 60 + seconds) for seconds in (SILENT_SECONDS - 1, SILENT_SECONDS + 1))
    [listed] = runs.of("e", NOW + 60 + SILENT_SECONDS + 1)

    assert (False, True, True) == (soon.silent, late.silent, listed.silent)
    assert ("running", "running") == (soon.status, late.status)
    assert format_time(round((NOW + 60) * 1e6)) == late.pulse


def test_an_event_is_a_sign_of_life_too():
    """A run that speaks is not silent, whatever became of its pulses; nor is one that never had any."""
    later = int((NOW + 200) * 1e6)
    runs = folded(entry("loop_start"))
    runs.beat(beat(0))
    runs.add(entry("state_enter", state="s", recorded=later))
    without = folded(entry("loop_start"))

    assert [False] == [run.silent for run in runs.of("e", NOW + 200)]
    assert [False] == [run.silent for run in without.of("e", NOW + 10**4)]


@pytest.mark.parametrize("last", [entry("loop_complete"), entry("handoff_detected")], ids=["ended", "waits"])
def test_who_has_no_process_is_not_silent(last):
    """A run that ended, or waits for a person, has nobody who could tell that it lives."""
    runs = folded(entry("loop_start"))
    runs.beat(beat(0))
    runs.add(last)

    assert [False] == [run.silent for run in runs.of("e", NOW + 10**4)]


def test_a_pulse_begins_no_run_and_keeps_one_for_longer_than_a_day():
    """Of a run that nobody told of, or with a time that is none, it says nothing; a loop may think for a day."""
    runs = folded(entry("loop_start"))
    runs.beat(beat(0, "unknown"))
    runs.beat(beat(25 * 3600))
    runs.beat(msgspec.structs.replace(beat(0), recordedtime="soon"))

    assert ["r"] == [run.run for run in runs.open("e", NOW + 26 * 3600)]
    assert ["r"] == [run.run for run in runs.of("e", NOW)]


def test_other_programs_events_are_no_runs():
    """What tells of no loop opens nothing, and an envelope that is none of ours breaks nothing."""
    odd = entry("loop_start")
    odd.envelope = b'{"data": [1]}'
    broken = entry("state_enter")
    broken.envelope = b"\xff"
    deep = entry("state_enter", depth=10**9, state="x")

    assert [] == folded(entry("message"), odd, broken).of("e", NOW)
    assert [[]] == [run.loops for run in folded(deep).of("e", NOW)]


def test_the_number_of_runs_is_bounded():
    """Those that ended go first, then those that were silent longest, which is counted."""
    runs = OpenRuns(limit=3)
    for one in [
        entry("loop_start", "a"),
        entry("loop_start", "b"),
        entry("loop_complete", "b"),
        entry("loop_start", "c"),
        entry("loop_start", "d"),
        entry("loop_start", "e"),
    ]:
        runs.add(one)

    assert ["e", "d", "c"] == [run.run for run in runs.of("e", NOW)]
    assert 1 == runs.forgotten


FIXTURE = [
    ("loop_start", {"loop": "p"}),
    ("state_enter", {"state": "a", "iteration": 1}),
    ("loop_start", {"loop": "c", "depth": 1}),
    ("state_enter", {"state": "x", "iteration": 1, "depth": 1}),
    ("loop_complete", {"depth": 1, "terminated_by": "terminal"}),
    ("state_enter", {"state": "b", "iteration": 2}),
    ("loop_complete", {"terminated_by": "terminal"}),
]


@pytest.mark.parametrize("split", range(len(FIXTURE) + 1))
def test_what_was_written_down_goes_on(split):
    """Going on from a checkpoint gives the same as reading all of the log."""
    log = [entry(type_, **data) for type_, data in FIXTURE]
    older = folded(*log[:split])
    older.beat(beat(0))
    newer = OpenRuns()
    newer.load(older.dump())
    for one in log[split:]:
        newer.add(one)
        older.add(one)

    late = NOW + 10**4
    assert older.of("e", late) == newer.of("e", late)
    assert [run.loops for run in folded(*log).of("e", late)] == [run.loops for run in newer.of("e", late)]
