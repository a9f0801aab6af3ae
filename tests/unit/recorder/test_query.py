"""`loopcast query` and `loopcast export` on a database that the recorder made."""

import csv
import json
import sqlite3
import subprocess
import sys
from functools import partial

import pyarrow.parquet
import pytest
from recorder_log import deliver, envelopes, lines

from loopcast.cli.export import run_export
from loopcast.cli.query import run_query
from loopcast.cli.questions import QUESTIONS, Scope, match
from loopcast.errors import ConfigurationError
from loopcast_recorder.database import SqliteDatabase
from loopcast_recorder.database_sink import DatabaseSink
from loopcast_recorder.retention import Retention

COMMAND = (sys.executable, "-c", "from loopcast.cli import main; main()")
EVENTS = [
    *envelopes(lines("demo-parent")),
    *envelopes(lines("demo-cycle"), experiment="other", emitter="b" * 16),
    *envelopes([{"event": "note", "text": 'say "hello": NEAR(x) OR größer*'}], experiment="other", emitter="c" * 16),
]


@pytest.fixture
def data(tmp_path):
    """A data folder as `loopcast up` has it, with three runs in two experiments."""
    sink = DatabaseSink("sqlite", partial(SqliteDatabase, tmp_path / "recorder.db"), Retention(), lambda: 0)
    sink.write(0, deliver(EVENTS))
    sink.close()
    return tmp_path


@pytest.fixture
def answer(data, capsys):
    """Asks, and gives the rows as objects."""

    def asked(question="", *, sql="", **scope):
        run_query(question, Scope(**scope), sql=sql, json=True, file=None, data=data)
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return asked


def test_runs_are_listed_newest_first(answer):
    """Each run with how it ended, and only those of an experiment or a status that were asked for."""
    runs = answer("runs")

    assert [None, "demo-cycle", "demo-parent"] == [run["loop"] for run in runs]
    assert ["failed"] == [run["status"] for run in answer("runs", text="failed")]
    assert ["demo-parent"] == [run["loop"] for run in answer("runs", experiment="exp")]
    assert 1 == len(answer("runs", limit=1))


def test_runs_say_how_many_events_never_came(answer, data):
    """Of each run; a database of a recorder that did not count them yet is asked all the same, and says nothing."""
    sink = DatabaseSink("sqlite", partial(SqliteDatabase, data / "recorder.db"), Retention(), lambda: 0)
    sink.write(0, deliver(envelopes([{"event": "note"}], first=44, run=EVENTS[0].run), offset=len(EVENTS)))
    sink.close()
    counted = answer("runs", experiment="exp")
    with sqlite3.connect(data / "recorder.db") as connection:
        connection.execute("ALTER TABLE runs DROP COLUMN missing")
    connection.close()
    older = answer("runs", experiment="exp")

    assert [(38, 6)] == [(run["events"], run["missing"]) for run in counted]
    assert [(38, None)] == [(run["events"], run["missing"]) for run in older]


def test_slow_states_come_first(answer):
    """States by the time that they took altogether, with how often they were visited."""
    states = answer("states", experiment="exp")

    assert "sub" == states[0]["state"]
    assert 3 == next(state["visits"] for state in states if state["state"] == "check")


def test_failures_are_runs_and_actions(answer):
    """What failed and why, newest first."""
    failures = answer("failures")

    assert ["run", "action", "action"] == [failure["what"] for failure in failures]
    assert failures[0]["why"].startswith("cycle_detected: Cycle detected")
    assert "exit code 1" == failures[1]["why"]


def test_tokens_are_summed_by_model(answer):
    """One row a model; a cost that nobody named stays unknown."""
    assert [
        {
            "model": "fake-model-1",
            "calls": 1,
            "input_tokens": 1234,
            "output_tokens": 56,
            "cache_read_tokens": 700,
            "cache_creation_tokens": 12,
            "cost_usd": None,
        }
    ] == answer("tokens")


@pytest.mark.parametrize("text", ["größer", "GROSS*", "NEAR(x)", 'say "hello"', "OR", "hello say"])
def test_any_words_can_be_searched_for(answer, text):
    """Words in any order, beginnings with `*`; what FTS5 takes for operators are words."""
    found = answer("search", text=text)

    assert [] == found if text == "GROSS*" else ["note"] == [row["type"] for row in found]


def test_beginnings_are_words_too():
    """A star behind a word is any ending, a star alone is nothing special."""
    assert '"gr"* "x" "*"' == match("gr* x *")


def test_a_statement_of_ones_own_reads_and_cannot_write(answer):
    """`--sql` answers what it is asked and refuses to change anything."""
    assert [{"n": len(EVENTS)}] == answer(sql="SELECT count(*) AS n FROM events")
    with pytest.raises(ConfigurationError, match="readonly"):
        answer(sql="DELETE FROM events")
    with pytest.raises(ConfigurationError, match="syntax error"):
        answer(sql="SELEC 1")


def test_what_cannot_be_asked_is_said(answer, tmp_path):
    """No question, a wrong one, no words, no database and somebody else's file each end in a sentence."""
    for arguments, sentence in (({}, "Ask one question"), ({"question": "why"}, "no question 'why'")):
        with pytest.raises(ConfigurationError, match=sentence):
            answer(**arguments)
    with pytest.raises(ConfigurationError, match="Say what to search for"):
        answer("search")
    with pytest.raises(ConfigurationError, match="There is no database"):
        run_query("runs", Scope(), sql="", json=True, file=tmp_path / "no.db", data=tmp_path)
    (tmp_path / "text").write_text("no database at all")
    with pytest.raises(ConfigurationError, match="not a database"):
        run_query("runs", Scope(), sql="", json=True, file=tmp_path / "text", data=tmp_path)


def test_tables_are_for_people(data):
    """The command prints a table with a head, a line a row, unfolded into a pipe."""
    done = subprocess.run([*COMMAND, "query", "runs", "--data", str(data)], capture_output=True, text=True)

    head, *rows = done.stdout.splitlines()
    assert (0, "") == (done.returncode, done.stderr)
    assert head.split()[:3] == ["started", "experiment", "run"]
    assert 3 == len(rows)


@pytest.mark.parametrize("question", [q for q in QUESTIONS if q != "search"])
def test_an_empty_database_answers(tmp_path, question, capsys):
    """Nothing recorded is nothing found, not an error."""
    sink = DatabaseSink("sqlite", partial(SqliteDatabase, tmp_path / "recorder.db"), Retention(), lambda: 0)
    sink.resume(0)
    sink.close()

    assert 0 == run_query(question, Scope(), sql="", json=False, file=None, data=tmp_path)
    assert "nothing found\n" in capsys.readouterr().out


def test_a_table_becomes_a_parquet_file(data):
    """Every row and column with its type, the events byte for byte."""
    target = data / "events.parquet"
    run_export("events", target, experiment=None, sql="", file=None, data=data)
    table = pyarrow.parquet.read_table(target)

    assert [event.encode().decode() for event in EVENTS] == table["event"].to_pylist()
    assert "int64" == str(table.schema.field("n").type)
    assert {p.name for p in data.iterdir()} >= {"events.parquet"}
    assert not [p for p in data.iterdir() if p.name.endswith(".part")]


def test_a_table_becomes_a_csv_file(data):
    """Texts with line breaks and quotes come back as they were; only the experiment's rows are there."""
    target = data / "actions.csv"
    run_export("actions", target, experiment="exp", sql="", file=None, data=data)
    with target.open(newline="") as file:
        rows = list(csv.DictReader(file))

    expected = [line["action"] for line in lines("demo-parent") if line["event"] == "action_start"]
    assert expected == [row["action"] for row in rows]


def test_an_answer_can_be_exported(data):
    """`--sql` writes what the statement gives, with nulls where there is nothing."""
    target = data / "own.parquet"
    sql = "SELECT loop, duration_ms, error, NULL AS none FROM runs ORDER BY loop"
    run_export("runs", target, experiment=None, sql=sql, file=None, data=data)

    rows = pyarrow.parquet.read_table(target).to_pylist()
    assert [None, "demo-cycle", "demo-parent"] == [row["loop"] for row in rows]
    assert {None} == {row["none"] for row in rows}


def test_what_cannot_be_exported_is_said(data):
    """A wrong ending, a wrong table and a folder that is not there each end in a sentence, and leave no file."""
    for table, target, sentence in (
        ("events", data / "x.txt", "must end in"),
        ("secrets", data / "x.csv", "no table"),
        ("events", data / "no" / "x.csv", "cannot be written"),
    ):
        with pytest.raises(ConfigurationError, match=sentence):
            run_export(table, target, experiment=None, sql="", file=None, data=data)
        assert not target.exists()
