"""Run identity, on recorded streams of little-loops and on what they do not show."""

import json
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopcast.errors import InvalidExperiment
from loopcast.events import format_time
from loopcast.routing import check_experiment
from loopcast.runs import MAX_LOOPS, Frame, Identity, Runs, run_id, source_run

STREAMS = Path(__file__).parents[2] / "fixtures" / "streams"
PARENT = "20261120T173828Z-demo-parent-000001"
HANDOFF = "20261120T173829Z-demo-handoff-000001"
Event = dict[str, object]


def stream(name: str) -> list[Event]:
    """A recorded stream."""
    return [json.loads(line) for line in (STREAMS / f"{name}.jsonl").read_text().splitlines()]


def runs(run: str | None = None, parent_run: str | None = None) -> Runs:
    """An identity whose suffixes count from 1, at the beginning of 1970."""
    numbers = iter(range(1, 10_000))
    return Runs(now=lambda: 0, suffix=lambda: f"{next(numbers):06x}", run=run, parent_run=parent_run)


def identities(tracker: Runs, events: Iterable[Event]) -> list[Identity]:
    """What the tracker says of each event."""
    return [tracker.identify(event) for event in events]


def event(type_: str, **members: object) -> Event:
    """An event of the first second of 2026."""
    return {"event": type_, "ts": "2026-01-01T00:00:00+00:00", **members}


def blocks(found: list[Identity]) -> list[tuple[int, str | None, int, str | None]]:
    """Consecutive events of one loop, depth and change, as (how many, loop, depth, change)."""
    return [(len(list(g)), *key) for key, g in groupby(found, key=lambda i: (i.loop, i.depth, i.change))]


def test_parent_with_sub_loop() -> None:
    """The recorded loop with a sub-loop is one run, and ends with its own end, not the sub-loop's."""
    found = identities(runs(), stream("demo-parent"))

    assert {(PARENT, 1, None, False)} == {(i.run, i.attempt, i.parent_run, i.resumed) for i in found}
    assert [
        (1, "demo-parent", 0, "opened"),
        (26, "demo-parent", 0, None),
        (8, "demo-child", 1, None),
        (1, "demo-parent", 0, None),
        (1, "demo-parent", 0, "ended"),
    ] == blocks(found)
    assert ["open"] * 36 + ["ended"] == [i.state for i in found]


def test_cycle() -> None:
    """The recorded loop that is stopped for going in circles is one run that ends."""
    found = identities(runs(), stream("demo-cycle"))

    assert {("20261120T173829Z-demo-cycle-000001", 1)} == {(i.run, i.attempt) for i in found}
    assert [(1, "demo-cycle", 0, "opened"), (26, "demo-cycle", 0, None), (1, "demo-cycle", 0, "ended")] == blocks(found)


def test_handoff_and_resume() -> None:
    """The recorded handoff leaves the run waiting; its resume goes on with the same run, as attempt 2."""
    tracker = runs()
    before = identities(tracker, stream("demo-handoff"))
    after = identities(tracker, stream("demo-handoff-resume"))

    assert {(HANDOFF, 1, "demo-handoff")} == {(i.run, i.attempt, i.loop) for i in before}
    assert ["opened", *[None] * 5, "waiting"] == [i.change for i in before]
    assert "waiting" == before[-1].state
    assert {(HANDOFF, 2, "demo-handoff", False)} == {(i.run, i.attempt, i.loop, i.resumed) for i in after}
    assert ["resumed", *[None] * 7, "ended"] == [i.change for i in after]
    assert ["open"] * 8 + ["ended"] == [i.state for i in after]


def test_resume_in_another_process() -> None:
    """A process that was given what another remembered continues its run; the memory survives JSON."""
    first, second = runs(), runs()
    identities(first, stream("demo-handoff"))
    second.load(json.loads(json.dumps(first.dump())), same_source=False)
    after = identities(second, stream("demo-handoff-resume"))

    assert {(HANDOFF, 2)} == {(i.run, i.attempt) for i in after}
    assert ["resumed", *[None] * 7, "ended"] == [i.change for i in after]


def test_resume_three_times() -> None:
    """Each resume is one attempt more, over processes and over ends."""
    memory = runs().dump()
    attempts = []
    for name in ("demo-handoff", *["demo-handoff-resume"] * 3):
        tracker = runs()
        tracker.load(memory, same_source=False)
        attempts.append(identities(tracker, stream(name))[-1].attempt)
        memory = tracker.dump()

    assert [1, 2, 3, 4] == attempts


def test_unknown_resume() -> None:
    """A resume of a run that nobody here knows opens one, once, and marks it."""
    found = identities(runs(), stream("demo-handoff-resume"))

    assert {("20261120T173830Z-demo-handoff-000001", 1, True)} == {(i.run, i.attempt, i.resumed) for i in found}
    assert ["opened", *[None] * 7, "ended"] == [i.change for i in found]


def test_all_streams_in_one_source() -> None:
    """Runs one after the other in one source are apart, and a resume reaches back over others."""
    tracker = runs()
    names = ["demo-handoff", "demo-cycle", "demo-parent", "demo-handoff-resume", "demo-cycle"]
    found = [identities(tracker, stream(name)) for name in names]

    assert [1] * 5 == [len({(i.run, i.attempt) for i in one}) for one in found]
    assert (HANDOFF, 2) == (found[3][0].run, found[3][0].attempt)
    assert 4 == len({i.run for one in found for i in one})


@pytest.mark.parametrize("place", range(1, 37))
def test_relay_restarts(place: int) -> None:
    """A relay that is started again in the middle of its file goes on as if it had not been."""
    whole = stream("demo-parent")
    first, second = runs(), runs()
    before = identities(first, whole[:place])
    second.load(json.loads(json.dumps(first.dump())), same_source=True)

    assert identities(runs(), whole) == before + identities(second, whole[place:])


def test_relay_restarts_while_waiting() -> None:
    """A relay that is started again at a handoff counts the next attempt once."""
    first, second = runs(), runs()
    identities(first, stream("demo-handoff"))
    second.load(first.dump(), same_source=True)
    identities(second, stream("demo-handoff-resume"))
    identities(second, stream("demo-cycle"))

    assert 3 == second.identify(event("loop_resume", loop="demo-handoff")).attempt


def test_new_source_does_not_guess() -> None:
    """First events that name no run are not put into the run of a process before."""
    first, second = runs(), runs()
    identities(first, [event("loop_start", loop="a")])
    second.load(first.dump(), same_source=False)

    assert second.state is None
    assert "opened" == second.identify(event("issue.started")).change


def test_after_the_end() -> None:
    """What comes between an end and the next start belongs to the ended run, which stays ended."""
    tracker = runs()
    started = event("loop_start", loop="a")
    late = [event("ab_summary"), event("state_enter", state="x"), event("x", depth=1), event("handoff_detected")]
    found = identities(tracker, [started, event("loop_complete"), *late, event("loop_complete"), started])

    assert [1] * 7 + [2] == [int(i.run[-6:]) for i in found]
    assert ["opened", "ended", *[None] * 5, "opened"] == [i.change for i in found]
    assert ["open", *["ended"] * 6, "open"] == [i.state for i in found]


def test_after_a_handoff() -> None:
    """What comes after a handoff belongs to the run that waits, and its end ends it."""
    events = [event("loop_start", loop="a"), event("handoff_detected"), event("handoff_spawned", pid=7)]
    found = identities(runs(), [*events, event("handoff_detected"), event("loop_complete")])

    assert ["opened", "waiting", None, None, "ended"] == [i.change for i in found]
    assert ["open", "waiting", "waiting", "waiting", "ended"] == [i.state for i in found]


def test_sub_loop_marks_do_not_count() -> None:
    """A sub-loop's start, resume, handoff and end leave the run as it is."""
    marks = ["loop_start", "handoff_detected", "loop_resume", "loop_complete"]
    found = identities(runs(), [event("loop_start", loop="a"), *(event(m, loop="b", depth=1) for m in marks)])

    assert ["opened", None, None, None, None] == [i.change for i in found]
    assert {("open", 1)} == {(i.state, i.attempt) for i in found}


def test_killed_run() -> None:
    """A start without an end before it opens a run of its own."""
    found = identities(runs(), [event("loop_start", loop="a"), event("loop_start", loop="a")])

    assert ["opened", "opened"] == [i.change for i in found]
    assert found[0].run != found[1].run


def test_before_any_start() -> None:
    """Events before any start share a run of their own, which a start does not adopt."""
    found = identities(runs(), [event("issue.started"), {"event": "x"}, event("loop_start", loop="a")])

    assert ["20260101T000000Z-events-000001"] * 2 + ["20260101T000000Z-a-000002"] == [i.run for i in found]
    assert [None, None, "a"] == [i.loop for i in found]


def test_sub_loop_before_any_start() -> None:
    """A source that is joined inside a sub-loop has a run, without the sub-loop's name."""
    tracker = runs()
    inside = tracker.identify(event("route", depth=2, loop="inner"))
    back = tracker.identify(event("route"))

    assert ("20260101T000000Z-events-000001", "inner", 2) == (inside.run, inside.loop, inside.depth)
    assert (inside.run, None, 0) == (back.run, back.loop, back.depth)


def test_aborted_resume() -> None:
    """A resume that ends before its start does not lend its run to the next start."""
    loop = event("loop_start", loop="a")
    found = identities(runs(), [loop, event("loop_resume", loop="a"), event("loop_complete"), loop])

    assert [1, 1, 1, 2] == [int(i.run[-6:]) for i in found]
    assert [1, 2, 2, 1] == [i.attempt for i in found]


def test_resume_that_hands_off() -> None:
    """A resume that waits again before its start does not lend its run to the next start either."""
    loop = event("loop_start", loop="a")
    found = identities(runs(), [loop, event("loop_resume", loop="a"), event("handoff_detected"), loop])

    assert ["opened", "resumed", "waiting", "opened"] == [i.change for i in found]


def test_memory_after_restart() -> None:
    """What a relay that was started again remembers of a loop is what has become of its run since."""
    first, second, whole = runs(), runs(), runs()
    events = [event("loop_start", loop="a"), event("loop_complete")]
    first.identify(events[0])
    second.load(first.dump(), same_source=True)
    second.identify(events[1])
    identities(whole, events)

    assert whole.dump() == second.dump()


def test_resume_of_one_start_of_another() -> None:
    """A start of another loop behind a resume opens its own run."""
    found = identities(
        runs(), [event("loop_start", loop="a"), event("loop_resume", loop="a"), event("loop_start", loop="b")]
    )

    assert ["opened", "resumed", "opened"] == [i.change for i in found]


def test_resume_without_a_name() -> None:
    """A resume that names no loop means the last run, and opens one where there is none."""
    known = identities(runs(), [event("loop_start", loop="a"), event("loop_resume"), event("loop_start")])
    unknown = identities(runs(), [event("loop_resume"), event("loop_start", loop="a"), event("loop_start", loop="a")])

    assert [(1, "a"), (2, "a"), (2, "a")] == [(i.attempt, i.loop) for i in known]
    assert ["opened", None, "opened"] == [i.change for i in unknown]


def test_own_id_of_newer_versions() -> None:
    """Where events carry little-loops' own run id, a resume of another instance of the loop is not mistaken for it."""
    tracker = runs()
    first = tracker.identify(event("loop_start", loop="a", run_id="2026-01-01T000000-a"))
    other = tracker.identify(event("loop_resume", loop="a", run_id="2025-12-31T000000-a"))
    same = tracker.identify(event("loop_resume", loop="a", run_id="2025-12-31T000000-a"))

    assert first.run != other.run
    assert ("opened", True, 1) == (other.change, other.resumed, other.attempt)
    assert (other.run, "resumed", 2) == (same.run, same.change, same.attempt)


def test_given_run() -> None:
    """A run that the caller gives is every event's, whatever they say; only attempts are counted."""
    loop = event("loop_start", loop="a")
    events = [event("x"), loop, event("loop_complete"), loop, event("loop_resume", loop="a"), loop, event("y", depth=1)]
    found = identities(runs(run="mine", parent_run="theirs"), events)

    assert {("mine", "theirs")} == {(i.run, i.parent_run) for i in found}
    assert ["opened", None, "ended", None, "resumed", None, None] == [i.change for i in found]
    assert [1, 1, 1, 1, 2, 2, 2] == [i.attempt for i in found]
    assert ["open", "open", "ended", "open", "open", "open", "open"] == [i.state for i in found]
    assert [None, "a", "a", "a", "a", "a", None] == [i.loop for i in found]


def test_given_run_in_another_process() -> None:
    """A given run's attempts go on in another process, and another given run's do not."""
    first, same, other = runs(run="mine"), runs(run="mine"), runs(run="else")
    identities(first, stream("demo-handoff"))
    for tracker in (same, other):
        tracker.load(first.dump(), same_source=False)

    assert ("mine", 2) == same.identify(event("loop_resume", loop="demo-handoff"))[:2]
    assert ("else", 1) == other.identify(event("loop_resume", loop="demo-handoff"))[:2]


@pytest.mark.parametrize("bad", ["", "a\nb", "x" * 256])
def test_bad_given_run(bad: str) -> None:
    """A given run that breaks the grammar is refused at once."""
    with pytest.raises(InvalidExperiment, match=r"^The run id"):
        runs(run=bad)
    with pytest.raises(InvalidExperiment, match=r"^The parent run id"):
        runs(parent_run=bad)


def test_frames() -> None:
    """The loops that run now are known with their states, and nothing runs after the end."""
    tracker = runs()
    events = stream("demo-parent")
    identities(tracker, events[:29])
    child = Frame("demo-child", "probe", 1, "2026-11-20T17:38:28.814305Z")
    parent = Frame("demo-parent", "sub", 5, "2026-11-20T17:38:28.606955Z")

    assert (parent, child) == tracker.frames
    assert "open" == tracker.state


def test_frames_go() -> None:
    """A sub-loop that ended runs no more, and nothing does after the run's end."""
    tracker = runs()
    events = stream("demo-parent")
    identities(tracker, events[:35])

    assert ["demo-parent"] == [frame.loop for frame in tracker.frames]

    identities(tracker, events[35:])

    assert () == tracker.frames


def test_sub_loops_in_a_row() -> None:
    """A sub-loop's state does not outlive it, nor do the loops inside of it."""
    tracker = runs()
    starts = [event("loop_start", loop=name, depth=depth) for depth, name in enumerate("abc")]
    identities(tracker, [*starts, event("state_enter", state="s", depth=2), event("loop_start", loop="d", depth=1)])

    assert ["a", "d"] == [frame.loop for frame in tracker.frames]


def test_depth_without_end() -> None:
    """Depths without end take no memory, and their events still belong to the run."""
    tracker = runs()
    found = identities(tracker, (event("loop_start", loop="a", depth=n) for n in range(2_000)))

    assert 1 == len({i.run for i in found})
    assert 65 == len(tracker.frames)


def test_loops_without_end() -> None:
    """Only the latest loops are remembered."""
    tracker = runs()
    identities(tracker, (event("loop_start", loop=f"l{n}") for n in range(MAX_LOOPS + 1)))
    second, third = runs(), runs()
    second.load(tracker.dump(), same_source=False)
    third.load(tracker.dump(), same_source=False)

    assert "opened" == second.identify(event("loop_resume", loop="l0")).change
    assert "resumed" == third.identify(event("loop_resume", loop="l1")).change


@pytest.mark.parametrize(
    "memory", [None, {}, [], {"version": "1"}, {"version": 1, "loops": {"a": {}}}, {"version": 2, "loops": {}}]
)
def test_bad_memory(memory: object) -> None:
    """What is no memory of this version is refused, and nothing is forgotten for it."""
    tracker = runs()
    known = tracker.identify(event("loop_start", loop="a"))
    with pytest.raises(ValueError, match="memory of runs"):
        tracker.load(memory, same_source=True)

    assert known.run == tracker.identify(event("x")).run


@pytest.mark.parametrize("depth", [0, -1, None, "1", True, 1.0, [], {}])
def test_strange_depth(depth: object) -> None:
    """A depth that is no positive integer is none."""
    found = identities(runs(), [event("loop_start", loop="a"), event("loop_complete", depth=depth)])

    assert "ended" == found[1].change


anything = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("\ud800")
strange = st.dictionaries(st.sampled_from(["event", "type", "ts", "loop", "depth", "state", "iteration"]), anything)
usual = st.builds(
    lambda t, loop, depth: {"event": t, "loop": loop, "depth": depth, "ts": "2026-01-01"},
    st.sampled_from(["loop_start", "loop_resume", "loop_complete", "handoff_detected", "state_enter", "route"]),
    st.sampled_from([None, "a", "b"]),
    st.integers(0, 2),
)


@given(st.lists(usual | strange, max_size=30), st.integers(0, 30))
def test_any_stream(events: list[Event], place: int) -> None:
    """Whatever comes, each event has a legal run, and a restart in between changes nothing."""
    first, second, whole = runs(), runs(), runs()
    suffixes = iter(range(1, 10_000))
    first._suffix = second._suffix = lambda: f"{next(suffixes):06x}"
    before = identities(first, events[:place])
    second.load(json.loads(json.dumps(first.dump())), same_source=True)
    expected = identities(whole, events)

    assert expected == before + identities(second, events[place:])
    assert whole.dump() == second.dump()
    assert [] == [i for i in expected if check_experiment(i.run) != i.run or i.attempt < 1]
    assert [] == [i for i in expected if i.loop is not None and not i.loop.encode()]


@pytest.mark.parametrize(
    ("loop", "id_"),
    [
        ("demo-parent", "20261120T173828Z-demo-parent-a1b2c3"),
        ("oracles/resolve decision", "20261120T173828Z-oracles-resolve-decision-a1b2c3"),
        ("é", "20261120T173828Z-events-a1b2c3"),
        (None, "20261120T173828Z-events-a1b2c3"),
        ("x" * 500, "20261120T173828Z-" + "x" * 60 + "-a1b2c3"),
    ],
)
def test_run_id(loop: str | None, id_: str) -> None:
    """A run's id says when which loop began, in characters that need no escape."""
    assert id_ == run_id(loop, "2026-11-20T17:38:28.606955Z", "a1b2c3")


@given(st.lists(st.integers(0, 2**50), min_size=2))
def test_run_ids_sort(starts: list[int]) -> None:
    """Run ids of a loop sort by their start."""
    ids = [run_id("a", format_time(start), "000000") for start in sorted(starts)]

    assert sorted(ids) == ids


def test_source_run() -> None:
    """A source's run is the same each time, another for each experiment and source, and never changes over versions."""
    assert "src-cde5pryh55ex5deqavwbvcwp6g" == source_run("exp", "host")
    assert 4 == len({source_run(e, s) for e, s in [("a", "bc"), ("ab", "c"), ("a", ""), ("a", "\ud800")]})
    assert source_run("exp", "host") == check_experiment(source_run("exp", "host"))
