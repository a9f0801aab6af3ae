"""What the dashboard makes of recorded streams: its pure modules, in Node."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from loopcast.outcome import final_status
from loopcast_gateway.api import STATIC as SERVED

ROOT = Path(__file__).parents[3]
STATIC = ROOT / "services/gateway/src/loopcast_gateway/static"
STREAMS = ROOT / "tests/fixtures/streams"

FOLD = """
import { readFileSync } from "node:fs";
const { Runs } = await import(process.argv[1]);
const runs = new Runs();
for (const line of readFileSync(process.argv[2], "utf8").trim().split("\\n")) {
  const data = JSON.parse(line);
  runs.add({ type: data.event, time: data.ts, runid: "r", attempt: 1, data });
}
console.log(JSON.stringify(runs.list.map((run) => ({
  loop: run.loop, status: run.status, whole: run.whole, ended: run.ended !== null, tokens: run.tokens,
  iteration: run.iteration,
  verdicts: [...run.verdicts], open: run.open.length,
  states: run.states.map((s) => [s.depth, s.name, s.verdict, s.ended !== null, s.lines.length]),
}))));
"""

MATCH = """
globalThis.document = { getElementById: () => null };
const { matcher } = await import(process.argv[1]);
const events = [["loop_start", {}], ["action_output", { line: "Score 0.8" }], ["issue.completed", { id: 7 }]];
const lines = ["", "loop_*", "-action_output", "score", "action_output 0.8", "*.completed", "-*", "issue.completed",
               "-", "nothing"];
console.log(JSON.stringify(lines.map((line) => {
  const admits = matcher(line);
  return events.filter(([type, data]) => admits({ type, data, experimentid: "e", runid: "r" })).map(([type]) => type);
})));
"""


ADDRESS = """
const { read, write } = await import(process.argv[1]);
const named = [["*", null], ["a", null], ["a/b c", "run/1"], ["100%", null], ["ü", "*"]];
console.log(JSON.stringify({
  back: named.map(([experiment, run]) => read(write(experiment, run))).map(({ experiment, run }) => [experiment, run]),
  odd: ["", "#", "#%E0%A4", "#a/", "#/x"].map(read).map(({ experiment, run }) => [experiment, run]),
  named,
}));
"""


def node(script, *arguments):
    if shutil.which("node") is None:
        pytest.skip("needs node")
    command = ["node", "--input-type=module", "-e", script, "--", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert 0 == done.returncode, done.stderr
    return json.loads(done.stdout)


def fold(name):
    return node(FOLD, (STATIC / "runs.js").as_uri(), str(STREAMS / f"{name}.jsonl"))


def test_a_loop_with_a_sub_loop():
    """States come in their order, those of the sub-loop one level deeper, all closed, with verdicts, output, tokens."""
    [run] = fold("demo-parent")

    assert ("demo-parent", "completed", True, True, 0) == tuple(
        run[key] for key in ("loop", "status", "whole", "ended", "open")
    )
    assert [0, "draft", "yes", True, 2] == run["states"][0]
    inner = [state[1] for state in run["states"] if state[0] == 1]
    names = [state[1] for state in run["states"]]
    assert ["probe"] == inner
    assert names.index("sub") + 1 == names.index("probe")
    assert all(state[3] for state in run["states"])
    assert {"input": 1234, "output": 56, "cached": 700} == run["tokens"]
    assert 5 == run["iteration"]


def test_a_handoff_waits_and_goes_on():
    """A run that handed over waits, closed by nothing; resumed, it goes on as the same run and ends."""
    [waiting] = fold("demo-handoff")
    [resumed] = fold("demo-handoff-resume")

    assert ("awaiting continuation", False, 0) == (waiting["status"], waiting["ended"], waiting["open"])
    assert ("completed", True) == (resumed["status"], resumed["ended"])


def test_a_cycle_is_a_failure():
    """A run that was ended because it went in circles has failed."""
    [run] = fold("demo-cycle")

    assert ("failed", True) == (run["status"], run["ended"])


WORDS = (
    "terminal",
    "timeout",
    "error",
    "handoff",
    "max_steps",
    "interrupted",
    "interrupted_force",
    "cycle_detected",
    None,
)
ENDS = [
    {},
    {"error": "disk on fire"},
    {"failure_terminal": True},
    *({"terminated_by": by} for by in WORDS),
    *({"terminated_by": by, "failure_terminal": True, "error": "enough"} for by in WORDS),
]


def test_a_run_ended_as_the_gateway_says_that_it_did():
    """The page's own view of a run and the list of runs have the same word for each end."""
    script = """
        const { finalStatus } = await import(process.argv[1]);
        console.log(JSON.stringify(JSON.parse(process.argv[2]).map(finalStatus)));
    """
    shown = node(script, (STATIC / "runs.js").as_uri(), json.dumps(ENDS))

    assert [final_status(data).replace("_", " ") for data in ENDS] == shown


def test_filters_of_the_feed():
    """Patterns are types, a minus excludes, and anything else is words of the event."""
    every = ["loop_start", "action_output", "issue.completed"]

    assert [
        every,
        ["loop_start"],
        ["loop_start", "issue.completed"],
        ["action_output"],
        ["action_output"],
        ["issue.completed"],
        [],
        ["issue.completed"],
        every,
        [],
    ] == node(MATCH, (STATIC / "feed.js").as_uri())


def test_addresses():
    """What is written into the address is read back; what nobody wrote is everything."""
    found = node(ADDRESS, (STATIC / "address.js").as_uri())

    assert found["named"] == found["back"]
    assert [["*", None], ["*", None], ["*", None], ["a", None], ["*", None]] == found["odd"]


def test_every_module_is_served():
    """Each script that another imports is one that the gateway has."""
    for script in STATIC.glob("*.js"):
        assert f"/static/{script.name}" in SERVED
        for name in re.findall(r'from "\./([^"]+)"', script.read_text(encoding="utf-8")):
            assert f"/static/{name}" in SERVED, script
