"""The SDK's pure rules: settings, stamps, the buffer, and what an answer means."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopcast.errors import ConfigurationError, InvalidExperiment
from loopcast.events import normalize_time, parse, slice_data
from loopcast.sdk import processes
from loopcast.sdk.configuration import DEFAULT_BYTES, DEFAULT_URL, project_of, resolve, spool_folder
from loopcast.sdk.counters import EVERY_SECONDS, MOST_LOSSES, Complaints
from loopcast.sdk.stamping import Stamper
from loopcast.sdk.verdicts import CAP_SECONDS, LONGEST_SECONDS, Again, Delivered, Split, judge, pause

STREAMS = Path(__file__).parents[2] / "fixtures" / "streams"


def settle(url=None, *given, experiment="e", folder=Path("/work"), **environ):
    token, max_bytes, full = given or (None, None, None)
    return resolve(url, experiment, token, max_bytes, full, environ=environ, folder=folder)


def reached(found):
    """Where it sends to."""
    return (found.scheme, found.host, found.port, found.path)


def test_defaults():
    """Without any setting, events go to the producer on this machine."""
    found = settle()

    assert ("http", "127.0.0.1", 8700, "/v1/experiments/e/events") == reached(found)
    assert (None, DEFAULT_BYTES, "drop_oldest", None) == found[5:]


def test_arguments_come_before_variables():
    """What is passed counts, then the environment."""
    environ = {
        "LOOPCAST_URL": "https://events.example.com/base/",
        "LOOPCAST_EXPERIMENT": "team/exp 1",
        "LOOPCAST_TOKEN": "t0",
        "LOOPCAST_SPOOL_MAX_BYTES": "4096",
        "LOOPCAST_SPOOL_FULL": "drop_newest",
    }

    by_variable = settle(experiment=None, **environ)
    by_argument = settle("http://[::1]:99", "t1", 8192, "drop_oldest", experiment="a", **environ)

    assert ("https", "events.example.com", 443, "/base/v1/experiments/team%2Fexp%201/events") == reached(by_variable)
    assert "https://events.example.com:443/base" == by_variable.base
    assert ("team/exp 1", "t0", 4096, "drop_newest", None) == by_variable[4:]
    assert ("http", "::1", 99, "/v1/experiments/a/events") == reached(by_argument)
    assert ("a", "t1", 8192, "drop_oldest", None) == by_argument[4:]


@pytest.mark.parametrize(
    ("given", "environ", "folder"),
    [
        (None, {"HOME": "/home/me"}, "/home/me/.local/state/loopcast/spool"),
        (None, {"HOME": "/home/me", "XDG_STATE_HOME": "/var/x"}, "/var/x/loopcast/spool"),
        (None, {"HOME": "/home/me", "XDG_STATE_HOME": "relative"}, "/home/me/.local/state/loopcast/spool"),
        (None, {"HOME": "/home/me", "LOOPCAST_SPOOL_DIR": "/spool"}, "/spool"),
        ("/given", {"LOOPCAST_SPOOL_DIR": "/spool"}, "/given"),
        (None, {"HOME": "/home/me", "LOOPCAST_SPOOL_DIR": "off"}, None),
        (None, {}, None),
    ],
)
def test_where_events_wait(given, environ, folder):
    """The spool lies where it is said, else in the user's state folder; without either, events wait in memory."""
    assert (folder and Path(folder)) == spool_folder(given, environ)


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:8700",
        "ftp://x",
        "http://",
        "http://x:p",
        "http://x/?a=b",
        "http://x/#y",
        "http://x/a b",
        "http://[",
        "no",
    ],
)
def test_a_bad_url_is_refused_with_an_example(url):
    """A typing mistake is told at once, not found out by events that never arrive."""
    with pytest.raises(ConfigurationError, match=re.escape(DEFAULT_URL)):
        settle(url)


@pytest.mark.parametrize("url", ["http://me:s3cret@x:8700/base", "https://s3cret@x", "http://me:s3cret@[::1]"])
def test_a_login_in_the_url_is_refused(url):
    """The SDK shows a token and nothing else, so a login is not passed over; the refusal says what to do instead."""
    with pytest.raises(ConfigurationError, match=r"LOOPCAST_URL 'https?://…@.*LOOPCAST_TOKEN") as told:
        settle(url)

    assert "s3cret" not in str(told.value)


@pytest.mark.parametrize(
    "url",
    [
        "me:s3cret@x:8700",
        "ftp://me:s3cret@x",
        "http://me:s3/cret@x",
        "http://me:#s3cret@x",
        "http://x/?token=s3cret",
        "http://me:s3cret@x:port",
        "http://me:s3cret@[",
    ],
)
def test_no_refusal_shows_what_may_be_a_secret(url):
    """Whatever is wrong with an address, a login and a query in it are in no log."""
    with pytest.raises(ConfigurationError) as told:
        settle(url)

    assert ("s3" in str(told.value), "cret" in str(told.value)) == (False, False)


@pytest.mark.parametrize(
    ("environ", "words"),
    [({"LOOPCAST_SPOOL_MAX_BYTES": "64 MiB"}, "number of bytes"), ({"LOOPCAST_SPOOL_FULL": "block"}, "drop_newest")],
)
def test_bad_variables_are_refused_in_words(environ, words):
    """A bad value names its variable and what it may be."""
    with pytest.raises(ConfigurationError, match=words):
        settle(**environ)


def test_a_bad_experiment_is_refused():
    """An experiment id that breaks the grammar is the caller's mistake."""
    with pytest.raises(InvalidExperiment):
        settle(experiment="a\nb")


def test_a_configuration_hides_its_token():
    """The token is in no log, because it is in no text of the object."""
    assert "secret" not in repr(settle(LOOPCAST_TOKEN="secret"))


def test_the_project_names_the_experiment(tmp_path):
    """The nearest folder with a project's marks, else the folder itself; a root without a name is `default`."""
    inner = tmp_path / "my-loops" / "src" / "deep"
    inner.mkdir(parents=True)
    (tmp_path / "my-loops" / ".ll").mkdir()

    assert ("my-loops", "default") == (project_of(inner), project_of(Path("/")))
    assert "my-loops" == settle(experiment=None, folder=inner).experiment


@pytest.mark.parametrize("path", sorted(STREAMS.glob("*.jsonl")), ids=lambda path: path.stem)
def test_recorded_streams_are_stamped(path):
    """Every recorded event becomes an envelope that a producer accepts, its object unchanged, numbered by one."""
    stamper = Stamper("exp/42")
    numbers: dict[str, int] = {}

    for line in path.read_text().splitlines():
        record = stamper.stamp(json.loads(line))
        event = parse(record)
        assert json.loads(line) == json.loads(slice_data(record))
        assert ("exp/42", stamper.emitter, json.loads(line)["event"]) == (event.experiment, event.emitter, event.type)
        assert json.loads(line)["ts"][:26] + "Z" == event.time
        assert record == event.encode()
        numbers[event.run] = numbers.get(event.run, 0) + 1
        assert numbers[event.run] == event.number

    assert 0 == stamper.coerced


@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=()), max_size=5),
        st.none() | st.floats() | st.text(st.characters(exclude_categories=()), max_size=5) | st.binary(max_size=3),
        max_size=4,
    ),
    st.text(st.characters(exclude_categories=()), max_size=8) | st.integers() | st.none(),
)
def test_any_dict_is_stamped(event, name):
    """Whatever a dict holds, its envelope is one that a producer accepts."""
    record = Stamper("e").stamp({**event, "event": name, "ts": name, "loop": name})

    again = parse(record)
    assert b"\n" not in record
    assert ("e", 1) == (again.experiment, again.number)


@pytest.mark.parametrize(
    ("ts", "time"),
    [
        ("2026-11-20T17:38:28.606955+00:00", "2026-11-20T17:38:28.606955Z"),
        ("2026-11-20T17:38:28Z", "2026-11-20T17:38:28.000000Z"),
        ("2026-99-20T17:38:28.606955+00:00", None),
        ("not a time, and thirty-two+00:00", None),
        (None, None),
    ],
)
def test_times(ts, time):
    """The event's own time counts; where that is none, the moment of emission does."""
    found = parse(Stamper("e").stamp({"ts": ts})).time

    assert found == time if time else found.startswith("20")


@given(
    st.lists(st.text("0123456789x²+", min_size=4, max_size=8), min_size=1), st.sampled_from(["+00:00", "Z", "+01:00"])
)
def test_times_of_one_second_are_each_read(fractions, zone):
    """A time that looks like the one before is a time only where it is one by itself."""
    stamper = Stamper("e")
    stamper.stamp({"ts": "2026-11-20T17:38:28.606955+00:00"})
    for fraction in fractions:
        ts = f"2026-11-20T17:38:28.{fraction}{zone}"
        found, alone = (parse(s.stamp({"ts": ts})).time for s in (stamper, Stamper("e")))
        normal = normalize_time(ts)

        assert normal is None or [normal, normal] == [found, alone]
        assert (normal is None) == (not found.startswith("2026-11-20T1"))


def test_runs_and_resumes_are_told():
    """A run of its own is named; a resume that nobody knows is marked, so that a reader knows its start is missing."""
    named = parse(Stamper("e", "run 1", "run 0").stamp({"event": "x"}))
    resumed = Stamper("e").stamp({"event": "loop_resume", "loop": "l"})

    assert ("run 1", "run 0", "/experiments/e/runs/run%201") == (named.run, named.parent_run, named.source)
    assert b'"resumed":true' in resumed
    assert parse(resumed).subject == "l"


def test_the_table_of_runs_is_bounded(monkeypatch):
    """Ten thousand runs in one process do not grow it, and no number comes twice under one emitter."""
    monkeypatch.setattr("loopcast.sdk.stamping.MAX_RUNS", 3)
    stamper, seen = Stamper("e"), set()

    for n in range(20):
        event = parse(stamper.stamp({"event": "loop_start", "loop": f"l{n % 5}"}))
        assert (event.run, event.emitter, event.number) not in seen
        seen.add((event.run, event.emitter, event.number))
        assert len(stamper._numbers) <= 3


def test_another_process_numbers_under_another_name():
    """After a fork the child's numbers are its own, whatever the parent goes on counting."""
    stamper = Stamper("e", "r")
    first = parse(stamper.stamp({}))
    stamper.renew()
    second = parse(stamper.stamp({}))

    assert (1, 1) == (first.number, second.number)
    assert first.emitter != second.emitter


OURS = "urn:loopcast:problem:"
RECEIPT = {
    "accepted": 1,
    "duplicates": 0,
    "invalid": 1,
    "events": [{"status": "accepted"}, {"status": "invalid", "error": "big"}],
}


@pytest.mark.parametrize(
    ("status", "retry_after", "body", "verdict"),
    [
        (202, None, RECEIPT, Delivered(1, "big")),
        (202, None, {**RECEIPT, "invalid": 0, "events": []}, Delivered(0, "")),
        (400, None, {"type": OURS + "not-json", "detail": "not JSON"}, Split("400 not JSON")),
        (413, None, {"title": "too large"}, Split("413 too large")),
        (422, None, {"type": OURS + "invalid-event"}, Split("422")),
        (503, "7", {"detail": "blocked"}, Again(7.0, "503 blocked")),
        (503, None, {}, Again(0.0, "503")),
        (429, "Fri, 20 Nov 2026 17:00:00 GMT", {}, Again(1.0, "429")),
        (500, "99999", {}, Again(LONGEST_SECONDS, "500")),
        (408, None, {}, Again(0.0, "408")),
    ],
)
def test_verdicts(status, retry_after, body, verdict):
    """Each answer has one meaning."""
    assert verdict == judge(status, retry_after, json.dumps(body).encode())


@pytest.mark.parametrize("status", [200, 204, 301, 307, 400, 401, 403, 404, 405, 422])
def test_what_somebody_must_mend_is_kept_and_said(status):
    """A wrong address or token costs no event: slow tries, and a word that names the setting."""
    verdict = judge(status, None, b"<html>")

    assert isinstance(verdict, Again)
    assert verdict.wants_help
    assert ("LOOPCAST_TOKEN" if status in (401, 403) else "LOOPCAST_URL") in verdict.reason


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"invalid":"x"}', b'{"invalid":1,"events":[1]}', b"\xff"])
def test_a_202_of_a_stranger_is_no_receipt(body):
    """An answer that only looks right confirms nothing."""
    verdict = judge(202, None, body)

    assert isinstance(verdict, Again)
    assert verdict.wants_help


@given(st.integers(0, 10_000), st.floats(0, 300), st.floats(0, 1, exclude_max=True))
def test_pauses_are_bounded_and_never_too_short(tries, at_least, chance):
    """Never sooner than asked for, never much later than the ceiling."""
    assert at_least <= pause(tries, at_least, chance) <= at_least + CAP_SECONDS
    assert pause(0, 0, chance) <= 0.2


def test_one_line_a_minute():
    """The first trouble is told at once, the same a minute later at the soonest."""
    complaints = Complaints()

    assert [True, False, False, True] == [complaints.may_speak(t) for t in (5.0, 5.1, 4.9 + EVERY_SECONDS, 65.0)]


def test_losses_are_kept_until_they_are_said():
    """What was lost while no line may be written is in the next one, summed up; however many ways there are to lose."""
    complaints = Complaints()
    for n in (1, 2):
        complaints.note(n, "events were refused for good: too large")
    for n in range(50):
        complaints.note(1, f"events were refused for good: reason {n}")
    said = complaints.losses()

    assert "3 events were refused for good: too large." == said[0]
    assert (MOST_LOSSES + 1, 53) == (len(said), sum(int(sentence.split()[0]) for sentence in said))
    assert () == complaints.losses()


def test_the_end_has_one_budget(monkeypatch):
    """However many transports a program has, its end waits for all of them together as long as for one."""
    clock, given = [100.0], []

    class Member:
        def at_exit(self, seconds):
            given.append(seconds)
            clock[0] += 1.5

    monkeypatch.setattr(processes, "_members", {n: Member() for n in range(4)})
    monkeypatch.setattr(processes.time, "monotonic", lambda: clock[0])
    processes._at_exit()

    assert [processes.EXIT_SECONDS, processes.EXIT_SECONDS - 1.5, 0.0, 0.0] == given
