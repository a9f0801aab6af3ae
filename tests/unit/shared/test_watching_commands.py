"""What people ask of a gateway on the command line: times, choices, paces, and the table of runs."""

import pytest

from loopcast.cli.moments import parse_moment
from loopcast.cli.replay import Choice, Pace
from loopcast.cli.runs import COLUMNS, row_of
from loopcast.cli.tail import wanted
from loopcast.errors import ConfigurationError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90s", 999_910.0),
        ("2h", 992_800.0),
        ("1970-01-02T00:00:00", 86_400.0),
        ("1970-01-02T01:00:00+01:00", 86_400.0),
        ("1970-01-02T00:00:00Z", 86_400.0),
        ("1970-01-02", 86_400.0),
    ],
)
def test_a_moment(text, expected):
    """So long ago, or a time, which is UTC where it does not say."""
    assert expected == parse_moment(text, now=1_000_000.0)


@pytest.mark.parametrize("text", ["", "h", "2 h", "2w", "-2h", "yesterday", "9999999999h"])
def test_what_is_no_moment_is_refused_by_its_option(text):
    """The sentence names the option and shows what to write."""
    with pytest.raises(ConfigurationError, match=r"--until .*write 2h"):
        parse_moment(text, "--until")


def test_one_beginning():
    """Two beginnings are a mistake, not a guess; none is from now on, of everything."""
    [command] = wanted([], start="now", since="", last=0, types=[], exclude=["a*"]).commands()

    asked = {"id": 1, "action": "subscribe", "experiment_id": "*", "from": "now", "exclude": ["a*"]}
    assert asked == command
    for given in ({"since": "2h", "last": 3}, {"start": "earliest", "last": 3}, {"start": "earliest", "since": "2h"}):
        with pytest.raises(ConfigurationError, match="one beginning"):
            wanted([], **{"start": "now", "since": "", "last": 0, "types": [], "exclude": [], **given})


def test_a_choice():
    """Of a run, of types, without others; the patterns are the gateway's."""
    kinds = ("loop_start", "loop_complete", "action_output")
    events = [{"type": kind, "subject": "tune", "runid": run} for kind in kinds for run in "ab"]
    choice = Choice(run="a", types=["loop_*", "action_*"], exclude=["*_start"])

    assert [("loop_complete", "a"), ("action_output", "a")] == [
        (event["type"], event["runid"]) for event in events if choice.wants(event)
    ]
    assert all(map(Choice().wants, events))


def test_a_pace():
    """Waits are the loop's own, divided and bounded; clocks that go back cost nothing, and no speed is at once."""
    seconds = (0, 4, 2, 3, 3600)
    events = [{"time": f"2026-11-20T{s // 3600:02}:00:{s % 60:02}.500Z"} for s in seconds]
    events.append({"recordedtime": "2026-11-20T01:00:02.500Z"})
    pace = Pace(2, 5)

    assert [0, 2, 0, 0.5, 5, 1] == [pace.wait(event) for event in events]
    assert [0, 0] == [Pace(0, 5).wait(event) for event in events[:2]]
    assert 0 == Pace(1, 5).wait({"time": None})


def test_a_row():
    """A run is where its innermost loop is; one that ended lasted, and does not go on."""
    at = "2026-11-20T12:00:{:02}Z".format
    loops = [{"loop": "outer", "state": "call", "iteration": 3}, {"loop": "inner", "state": "try", "iteration": 1}]
    run = {"experiment_id": "e", "run": "r", "status": "running", "started": at(0), "updated": at(30), "loops": loops}
    now = parse_moment(at(40))

    assert ("e", "r", "running", "outer > inner", "try", "1", "40s", "10s ago", "-") == row_of(run, now)
    assert "11,216" == row_of({**run, "missing": 11216}, now)[-1]
    ended = {**run, "status": "completed", "ended": at(20), "loops": [], "loop": "outer"}
    assert ("outer", "-", "-", "20s") == row_of(ended, now + 90_000)[3:7]
    assert "1d 1h ago" == row_of(ended, now + 90_000)[7]
    silent = row_of({**run, "silent": True, "pulse": at(35)}, now + 90_000)
    assert ("silent", "35s", "1d 1h ago") == (silent[2], *silent[6:8])
    assert len(COLUMNS) == len(row_of({"experiment_id": "e", "run": "r", "status": "running"}, now))
