"""Recorded streams of the real engine, and the traces that they become, written down whole."""

import os
from pathlib import Path

import pytest
from otel_streams import envelopes, fold, lines, tree

GOLDEN = Path(__file__).parent / "golden"
STREAMS = {
    "demo-parent": ["demo-parent"],
    "demo-cycle": ["demo-cycle"],
    "demo-handoff": ["demo-handoff"],
    "demo-handoff-resumed": ["demo-handoff", "demo-handoff-resume"],
}


@pytest.mark.parametrize("name", STREAMS)
def test_the_spans_of_a_recorded_stream_are_the_golden_ones(name):
    """Names, parents, times, ids, attributes, events, links and status of every span."""
    spans = fold(envelopes(line for part in STREAMS[name] for line in lines(part))).take().spans
    golden = GOLDEN / f"{name}.txt"
    if os.environ.get("LOOPCAST_TEST_WRITE_GOLDEN"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(tree(spans))

    assert golden.read_text() == tree(spans)


def test_newer_events_that_name_their_run_and_loop_become_the_same_spans():
    """little-loops 1.167 puts `run_id` and `loop` on every event; the recorded streams have neither."""
    old = lines("demo-cycle")
    new = [{**line, "run_id": "2026-11-20T173829", "loop": "demo-cycle"} for line in old]

    assert tree(fold(envelopes(old)).take().spans) == tree(fold(envelopes(new)).take().spans)
