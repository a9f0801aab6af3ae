"""Events into rows: runs, loops, states, actions, evaluations and usage."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recorder_log import deliver, envelopes, lines

from loopcast_recorder.entry import place, to_entry
from loopcast_recorder.fold import Fold
from loopcast_recorder.run_state import RunState
from loopcast_recorder.tables import TABLES


def folded(deliveries, cuts=()):
    """The rows of `deliveries` by table, each as a dict, when they come in pieces that end at `cuts`."""
    kept, runs = {}, {}
    fold = Fold(lambda *key: RunState.load(runs[key].dump()) if key in runs else None)
    for number, delivery in enumerate(deliveries):
        entry = to_entry(delivery)
        fold.add(place(0, 0, delivery.offset), entry, entry.read())
        if number in cuts or number == len(deliveries) - 1:
            rows, changed = fold.taken()
            for table, found in rows.items():
                kept.setdefault(table, {}).update(found)
            runs.update({(run.experiment, run.run): run for run in changed})
    tables = {t: [dict(zip(TABLES[t], row, strict=True)) for _, row in sorted(kept[t].items())] for t in kept}
    tables["runs"] = [dict(zip(TABLES["runs"], run.row(), strict=True)) for run in runs.values()]
    return tables


def pick(rows, *names):
    return [tuple(row[name] for name in names) for row in rows]


def of(*raw, **kwargs):
    return folded(deliver(envelopes(raw, **kwargs)))


def at(second, event, **members):
    return {"event": event, "ts": f"2026-11-20T10:00:{second:02d}+00:00", **members}


def test_a_run_with_a_sub_loop_is_one_run_and_two_loops():
    """The run's row has what its own `loop_complete` says, and the sub-loop a row of its own, one deeper."""
    tables = folded(deliver(envelopes(lines("demo-parent"))))

    assert [("demo-parent", "completed", 1, "done", "terminal", 5, 37, 5)] == pick(
        tables["runs"],
        "loop",
        "status",
        "attempts",
        "final_state",
        "terminated_by",
        "iterations",
        "events",
        "actions",
    )
    assert [(0, "demo-parent", None), (1, "demo-child", "sub")] == pick(
        tables["loops"], "depth", "loop", "parent_state"
    )


def test_states_know_where_they_went_and_what_was_judged():
    """A state's row has its next state, its verdict and its loop, a sub-loop's its own loop and depth."""
    tables = folded(deliver(envelopes(lines("demo-parent"))))

    assert [
        ("demo-parent", 0, "draft", "check", "yes"),
        ("demo-parent", 0, "check", "check", "no"),
        ("demo-parent", 0, "check", "check", "no"),
        ("demo-parent", 0, "check", "sub", "yes"),
        ("demo-parent", 0, "sub", "done", None),
        ("demo-child", 1, "probe", "done", "yes"),
    ] == pick(tables["states"], "loop", "depth", "state", "next_state", "verdict")
    assert all(row["duration_ms"] > 0 for row in tables["states"])


def test_every_row_names_its_loop():
    """Also rows of events that say nothing of their loop, which little-loops' own table left empty in each."""
    for name in ("demo-parent", "demo-cycle", "demo-handoff"):
        tables = folded(deliver(envelopes(lines(name))))
        for table in ("loops", "states", "actions", "evaluations", "usage"):
            assert all(row["loop"] for row in tables.get(table, [])), (name, table)


def test_a_handoff_and_its_resume_are_one_run_with_two_attempts():
    """The first attempt waits, the second completes; the time between them is no part of the duration."""
    tables = folded(deliver(envelopes(lines("demo-handoff") + lines("demo-handoff-resume"))))

    (run,) = tables["runs"]
    assert ("completed", 2) == (run["status"], run["attempts"])
    assert [(1, "awaiting_continuation"), (2, "completed")] == pick(tables["loops"], "attempt", "status")
    assert sum(row["duration_ms"] for row in tables["loops"]) == run["duration_ms"]
    assert run["duration_ms"] < 1000


def test_a_run_that_waits_says_so():
    """A handoff sends no `loop_complete`: the run waits, it neither runs nor ended."""
    (run,) = folded(deliver(envelopes(lines("demo-handoff"))))["runs"]

    assert ("awaiting_continuation", "handoff", None) == (run["status"], run["terminated_by"], run["ended"])


def test_tokens_and_cost_are_summed_where_events_carry_them():
    """Each action's tokens have a row, and the run their sum; a cost that nobody named is unknown, not 0."""
    start = at(0, "loop_start", loop="l")
    with_cost = of(
        start,
        at(1, "action_complete", input_tokens=10, output_tokens=5, model="m", cost_usd=0.25),
        at(2, "action_complete", input_tokens=1, output_tokens=None, model="m", cost_usd=0.5),
        at(3, "cost_warn", cost_usd=0.75),
    )
    without = of(start, at(1, "action_complete", input_tokens=10, output_tokens=5))

    assert [("m", 10, 5, 0.25), ("m", 1, None, 0.5)] == pick(
        with_cost["usage"], "model", "input_tokens", "output_tokens", "cost_usd"
    )
    assert [(11, 5, 0.75)] == pick(with_cost["runs"], "input_tokens", "output_tokens", "cost_usd")
    assert [(10, None)] == pick(without["runs"], "input_tokens", "cost_usd")


def test_retries_that_are_exhausted_leave_the_state_without_a_route():
    """`retry_exhausted` ends the state and names the next one."""
    tables = of(
        at(0, "loop_start", loop="l"),
        at(1, "state_enter", state="check", iteration=1),
        at(3, "retry_exhausted", state="check", retries=3, next="failed"),
    )

    assert [("check", "failed", "retry_exhausted", 2000.0)] == pick(
        tables["states"], "state", "next_state", "note", "duration_ms"
    )


def test_a_killed_attempt_ends_at_its_last_sign_of_life():
    """What was open when the process died is `interrupted`, and the night before the resume is nobody's time."""
    tables = of(
        at(0, "loop_start", loop="l"),
        at(1, "state_enter", state="work", iteration=1),
        at(2, "action_start", action="sleep", is_prompt=False),
        at(50, "loop_resume", loop="l", from_state="work", iteration=1),
        at(50, "loop_start", loop="l"),
        at(51, "loop_complete", final_state="done", terminated_by="terminal"),
    )

    assert [(1, "interrupted", 2000.0), (2, "completed", 1000.0)] == pick(
        tables["loops"], "attempt", "status", "duration_ms"
    )
    assert [("completed", 2, 3000.0)] == pick(tables["runs"], "status", "attempts", "duration_ms")
    assert [(None, "2026-11-20T10:00:02.000000Z")] == pick(tables["actions"], "exit_code", "ended")


def test_what_comes_behind_the_end_belongs_to_the_run_and_does_not_open_it():
    """`ab_summary` counts as an event of the ended run."""
    (run,) = of(
        at(0, "loop_start", loop="l"),
        at(1, "loop_complete", final_state="done", terminated_by="terminal"),
        at(2, "ab_summary", delta=0.2),
        at(3, "evaluate", type="x", verdict="yes"),
    )["runs"]

    assert ("completed", 4, 1) == (run["status"], run["events"], run["attempts"])


def test_any_object_is_an_event_of_a_run():
    """Events of programs that have no loops make a run without a status, and nothing they hold breaks the fold."""
    hostile = {"event": "state_enter", "state": ["x"], "iteration": 2**70, "depth": -1}
    tables = of({"event": "note", "n": 1}, hostile, {"event": "evaluate", "verdict": 3, "x": 2**70, "loop": None})

    assert [3] == [row["events"] for row in tables["runs"]]
    assert [(None, None)] == pick(tables["states"], "state", "iteration")


def test_events_with_a_run_id_and_loop_on_each_fold_the_same():
    """Newer little-loops put `run_id` and `loop` on every event; the rows are those of older ones, and name the id."""
    old = lines("demo-parent")
    new = [{**line, "run_id": "2026-x", "loop": "demo-child" if line.get("depth") else "demo-parent"} for line in old]

    before, after = folded(deliver(envelopes(old))), folded(deliver(envelopes(new)))

    assert [("2026-x",)] == pick(after["runs"], "own_run")
    assert [("evaluations", before["evaluations"])] == [("evaluations", after["evaluations"])]
    assert before["states"] == after["states"]
    assert before["actions"] == after["actions"]


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_rows_do_not_depend_on_how_the_log_was_cut(data):
    """Whatever the batches, and whatever was loaded anew between them, the rows are the same."""
    raw = lines("demo-parent") + lines("demo-handoff") + lines("demo-handoff-resume") + lines("demo-cycle")
    deliveries = deliver(envelopes(raw))
    cuts = data.draw(st.sets(st.integers(0, len(deliveries) - 1)))

    assert folded(deliveries) == folded(deliveries, cuts)
