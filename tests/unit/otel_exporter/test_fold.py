"""The mapping, rule by rule: what each event opens, ends and says, also where the stream is not as it should be."""

import datetime as dt
import sys
from itertools import pairwise

import msgspec
import pytest
from otel_streams import envelopes, fold

from loopcast.trace_ids import LOOP, span_id, trace_id
from loopcast_otel_exporter.content import tool_name
from loopcast_otel_exporter.encoding import encode_log, encode_span
from loopcast_otel_exporter.fold import Fold, Options
from loopcast_otel_exporter.ordering import HOLD_MICROSECONDS
from loopcast_otel_exporter.state import State


def stamp(seconds):
    """A time as little-loops writes it."""
    return (dt.datetime(2026, 11, 20, tzinfo=dt.UTC) + dt.timedelta(seconds=seconds)).isoformat()


class Script:
    """Events, a second apart."""

    def __init__(self):
        self.events = []

    def __call__(self, event, at=None, **members):
        self.events.append({"event": event, "ts": stamp(len(self.events) if at is None else at), **members})
        return self

    def fold(self, options=None, **envelope):
        """The fold that has taken them."""
        return fold(envelopes(self.events, run="run", **envelope), options)

    def spans(self, options=None, **envelope):
        """The spans by name, without markers."""
        taken = self.fold(options, **envelope).take().spans
        return {span.name: span for span in taken if "loop.span_type" not in span.attributes}


def loop():
    """A loop in a state, with nothing ended."""
    return Script()("loop_start", loop="main")("state_enter", state="work", iteration=1)


def acted(**members):
    """A loop whose only action completes with `members`."""
    script = loop()("action_start", action="make all", is_prompt=False)("action_complete", **members)
    return script("loop_complete", terminated_by="terminal", final_state="done", iterations=1)


@pytest.mark.parametrize(
    ("members", "error", "status", "error_type"),
    [
        ({"terminated_by": "terminal"}, None, "completed", None),
        ({"terminated_by": "terminal", "failure_terminal": True}, "", "failed", "failure_terminal"),
        ({"terminated_by": "error", "error": "disk on fire"}, "disk on fire", "failed", "error"),
        ({"terminated_by": "cycle_detected"}, "", "failed", "cycle_detected"),
        ({"terminated_by": "stall_detected"}, "", "failed", "stall_detected"),
        ({"terminated_by": "host_pressure_abort"}, "", "failed", "host_pressure_abort"),
        ({"terminated_by": "timeout"}, "", "timed_out", "timeout"),
        ({"terminated_by": "user_stopped"}, None, "cancelled", None),
        ({"terminated_by": "system_signal"}, None, "cancelled", None),
        ({"terminated_by": "max_steps"}, None, "interrupted", None),
        ({"terminated_by": "max_iterations_reached"}, None, "interrupted", None),
        ({"terminated_by": "interrupted"}, None, "interrupted", None),
        ({"terminated_by": "handoff"}, None, "awaiting_continuation", None),
        ({}, None, "completed", None),
    ],
)
def test_how_a_loop_ended(members, error, status, error_type):
    """The status of the loop's span, and of the state that it ended in, which is ERROR only where the loop is."""
    spans = loop()("loop_complete", **members).spans()
    ended, state = spans["invoke_workflow main"], spans["state work"]

    assert (error, status) == (ended.error, ended.attributes["loop.final_status"])
    assert error_type == ended.attributes.get("error.type") == state.attributes.get("error.type")
    assert error == state.error


@pytest.mark.parametrize(
    ("code", "error_type"), [(0, None), (1, "1"), (-9, "-9"), (124, "timeout"), (None, None), (True, None)]
)
def test_how_an_action_ended(code, error_type):
    """A failed action is ERROR; the state that routed on, and the loop, are not."""
    spans = acted(exit_code=code, duration_ms=5).spans()

    assert error_type == spans["execute_tool make"].attributes.get("error.type")
    assert (error_type is None) == (spans["execute_tool make"].error is None)
    assert [None, None] == [spans["state work"].error, spans["invoke_workflow main"].error]


def test_an_exception_ends_the_action_that_runs():
    """`action_error` names the exception's class; the state has `on_error` and goes on."""
    script = loop()("action_start", action="make", is_prompt=False)
    script("action_error", state="work", error="ValueError: no such thing", route="on_error")
    spans = script("loop_complete", terminated_by="terminal").spans()

    action = spans["execute_tool make"]
    assert ("ValueError", "ValueError: no such thing") == (action.attributes["error.type"], action.error)
    assert spans["state work"].error is None
    assert ["loop.action_error"] == [event.name for event in spans["state work"].events]


def test_sub_loops_to_any_depth_stand_in_the_parents_state():
    """Each inside the innermost span of the loop above, in the same trace."""
    script = Script()
    for depth in range(6):
        script("loop_start", loop=f"l{depth}", **({"depth": depth} if depth else {}))
        script("state_enter", state=f"s{depth}", iteration=1, **({"depth": depth} if depth else {}))
    for depth in reversed(range(6)):
        script("loop_complete", terminated_by="terminal", **({"depth": depth} if depth else {}))
    spans = script.spans()

    for depth in range(6):
        assert spans[f"invoke_workflow l{depth}"].span_id == spans[f"state s{depth}"].parent_id
        if depth:
            assert spans[f"state s{depth - 1}"].span_id == spans[f"invoke_workflow l{depth}"].parent_id
    assert {trace_id("exp", "run")} == {span.trace_id for span in spans.values()}
    assert span_id(trace_id("exp", "run"), LOOP) == spans["invoke_workflow l0"].span_id
    assert span_id(trace_id("exp", "run"), "L/S1/L1/S1") == spans["state s1"].span_id


def test_a_parents_event_ends_a_sub_loop_whose_end_was_lost():
    """Nothing stays open under a parent that went on; it says that it was cut short."""
    script = loop()("loop_start", loop="sub", depth=1)("state_enter", state="inner", iteration=1, depth=1)
    spans = script("state_enter", state="next", iteration=2)("loop_complete", terminated_by="terminal").spans()

    assert spans["invoke_workflow sub"].attributes["loop.cut_short"]
    assert spans["invoke_workflow sub"].end == spans["state next"].start


def test_names_are_few_and_hold_no_text():
    """Whatever the prompt says: a span is named by its loop, state, model or program."""
    prompt = "Tell me a secret about " + "x" * 5000
    script = loop()("action_start", action=prompt, is_prompt=True)
    script("action_complete", exit_code=0, model="claude-x", output_preview="the secret", is_prompt=True)
    taken = script("messages_append", message=prompt)("loop_complete", terminated_by="terminal").fold().take()

    assert "invoke_agent claude-x" in [span.name for span in taken.spans]
    raw = b"".join([*map(encode_span, taken.spans), *map(encode_log, taken.logs)])
    assert b"secret" not in raw


def test_with_capture_on_the_text_is_there_and_cut():
    """Opted in, prompt and output leave as attributes of at most 4 KiB."""
    script = loop()("action_start", action="p" * 9000, is_prompt=True)
    script("action_complete", exit_code=0, output_preview="the answer", is_prompt=True)
    agent = script("loop_complete", terminated_by="terminal").spans(Options(capture_content=True))["invoke_agent agent"]

    assert 4096 == len(agent.attributes["gen_ai.input.messages"])
    assert "the answer" == agent.attributes["gen_ai.output.messages"]


@pytest.mark.parametrize(
    ("action", "name"),
    [
        ("echo hi", "echo"), ("/usr/bin/make -j2", "make"), ("n=$(cat x)", "shell"), ("if true; then", "shell"),
        ("", "shell"), ("x" * 50, "shell"), ("pytest", "pytest"), ("é", "shell"), ("\n  git status", "git"),
    ],
)  # fmt: skip
def test_a_shell_action_is_named_by_its_program(action, name):
    """The first word where it is a program's name."""
    assert name == tool_name(action)


@pytest.mark.parametrize(
    ("model", "provider", "tokens"),
    [("claude-opus", "anthropic", 1912), ("gpt-6", "openai", 1200), ("models/gemini-4", "gcp.gemini", 1200)],
)
def test_tokens_are_counted_as_the_conventions_say(model, provider, tokens):
    """Input tokens include the cached ones, which Anthropic's own count leaves out."""
    script = loop()("action_start", action="p", is_prompt=True)
    script("action_complete", exit_code=0, model=model, input_tokens=1200, output_tokens=5, cache_read_tokens=700,
           cache_creation_tokens=12)  # fmt: skip
    found = script("loop_complete", terminated_by="terminal").spans()[f"invoke_agent {model}"].attributes

    assert (provider, tokens) == (found["gen_ai.provider.name"], found["gen_ai.usage.input_tokens"])
    assert 700 == found["gen_ai.usage.cache_read.input_tokens"]


def test_output_becomes_log_records_at_the_action():
    """Thousands of lines: none lost, none on the span but their number."""
    script = loop()("action_start", action="make", is_prompt=False)
    for number in range(2000):
        script("action_output", line=f"line {number}")
    folded = script("action_complete", exit_code=0)("loop_complete", terminated_by="terminal").fold()
    taken = folded.take()
    action = next(span for span in taken.spans if span.name == "execute_tool make")

    assert [f"line {number}" for number in range(2000)] == [record.body for record in taken.logs]
    assert {action.span_id} == {record.span_id for record in taken.logs}
    assert (2000, []) == (action.attributes["loop.output.lines"], action.events)


def test_noise_does_not_push_out_a_verdict():
    """At most 128 events a span, the last 32 for evaluations and routes; what is left out is counted."""
    script = loop()
    for _ in range(300):
        script("rate_limit_waiting", state="work", elapsed_seconds=60)
    script("evaluate", type="exit_code", verdict="yes")("route", **{"from": "work", "to": "done"})
    state = script("loop_complete", terminated_by="terminal").spans()["state work"]

    assert (98, 204) == (len(state.events), state.dropped_events)
    assert ["gen_ai.evaluation.result", "loop.route"] == [event.name for event in state.events[-2:]]


def test_what_never_came_is_missing_of_the_loop():
    """The loop's span has how many of its run's events were skipped, though the last of them is its end."""
    script = loop()
    for n in range(6):
        script("note", n=n)
    script("loop_complete", terminated_by="terminal")
    events = envelopes(script.events, run="run")
    whole, torn = fold(events), fold([*events[:3], *events[5:6], *events[8:]])
    for folded in (whole, torn):
        folded.tick(folded.ordering.now + HOLD_MICROSECONDS + 1)
    found = [
        [span.attributes.get("loop.missing_events") for span in folded.take().spans if span.name.startswith("invoke")]
        for folded in (whole, torn)
    ]

    assert [[None], [4]] == found


def test_an_unknown_event_is_a_record_and_an_event_of_the_innermost_span():
    """Nobody has to know a type for it to be seen."""
    script = loop()("action_start", action="make", is_prompt=False)("my.own", answer=42, nested={"a": 1})
    folded = script("loop_complete", terminated_by="terminal").fold()
    taken = folded.take()

    assert [("loop.my.own", {"loop.event.answer": 42})] == [(r.event_name, r.attributes) for r in taken.logs]
    action = next(span for span in taken.spans if span.name == "execute_tool make")
    assert ["loop.my.own"] == [event.name for event in action.events]


def test_an_event_without_a_loop_is_a_record_alone():
    """`issue.completed` comes from outside of any loop: no span is made up for it."""
    taken = Script()("issue.completed", issue_id="BUG-1")("ab_summary", delta=0.1).fold().take()

    assert ([], ["loop.issue.completed", "loop.ab_summary"]) == (taken.spans, [r.event_name for r in taken.logs])


def test_what_comes_after_the_end_is_said_and_changes_nothing():
    """`ab_summary` is a record of the loop's span; an action that completes late leaves a marker of its own."""
    script = acted(exit_code=0)("ab_summary", delta=0.5)("action_complete", exit_code=1)
    folded = script.fold()
    taken = folded.take()
    late = [span for span in taken.spans if span.attributes.get("loop.span_type") == "late"]

    assert [("late action_complete", 0)] == [(span.name, span.end - span.start) for span in late]
    assert 1 == len([span for span in taken.spans if span.name == "invoke_workflow main"])
    assert "loop.ab_summary" in [record.event_name for record in taken.logs]


def test_a_lost_start_gives_an_action_that_began_as_long_ago_as_its_end_says():
    """`duration_ms` of the end, and a path that no other action can have."""
    script = loop()("action_complete", exit_code=0, duration_ms=500, at=10)
    action = script("loop_complete", terminated_by="terminal", at=11).spans()["execute_tool shell"]

    assert 500_000_000 == action.end - action.start
    assert "derived" == action.attributes["loop.identity"]


def test_a_lost_beginning_opens_what_is_needed():
    """An `action_complete` alone is a loop, a state and an action."""
    script = Script()("action_complete", exit_code=0, loop="main", state="s")("loop_complete", terminated_by="terminal")

    assert {"invoke_workflow main", "state s", "execute_tool shell"} == script.spans().keys()


def test_a_clock_that_goes_back_makes_no_negative_span():
    """A span lasts until what is inside it has ended, and says that the clock was wrong."""
    script = Script()("loop_start", loop="main", at=100)("state_enter", state="work", iteration=1, at=200)
    script("action_start", action="make", is_prompt=False, at=150)("action_complete", exit_code=0, at=120)
    spans = script("loop_complete", terminated_by="terminal", at=90).spans()

    for span in spans.values():
        assert span.start <= span.end
        assert span.attributes["loop.clock_skew"]
    assert spans["execute_tool make"].start == spans["state work"].start


def test_a_resume_is_a_trace_of_its_own_linked_to_the_last():
    """Three resumes, four traces; each but the first linked to the one before."""
    script = Script()
    for attempt in range(4):
        if attempt:
            script("loop_resume", loop="main", from_state="work", iteration=attempt)
        script("loop_start", loop="main")("state_enter", state="work", iteration=attempt + 1)
    taken = script("loop_complete", terminated_by="terminal").fold().take()
    roots = [span for span in taken.spans if span.name == "invoke_workflow main"]

    assert [trace_id("exp", "run", attempt) for attempt in (1, 2, 3, 4)] == [root.trace_id for root in roots]
    assert ["superseded"] * 3 + ["completed"] == [root.attributes["loop.final_status"] for root in roots]
    for before, after in pairwise(roots):
        assert [("previous_attempt", before.trace_id, before.span_id)] == [
            (link.relation, link.trace_id, link.span_id) for link in after.links
        ]


def test_two_loops_in_one_attempt_share_no_id():
    """A source whose runs nobody tells apart: the second start is another trace."""
    script = Script()
    for _ in range(3):
        script("loop_start", loop="main")("state_enter", state="work", iteration=1)
        script("loop_complete", terminated_by="terminal")
    taken = script.fold().take()

    assert 12 - 3 == len({span.span_id for span in taken.spans})
    assert 3 == len({span.trace_id for span in taken.spans})


def test_a_caller_and_a_parent_run_are_linked():
    """The caller's trace context (W3C) and the run that spawned this one: links, not parents."""
    events = envelopes(loop()("loop_complete", terminated_by="terminal").events, run="child")
    first = msgspec.structs.replace(
        events[0],
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        tracestate="rojo=1",
        parent_run="mother",
    )
    root = next(s for s in fold([first, *events[1:]]).take().spans if s.name == "invoke_workflow main")

    assert b"" == root.parent_id
    assert {"caller": "b7ad6b7169203331", "parent_run": span_id(trace_id("exp", "mother"), LOOP).hex()} == {
        link.relation: link.span_id.hex() for link in root.links
    }
    assert {"caller": "rojo=1", "parent_run": ""} == {link.relation: link.trace_state for link in root.links}


def test_a_running_loop_is_seen_at_once():
    """The first event alone gives a marker under an id of its own, inside the span that is to come."""
    events = envelopes(loop().events, run="run")
    [marker] = fold(events[:1]).take().spans

    trace = trace_id("exp", "run")
    assert (span_id(trace, "L#pending"), span_id(trace, LOOP)) == (marker.span_id, marker.parent_id)
    assert ("pending", "running") == (marker.attributes["loop.span_type"], marker.attributes["loop.status"])
    assert [] == fold(events[:1], Options(pending=False)).take().spans


def test_a_silent_loop_is_told_once_and_still_ends():
    """After a day of silence a marker; when the end comes after all, so does the loop's span."""
    folded = loop().fold()
    folded.take()
    folded.tick(folded.ordering.now + 25 * 3600 * 1_000_000)
    [marker] = folded.take().spans
    folded.tick(folded.ordering.now + 2 * 3600 * 1_000_000)
    end = envelopes(loop()("loop_complete", terminated_by="terminal").events, run="run")[-1]
    folded.apply(end)

    assert ("abandoned main", 0) == (marker.name, marker.end - marker.start)
    assert ["state work", "invoke_workflow main"] == [span.name for span in folded.take().spans]
    assert 0 == folded.state.measurements.sums["loop.active", "main"]


def test_a_ten_hour_loop_is_cut_into_chapters():
    """A trace of at most so many hours and spans, each linked to the one before, and the last to all."""
    script = Script()("loop_start", loop="main", at=0)
    for number in range(600):
        script("state_enter", state="work", iteration=number + 1, at=number * 60)
    spans = script("loop_complete", terminated_by="terminal", at=36000).fold().take().spans
    roots = [span for span in spans if span.name == "invoke_workflow main"]

    assert [1, 2] == [root.attributes["loop.chapter"] for root in roots]
    assert ["continued", "completed"] == [root.attributes["loop.final_status"] for root in roots]
    assert ["previous_chapter", "chapter"] == [link.relation for link in roots[1].links]
    assert {trace_id("exp", "run", 1, 1), trace_id("exp", "run", 1, 2)} == {span.trace_id for span in spans}
    assert 6 * 3600 == (roots[0].end - roots[0].start) / 1e9
    assert 600 == len([span for span in spans if span.name == "state work"])


def test_an_open_span_costs_little():
    """At most 2 KiB of memory an open span, with names and states as long as real ones."""
    folded = Fold(Options())
    for run in range(2000):
        script = Script()("loop_start", loop="refine-prompts-nightly")
        script("state_enter", state="check_semantic_vision", iteration=1, iteration_count=0)
        script("action_start", action="Write a variant of the prompt and score it", is_prompt=True)
        for event in envelopes(script.events, run=f"20261120T173828Z-refine-{run}", emitter=f"{run:016x}"):
            folded.apply(event)
    folded.take()
    state = State.load(folded.state.dump())

    assert 6000 == state.open_spans
    assert _size(state.runs) / state.open_spans < 2048


def _size(thing, seen=None):
    """Bytes of `thing` and all that it holds, each object once."""
    seen = set() if seen is None else seen
    if id(thing) in seen:
        return 0
    seen.add(id(thing))
    size = sys.getsizeof(thing)
    if isinstance(thing, dict):
        return size + sum(_size(k, seen) + _size(v, seen) for k, v in thing.items())
    if isinstance(thing, list | tuple):
        return size + sum(_size(item, seen) for item in thing)
    if isinstance(thing, msgspec.Struct):
        return size + sum(_size(getattr(thing, name), seen) for name in thing.__struct_fields__)
    return size


@pytest.mark.parametrize("data", ["[1,2]", '"text"', "17", "null", '{"event": 3, "depth": "x", "iteration": 1e400}'])
def test_data_of_any_shape_is_taken(data):
    """Any JSON is an event; none breaks the fold."""
    events = envelopes(loop().events, run="run")
    odd = [
        msgspec.structs.replace(events[1], type=type_, sequence=f"{number:020d}", data=msgspec.Raw(data.encode()))
        for number, type_ in enumerate(("action_output", "evaluate", "route", "state_enter", "action_complete", "x"), 2)
    ]
    end = envelopes(loop()("loop_complete", terminated_by="terminal").events, run="run")[-1]
    spans = fold([events[0], *odd, msgspec.structs.replace(end, sequence=f"{8:020d}")]).take().spans

    assert ["loop_start main", "execute_tool shell", "state unnamed", "invoke_workflow main"] == [s.name for s in spans]
