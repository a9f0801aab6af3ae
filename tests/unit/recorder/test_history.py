"""The gateway's history routes, answered from the database."""

import time
from functools import partial
from urllib.parse import quote

import httpx
import pytest
from recorder_log import deliver, envelopes, lines, recorded_seconds

from loopcast.auth import Authenticator
from loopcast.auth.tokens import make_token
from loopcast.broker.interface import Delivery
from loopcast.metrics import Metrics
from loopcast.origins import Origins
from loopcast.position import Position
from loopcast.settings import RecorderSettings
from loopcast.topology import APP_ID, HEARTBEAT
from loopcast_recorder import history
from loopcast_recorder.api import make_app
from loopcast_recorder.database import SqliteDatabase, SqliteReader
from loopcast_recorder.database_sink import DatabaseSink
from loopcast_recorder.history import History
from loopcast_recorder.retention import Retention

NAME = "a/b ü"
EVENTS = envelopes(lines("demo-parent"), experiment=NAME)
OTHERS = envelopes(lines("demo-cycle"), experiment="other", emitter="b" * 16)
BEAT = Delivery(tag=0, routing_key="", body=b"{}", message_id="beat-1", type=HEARTBEAT, app_id=APP_ID, offset=100)


@pytest.fixture
def sink(tmp_path):
    """A sink with two experiments and a heartbeat behind them."""
    made = DatabaseSink("sqlite", partial(SqliteDatabase, tmp_path / "r.db"), Retention(), lambda: 0)
    made.write(0, [*deliver([*EVENTS, *OTHERS]), BEAT])
    yield made
    made.close()


SECRET = "recorder-secret-of-more-than-32-bytes"


def asking(tmp_path, **settings):
    """Asks the application that these settings make."""
    authenticator = Authenticator(RecorderSettings(**settings), Metrics("recorder", "0"))
    app = make_app(
        History(partial(SqliteReader, tmp_path / "r.db")), Origins((), loopback=True), authenticator, partitions=1
    )

    async def answer(path, *, host="127.0.0.1:8704", token=None, **parameters):
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=f"http://{host}") as client:
            return await client.get(path, params=parameters, headers=headers)

    return answer


@pytest.fixture
def get(tmp_path):
    """Asks the application, which asks nobody."""
    return asking(tmp_path)


async def test_who_may_not_see_is_shown_nothing(sink, tmp_path):
    """With a secret, each route wants a token, and shows what it permits."""
    ask = asking(tmp_path, jwt_secret=SECRET)
    mine = make_token(SECRET, subscribe=(NAME,), now=time.time(), ttl=60)
    others = make_token(SECRET, subscribe=("none-*",), now=time.time(), ttl=60)

    for path in ("/v1/experiments", "/v1/stats", f"{PATH}/events", f"{PATH}/runs"):
        assert 401 == (await ask(path)).status_code
        assert 200 == (await ask(path, token=mine)).status_code
    assert [NAME] == [e["experiment_id"] for e in (await ask("/v1/experiments", token=mine)).json()["experiments"]]
    assert [] == (await ask("/v1/experiments", token=others)).json()["experiments"]
    assert 403 == (await ask(f"{PATH}/events", token=others)).status_code


PATH = f"/v1/experiments/{quote(NAME, safe='')}"


async def pages(get, **parameters):
    """Every event, page after page."""
    found, place = [], {}
    while True:
        page = (await get(f"{PATH}/events", **parameters, **place)).json()
        found += page["events"]
        if page["complete"]:
            return found
        place = {"before" if parameters.get("order") == "newest" else "after": page["next"]}


@pytest.mark.parametrize("limit", [1, 10, 37, 1000])
async def test_pages_together_are_the_whole_history(sink, get, limit):
    """Oldest or newest first, whatever a page's size: each event once, byte for byte, and no other experiment's."""
    oldest, newest = await pages(get, limit=limit), await pages(get, limit=limit, order="newest")

    assert [event.id for event in EVENTS] == [one["event"]["id"] for one in oldest]
    assert oldest == newest[::-1]
    raw = (await get(f"{PATH}/events", limit=1)).content
    assert b'"event":' + EVENTS[0].encode() + b"}]" in raw


async def test_positions_are_the_gateways(sink, get):
    """A position names the message, so that one of either can be given to the other."""
    (first, *_) = (await get(f"{PATH}/events", limit=1)).json()["events"]

    assert str(Position.of(0, 0, EVENTS[0].id)) == first["pos"]


async def test_a_heartbeats_position_is_a_place_too(sink, get):
    """What a quiet experiment's viewer has is the position of a heartbeat; nothing came behind it."""
    pos = str(Position.of(0, 100, "beat-1"))
    page = (await get(f"{PATH}/events", after=pos)).json()

    assert {"events": [], "next": pos, "complete": True} == page


async def test_since_is_the_time_of_recording(sink, get):
    """Only events that were recorded later."""
    since = recorded_seconds(EVENTS[10])

    found = (await get(f"{PATH}/events", since_ts=f"{since:.6f}", limit=1000)).json()["events"]

    assert [event.id for event in EVENTS[11:]] == [one["event"]["id"] for one in found]


async def test_bounds_in_time_go_with_a_position(sink, get):
    """A page between two times is gone on from where it ended, as at the gateway; what is at the end of them is in."""
    times = {"since_ts": f"{recorded_seconds(EVENTS[10]):.6f}", "until_ts": f"{recorded_seconds(EVENTS[20]):.6f}"}

    first = (await get(f"{PATH}/events", limit=4, **times)).json()
    rest = (await get(f"{PATH}/events", after=first["next"], limit=1000, **times)).json()

    assert (False, True) == (first["complete"], rest["complete"])
    assert [e.id for e in EVENTS[11:21]] == [one["event"]["id"] for one in first["events"] + rest["events"]]


async def test_a_position_of_another_log_is_gone(sink, get):
    """A position that nothing proves is 410, not an answer that looks whole."""
    answer = await get(f"{PATH}/events", after=str(Position.of(0, 5, "somebody else")))

    assert 410 == answer.status_code
    assert "application/problem+json" == answer.headers["content-type"]


async def test_positions_before_a_new_log_are_still_known(sink, get):
    """When the log was made anew, a position of the old one goes on in the new."""
    old = str(Position.of(0, len(EVENTS) - 1, EVENTS[-1].id))
    sink.gap(0, "epoch_changed", anew=True)
    anew = envelopes(lines("demo-handoff"), experiment=NAME, emitter="d" * 16)
    sink.write(0, deliver(anew))

    page = (await get(f"{PATH}/events", after=old)).json()

    assert [event.id for event in anew] == [one["event"]["id"] for one in page["events"]]


async def test_experiments_and_runs(sink, get):
    """What was recorded, the latest first, and each run with its outcome."""
    experiments = (await get("/v1/experiments")).json()
    runs = (await get(f"{PATH}/runs")).json()["runs"]

    assert ["other", NAME] == [one["experiment_id"] for one in experiments["experiments"]]
    assert [len(OTHERS), len(EVENTS)] == [one["events"] for one in experiments["experiments"]]
    assert str(Position.of(0, 0, EVENTS[0].id)) == experiments["experiments"][1]["first"]["pos"]
    assert [("demo-parent", "completed", 1234)] == [(r["loop"], r["status"], r["input_tokens"]) for r in runs]


async def test_all_runs_and_as_many_as_are_wanted(sink, get, tmp_path):
    """`*` is all experiments that may be seen; what a limit leaves out is said."""
    whole = (await get("/v1/experiments/*/runs")).json()
    [newest] = (one := (await get("/v1/experiments/*/runs", limit=1)).json())["runs"]
    ask = asking(tmp_path, jwt_secret=SECRET)
    mine = make_token(SECRET, subscribe=(NAME,), now=time.time(), ttl=60)
    seen = (await ask("/v1/experiments/*/runs", token=mine)).json()["runs"]

    assert (["other", NAME], True) == ([run["experiment_id"] for run in whole["runs"]], whole["complete"])
    assert (whole["runs"][0], False) == (newest, one["complete"])
    assert [NAME] == [run["experiment_id"] for run in seen]


async def test_runs_that_go_on_or_wait_to_and_no_others(sink, get):
    """What ended takes no place of a list of open runs, however lately."""
    begun = envelopes(lines("demo-parent"), experiment="mine", run="open", emitter="c" * 16)[:3]
    sink.write(0, deliver(begun, offset=1000))
    sink.write(0, deliver(envelopes(lines("demo-cycle"), experiment="mine", run="r", emitter="d" * 16), offset=2000))
    everything = (await get("/v1/experiments/*/runs")).json()["runs"]
    going = (await get("/v1/experiments/*/runs", open="true", limit=1)).json()
    mine = (await get("/v1/experiments/mine/runs", open="true")).json()["runs"]
    none = (await get(f"{PATH}/runs", open="true")).json()

    assert (4, "open") == (len(everything), everything[1]["run"])
    assert ([everything[1]], True) == (going["runs"], going["complete"])
    assert ["open"] == [run["run"] for run in mine]
    assert ([], True) == (none["runs"], none["complete"])


@pytest.mark.parametrize(
    ("path", "query", "sentence"),
    [
        ("/v1/experiments/*/events", {}, "Name an experiment"),
        ("/v1/experiments/e/runs", {"limit": "0"}, "limit must be a number from 1 to 1000"),
        ("/v1/experiments/e/runs", {"status": "failed"}, "status"),
        ("/v1/experiments/e/runs", {"open": "1"}, "open must be true"),
    ],
)
async def test_what_cannot_be_answered_is_not_answered_with_nothing(sink, get, path, query, sentence):
    """An empty page would look as if nothing had been recorded."""
    answer = await get(path, **query)

    assert 422 == answer.status_code
    assert sentence in answer.json()["detail"]


async def test_a_list_of_experiments_that_is_cut_says_so(sink, get, monkeypatch):
    """More than one answer holds are not all."""
    monkeypatch.setattr(history, "MAX_EXPERIMENTS", 1)
    cut = (await get("/v1/experiments")).json()

    assert (["other"], False) == ([one["experiment_id"] for one in cut["experiments"]], cut["complete"])


async def test_stats_say_how_much_there_is_and_how_far_it_goes(sink, get):
    """Experiments, events, runs by status, positions as the history gives them, and how this process's sinks are."""
    sink.gap(0, "truncated", anew=False)
    stats = (await get("/v1/stats")).json()

    assert (2, len(EVENTS) + len(OTHERS), 1) == (stats["experiments"], stats["events"], stats["gaps"])
    assert sum(stats["runs"].values()) == 2
    assert [(0, 0, BEAT.offset)] == [
        (one["partition"], one["epoch"], Position.parse(one["pos"]).offset) for one in stats["partitions"]
    ]
    assert stats["first"] <= stats["last"]
    assert stats["bytes"] > 10_000
    assert [] == stats["sinks"]


@pytest.mark.parametrize(
    ("path", "parameters", "status"),
    [
        (f"{PATH}/events", {"after": "x"}, 422),
        (f"{PATH}/events", {"limit": "0"}, 422),
        (f"{PATH}/events", {"order": "up"}, 422),
        (f"{PATH}/events", {"since_ts": "nan"}, 422),
        (f"{PATH}/events", {"until_ts": "-1"}, 422),
        (f"{PATH}/events", {"after": "x", "before": "x"}, 422),
        (f"{PATH}/events", {"colour": "red"}, 422),
        ("/v1/experiments/%FF/events", {}, 422),
        ("/v1/experiments/a%00b/runs", {}, 422),
        ("/v2", {}, 404),
    ],
)
async def test_what_cannot_be_answered_is_said(sink, get, path, parameters, status):
    """A wrong request gets problem details with a sentence."""
    answer = await get(path, **parameters)

    assert status == answer.status_code
    assert answer.json()["detail"]


async def test_a_page_of_another_name_is_turned_away(sink, get):
    """On loopback, a name that a page made point here is not served (DNS rebinding)."""
    assert 403 == (await get("/v1/experiments", host="evil.example")).status_code


async def test_no_database_yet_is_try_again(get):
    """Before the recorder wrote anything the answer is 503, with when to ask again."""
    answer = await get("/v1/experiments")

    assert (503, "2") == (answer.status_code, answer.headers["retry-after"])


async def test_reading_does_not_wait_for_writing(sink, get):
    """An answer comes while a transaction is open."""
    with sink._database.transaction():
        assert 200 == (await get("/v1/experiments")).status_code
