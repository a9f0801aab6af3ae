"""What the command line says of the mistakes that people make: a sentence that says what to do, never a traceback."""

import io
import json

import pytest
from answering import Answering

from loopcast.cli import main
from loopcast.cli.commands import make_app
from loopcast.errors import ConfigurationError

VARIABLES = ("LOOPCAST_URL", "LOOPCAST_GATEWAY_URL", "LOOPCAST_AMQP_URL", "LOOPCAST_TOKEN", "LOOPCAST_EXPERIMENT")
NOT_FOUND = b'{"title": "Not Found", "detail": "Not Found: see /v1/openapi.json."}'


@pytest.fixture(autouse=True)
def _nowhere(monkeypatch, tmp_path):
    """Nothing is named, and no `loopcast up` runs in this folder."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOOPCAST_SPOOL_DIR", str(tmp_path / "spool"))


def run(*words):
    """The exit code of a command; a mistake is raised as :func:`loopcast.cli.main` prints it."""
    with pytest.raises(SystemExit) as ended:
        make_app()(list(words), standalone_mode=False)
    return ended.value.code


@pytest.mark.parametrize("command", [("tail",), ("runs",), ("replay", "e"), ("send", "e", "note")])
@pytest.mark.parametrize(
    "url", ["127.0.0.1:8701", "8701", "ws://127.0.0.1:8701/ws", "http://", "http://h:x", "http://["]
)
def test_an_address_that_is_none(command, url):
    """Every command that takes an address shows how one is written."""
    with pytest.raises(ConfigurationError, match=r"is no address of a service: write it as http://127.0.0.1:870[01]\."):
        run(*command, "--url", url)


@pytest.mark.parametrize(
    "command",
    [("tail",), ("runs",), ("replay", "e"), ("send", "e", "note"), ("relay", "jsonl", "f", "--once")],
)
@pytest.mark.parametrize("variable", [False, True])
def test_a_login_in_an_address(command, variable, monkeypatch, tmp_path):
    """An address with a login is refused: it would be sent to nobody, or instead of the token; it is not shown."""
    (tmp_path / "f").write_text("{}\n")
    login = "http://me:s3cret@127.0.0.1:8700"
    for name in ("LOOPCAST_URL", "LOOPCAST_GATEWAY_URL") if variable else ():
        monkeypatch.setenv(name, login)

    with pytest.raises(ConfigurationError, match=r"http://…@127.0.0.1:8700.*put a token into LOOPCAST_TOKEN") as told:
        run(*command, *(() if variable else ("--url", login)))

    assert "s3cret" not in str(told.value)


@pytest.mark.parametrize(
    ("command", "variable"),
    [(("tail",), "LOOPCAST_GATEWAY_URL"), (("runs",), "LOOPCAST_GATEWAY_URL"), (("send", "e", "note"), "LOOPCAST_URL")],
)
def test_nothing_runs_here(command, variable):
    """Where no `loopcast up` is found, the other way to say where the service is stands in the sentence."""
    with pytest.raises(ConfigurationError, match=rf"No `loopcast up` runs .*--data, or say with {variable}"):
        run(*command)


@pytest.mark.parametrize(("status", "body"), [(404, NOT_FOUND), (405, NOT_FOUND), (200, b"<html>"), (202, b"[]")])
def test_sending_to_a_stranger(status, body):
    """Who answers there is no producer, whatever it answers."""
    with Answering(status, body) as stranger, pytest.raises(ConfigurationError, match=r"is no producer .*LOOPCAST_URL"):
        run("send", "e", "note", "--url", stranger.url)


def test_a_line_that_is_no_event_is_named_by_its_number(monkeypatch, capsys):
    """Of many lines, the one to be mended is said; empty ones count."""
    monkeypatch.setattr("sys.stdin", io.StringIO('{"event": "a"}\n\nnonsense\n'))
    events = [{"status": "accepted", "id": "x"}, {"status": "invalid", "error": "The event is not JSON."}]
    answer = {"accepted": 1, "duplicates": 0, "invalid": 1, "events": events}
    with Answering(202, json.dumps(answer).encode()) as producer:
        code = run("send", "e", "--url", producer.url)

    out, err = capsys.readouterr()
    assert (1, "1 accepted, 1 invalid\n", "line 3: The event is not JSON.\n") == (code, out, err)


def test_an_open_run_is_found_behind_many_that_ended(capsys):
    """What goes on is asked for alone, however many ended since; --json prints objects and nothing else."""
    runs = [{"experiment_id": "e", "run": "open", "status": "running"}]
    with Answering(200, json.dumps({"runs": runs, "complete": False}).encode()) as gateway:
        code = run("runs", "--json", "-n", "1", "--url", gateway.url)
        asked = gateway.asked

    out, err = capsys.readouterr()
    assert (0, ["open"]) == (code, [json.loads(line)["run"] for line in out.splitlines()])
    assert "There may be more" in err
    assert ["/v1/experiments/%2A/runs?limit=1&open=true"] == asked


def test_a_replay_of_nothing_says_so(capsys):
    """An experiment that was mistyped is not a silent success."""
    with Answering(200, b'{"events": [], "complete": true, "next": null}') as gateway:
        code = run("replay", "typo", "--run", "r1", "--url", gateway.url)

    out, err = capsys.readouterr()
    assert (0, "") == (code, out)
    assert "nothing such of run r1 of typo" in err


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (("jsonl", "missing.jsonl", "--once"), "missing.jsonl is not there"),
        (("jsonl", "missing/a.jsonl"), "The folder of missing/a.jsonl is not there"),
        (("little-loops", "missing"), "missing is no folder"),
    ],
)
def test_a_relay_of_what_is_not_there(command, sentence):
    """A path that was mistyped is not relayed as nothing, with exit code 0."""
    with pytest.raises(ConfigurationError, match=sentence):
        run("relay", *command)


@pytest.mark.parametrize(
    ("command", "status"), [(("runs",), 401), (("replay", "e"), 403), (("send", "e", "note"), 401), (("tail",), 401)]
)
def test_a_token_that_is_missing_or_wrong(command, status):
    """The service's words are for programs; a person is told of the variable."""
    body = b'{"title": "Unauthorized", "detail": "A token is needed."}'
    sentence = r"refused: A token is needed\. LOOPCAST_TOKEN .*`loopcast token`"
    with Answering(status, body) as service, pytest.raises(ConfigurationError, match=sentence):
        run(*command, "--url", service.url)


def test_a_gateway_that_is_still_reading_is_said(capsys):
    """Then a higher limit shows nothing more."""
    with Answering(200, b'{"runs": [], "complete": false}') as gateway:
        run("runs", "--url", gateway.url)

    assert "has not read the whole log yet" in capsys.readouterr().err


@pytest.mark.parametrize("path", ["S3", "L/X9", "L/S3/", "L3", "l/s3"])
def test_a_span_that_no_trace_has(path):
    """An agent's spans would hang below nothing, and nobody would know why."""
    with pytest.raises(ConfigurationError, match=r"write L, L/S3 or L/S3/A1"):
        make_app()(["otel", "trace-id", "e", "r", "--span", path], standalone_mode=False)


def test_a_file_that_cannot_be_written(monkeypatch, capsys):
    """The system's words name the file; no traceback."""
    monkeypatch.setattr("sys.argv", ["loopcast", "api-key", "ci", "--publish", "e", "--file", "missing/keys.toml"])
    with pytest.raises(SystemExit) as ended:
        main()

    assert 2 == ended.value.code
    assert "missing/keys.toml" in capsys.readouterr().err
