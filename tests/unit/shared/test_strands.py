"""Several runs in one source, told apart by the run that newer little-loops names in its events."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopcast.runs import Runs
from loopcast.strands import MAX_STRANDS, Strands

STREAMS = Path(__file__).parents[2] / "fixtures" / "streams"


def stream(name, own=None, child=None):
    """A recorded stream; with `own`, as newer little-loops would have written it."""
    events = [json.loads(line) for line in (STREAMS / f"{name}.jsonl").read_text().splitlines()]
    return [{**e, "run_id": child if "depth" in e else own} if own else e for e in events]


def strands(recall=None, run=None):
    """Strands whose runs' suffixes count from 1."""
    numbers = iter(range(1, 10_000))
    return Strands(
        lambda: Runs(now=lambda: 0, suffix=lambda: f"{next(numbers):06x}", recall=recall, run=run), split=run is None
    )


def found(tracker, events):
    """The run and attempt of each event."""
    return [tracker.identify(event)[:2] for event in events]


@pytest.mark.parametrize("name", [path.stem for path in sorted(STREAMS.glob("*.jsonl"))])
def test_one_run_is_as_before(name):
    """A stream of one run is read the same with names and without, as by one `Runs`."""
    plain = Runs(now=lambda: 0, suffix=lambda: "000001")

    assert (
        [plain.identify(event)[:2] for event in stream(name)]
        == found(strands(), stream(name))
        == found(strands(), stream(name, "own", "child"))
    )


@given(st.lists(st.booleans(), max_size=80))
def test_two_runs_in_one_file_are_told_apart(turns):
    """However the events of two runs interleave, each belongs to its own, sub-loops included."""
    left = [(0, e) for e in stream("demo-parent", "a", "a-child")]
    right = [(1, e) for e in stream("demo-cycle", "b")]
    mixed = []
    for turn in turns:
        # A sub-loop's beginning follows its parent's own event.
        source = left if turn else right
        if source:
            mixed.append(source.pop(0))
            while source and source[0][1].get("depth") and source[0][1]["event"] == "loop_start":
                mixed.append(source.pop(0))
    mixed += left + right
    tracker = strands()
    runs: dict[int, set[str]] = {0: set(), 1: set()}
    for which, event in mixed:
        runs[which].add(tracker.identify(event).run)

    assert [1, 1] == [len(found) for found in runs.values()]
    assert not runs[0] & runs[1]


def test_without_names_runs_follow_each_other():
    """Old streams, one behind the other in one file, are separate runs, and a resume reaches back."""
    tracker = strands()
    names = ["demo-handoff", "demo-cycle", "demo-handoff-resume", "demo-parent"]
    runs = [set(found(tracker, stream(name))) for name in names]

    assert [1] * 4 == [len(one) for one in runs]
    (first,), _, (resumed,), _ = runs
    assert (first[0], 2) == resumed
    assert 3 == len({run for one in runs for run, _ in one})


def test_a_source_that_starts_in_the_middle():
    """Where the beginning is missing, inside a sub-loop even, what is there is one run."""
    events = stream("demo-parent", "own", "child")
    inside = next(n for n, event in enumerate(events) if "depth" in event) + 2

    assert 1 == len(set(found(strands(), events[inside:])))
    assert 1 == len(set(found(strands(), events[3:])))


def test_a_run_that_never_ends_is_over_when_the_next_begins():
    """A killed loop says nothing; the next start opens the next run, and one that is named stays open beside it."""
    plain, named = strands(), strands()
    found(plain, stream("demo-parent")[:9])
    found(named, stream("demo-parent", "own", "child")[:9])
    plain.identify(stream("demo-cycle")[0])
    named.identify(stream("demo-cycle", "other")[0])

    assert (1, 2) == (len(plain.open_runs), len(named.open_runs))


def test_events_without_a_name_belong_to_the_run_before():
    """`issue.completed` names no run; it is of the one that was last heard of."""
    tracker = strands()
    run, _ = found(tracker, stream("demo-parent", "own", "child"))[-1]

    assert run == tracker.identify({"event": "issue.completed"}).run
    assert () == tracker.open_runs


def test_a_named_run_resumes_over_others():
    """A handoff, other runs, and the resume with the name of the first: its second attempt."""
    tracker = strands()
    first = found(tracker, stream("demo-handoff", "own"))[0][0]
    found(tracker, stream("demo-cycle", "other"))

    assert {(first, 2)} == set(found(tracker, stream("demo-handoff-resume", "own")))


def test_a_resume_asks_what_others_know():
    """Another process's run is continued; one of another name by little-loops' own count is not."""
    first = strands()
    run = found(first, stream("demo-handoff", "own"))[0][0]
    memory = {"demo-handoff": first.runs.known("demo-handoff")}
    again = strands(recall=memory.get)
    other = strands(recall=memory.get)

    assert {(run, 2)} == set(found(again, stream("demo-handoff-resume", "own")))
    assert {1} == {attempt for _, attempt in found(other, stream("demo-handoff-resume", "not-own"))}
    assert {1} == {attempt for _, attempt in found(strands(recall=lambda loop: 5), stream("demo-handoff-resume"))}


def test_a_later_attempt_elsewhere_counts():
    """Who resumed last knows best: the attempt after that is the next."""
    memory: dict[str, object] = {}
    attempts = []
    one, two = strands(recall=memory.get), strands(recall=memory.get)
    found(one, stream("demo-handoff", "own"))
    for tracker in (one, two, one, two):
        memory["demo-handoff"] = memory.get("demo-handoff") or one.runs.known("demo-handoff")
        attempts += sorted({attempt for _, attempt in found(tracker, stream("demo-handoff-resume", "own"))})
        memory["demo-handoff"] = tracker.runs.known("demo-handoff")

    assert [2, 3, 4, 5] == attempts


def test_a_run_that_the_caller_names_is_not_split():
    """Who says the run means all events."""
    tracker = strands(run="mine")

    assert {"mine"} == {run for run, _ in found(tracker, stream("demo-parent", "a") + stream("demo-cycle", "b"))}


@pytest.mark.parametrize("place", [1, 5, 20, 30, 45, 60])
def test_a_relay_goes_on_where_it_was(place):
    """What is dumped and loaded in the middle of two interleaved runs continues both."""
    left, right = stream("demo-parent", "a", "a-child"), stream("demo-cycle", "b")
    mixed = [event for pair in zip(left, right, strict=False) for event in pair]
    whole, first = strands(), strands()
    expected = found(whole, mixed)
    before = found(first, mixed[:place])
    second = strands()
    second.load(json.loads(json.dumps(first.dump())))

    after = found(second, mixed[place:])
    assert len({run for run, _ in expected}) == len({run for run, _ in before + after})
    assert [run[:-6] for run, _ in expected] == [run[:-6] for run, _ in before + after]


@pytest.mark.parametrize("memory", [None, {}, {"strands": 5}, {"strands": {"a": {}}}, {"strands": {}, "last": {}}])
def test_nonsense_is_no_memory(memory):
    """What cannot be read is refused, and nothing has changed."""
    tracker = strands()
    run = tracker.identify({"event": "x"}).run
    with pytest.raises(ValueError, match="memory of runs"):
        tracker.load(memory)

    assert run == tracker.identify({"event": "x"}).run


def test_strands_are_bounded():
    """Thousands of runs in one source do not grow it."""
    tracker = strands()
    for n in range(3 * MAX_STRANDS):
        tracker.identify({"event": "loop_start", "loop": "l", "run_id": f"r{n}"})

    assert MAX_STRANDS == len(tracker._strands) == len(tracker.open_runs)
