"""Handshakes, queries and the catalogue: what is let in and what is listed."""

import pytest

from loopcast.history_query import BadQuery, Query, read_query
from loopcast.origins import Origins
from loopcast.position import Position
from loopcast_gateway.admission import Admitted, Capacity, Refusal, admit
from loopcast_gateway.catalog import Catalog
from loopcast_gateway.entry import Entry
from loopcast_gateway.query import read_stream_query

ROOM = Capacity(0, 10, draining=False)
HOME = {"host": "127.0.0.1:8701"}


def judge(target="/ws", headers=HOME, offered=("loopcast.v1.json",), *, allowed=(), loopback=True, capacity=ROOM):
    return admit(target, headers, offered, origins=Origins(allowed, loopback=loopback), capacity=capacity)


@pytest.mark.parametrize(
    ("target", "experiment"),
    [
        ("/ws", None),
        ("/ws?x=1", None),
        ("/ws/experiments/exp-1", "exp-1"),
        ("/ws/experiments/a%2Fb%20%C3%9F", "a/b ß"),
        ("/ws/experiments/%2A", "*"),
    ],
)
def test_the_path_is_the_experiment(target, experiment):
    """An id in a path is percent-encoded whole, its slashes too."""
    assert Admitted(() if experiment is None else (experiment,)) == judge(target)


@pytest.mark.parametrize(
    ("target", "offered", "experiments"),
    [
        ("/ws", (), ("*",)),
        ("/ws", ("",), ("*",)),
        ("/ws?experiment_id=a&experiment_id=b&experiment_id=a", (), ("a", "b")),
        ("/ws?experiment_id=loops%2F%C3%9F", (), ("loops/ß",)),
        ("/ws/experiments/a?experiment_id=b", (), ("a", "b")),
        ("/ws", ("x", "loopcast.v1.ndjson"), ()),
        ("/ws?experiment_id=a", ("loopcast.v1.json",), ("a",)),
    ],
)
def test_who_offers_no_protocol_sees_everything(target, offered, experiments):
    """A client of PromptLooper's sees everything unless its address names experiments; others what they ask for."""
    assert Admitted(experiments) == judge(target, offered=offered)


@pytest.mark.parametrize(
    ("changed", "reason", "status"),
    [
        ({"target": "/"}, "path", 404),
        ({"target": "/ws/"}, "path", 404),
        ({"target": "/ws/experiments/~"}, "experiment", 400),
        ({"offered": ("graphql-ws",)}, "subprotocol", 400),
        ({"target": "/ws?experiment_id="}, "experiment", 400),
        ({"target": "/ws?experiment_id=a&experiment_id=~"}, "experiment", 400),
        ({"target": "/ws?experiment_id=%FF"}, "experiment", 400),
        ({"target": "/ws?a&a&a" + "&a" * 1000}, "experiment", 400),
        ({"target": "/ws?" + "&".join(f"experiment_id={n}" for n in range(129))}, "experiment", 400),
        ({"capacity": Capacity(10, 10, draining=False)}, "limit", 503),
        ({"capacity": Capacity(0, 10, draining=True)}, "draining", 503),
        ({"headers": {}}, "host", 403),
        ({"headers": {"host": "evil.example"}}, "host", 403),
        ({"headers": {**HOME, "origin": "http://evil.example"}}, "origin", 403),
    ],
)
def test_a_refusal_has_its_status_and_reason(changed, reason, status):
    """Each way to be refused has its status, its label for the metric and a sentence."""
    refusal = judge(**changed)

    assert isinstance(refusal, Refusal)
    assert (reason, status) == (refusal.reason, refusal.status)
    assert refusal.detail.endswith(".")


@pytest.mark.parametrize(
    ("origin", "host", "loopback", "allowed", "let_in"),
    [
        (None, "localhost:1", True, (), True),
        ("http://localhost:3000", "127.0.0.1:8701", True, (), True),
        ("http://[::1]:5", "[::1]:8701", True, (), True),
        ("http://127.9.9.9", "localhost", True, (), True),
        ("https://evil.example", "localhost", True, (), False),
        ("http://localhost.evil.example", "localhost", True, (), False),
        ("null", "localhost", True, (), False),
        ("", "localhost", True, (), False),
        ("http://[", "localhost", True, (), False),
        ("http://x:99999", "localhost", True, (), False),
        ("https://dash.example", "localhost", True, ("https://Dash.example/",), True),
        ("https://loops.example", "loops.example", False, (), True),
        ("https://loops.example", "loops.example:443", False, (), True),
        ("https://loops.example:8443", "loops.example", False, (), False),
        ("http://localhost:3000", "loops.example", False, (), False),
        ("https://LOOPS.example", "loops.EXAMPLE", False, (), True),
        ("https://other.example", "loops.example", False, ("https://other.example",), True),
    ],
)
def test_pages_that_may_connect(origin, host, loopback, allowed, let_in):
    """The same origin may, on loopback any loopback one, and those that the settings name; nobody else."""
    headers = {"host": host} | ({} if origin is None else {"origin": origin})

    assert let_in == isinstance(judge(headers=headers, loopback=loopback, allowed=allowed), Admitted)


@pytest.mark.parametrize(
    ("host", "loopback", "let_in"),
    [
        ("localhost", True, True),
        ("127.0.0.1:8701", True, True),
        ("[::1]:8701", True, True),
        ("dash.example", True, True),
        ("evil.example", True, False),
        ("127.0.0.1.evil.example", True, False),
        ("[::1", True, False),
        (None, True, False),
        ("anything", False, True),
    ],
)
def test_names_of_this_service(host, loopback, let_in):
    """On loopback a service answers to loopback names and those of its allowed origins, elsewhere to any."""
    assert let_in == Origins(["https://dash.example"], loopback=loopback).allows_host(host)


def test_a_query_is_read():
    """Parameters become what they mean; with `before`, the newest come first."""
    pos = Position.of(2, 7, "x")

    assert Query() == read_query({}, range(2, 3))
    assert Query(after={2: pos}, limit=7) == read_query({"after": str(pos), "limit": "7"}, range(2, 3))
    assert Query(before={2: pos}, order="newest") == read_query({"before": str(pos)}, range(2, 3))
    assert Query(before={2: pos}, order="oldest") == read_query({"before": str(pos), "order": "oldest"}, range(2, 3))
    assert Query(since=1.5) == read_query({"since_ts": "1.5"}, range(2, 3))


def test_places_of_several_partitions_are_one_parameter():
    """On `*` a position of each partition, or of some, is given as the gateway gave it; no partition twice."""
    one, two = Position.of(0, 7, "x"), Position.of(2, 9, "y")
    query = read_query({"after": f"{one},{two}", "since_ts": "1.5"}, range(3))

    assert ({0: one, 2: two}, 1.5) == (query.after, query.since)
    assert {0: one, 2: two} == read_stream_query({}, f"{one},{two}", range(3)).after
    for wrong in (f"{one},{one}", f"{one},", f"{one},{two}x"):
        with pytest.raises(BadQuery, match="after"):
            read_query({"after": wrong}, range(3))


@pytest.mark.parametrize("text", ["inf", "-1", "1e300", "", "x"])
def test_a_time_that_is_none_is_refused(text):
    """since_ts is Unix seconds."""
    with pytest.raises(BadQuery, match="since_ts"):
        read_query({"since_ts": text}, range(1))


def test_a_position_of_elsewhere_is_refused():
    """A position of another partition says nothing about this experiment."""
    with pytest.raises(BadQuery, match="another experiment"):
        read_query({"after": str(Position.of(1, 7, "x"))}, range(1))


def entry(experiment, offset):
    type_ = f"t{offset}"
    return Entry(
        partition=0, offset=offset, id=str(offset), experiment=experiment, type=type_, recorded=offset, envelope=b""
    )


def test_the_catalogue_lists_the_latest_first_and_forgets_the_silent():
    """Experiments come by their last event; beyond the limit the one that was silent longest is left out."""
    catalog = Catalog(limit=2)
    for offset, experiment in enumerate("abcb"):
        catalog.add(entry(experiment, offset))
    listed = catalog.listing(0)

    assert [("b", 2), ("c", 1)] == [(one.experiment_id, one.events) for one in listed]
    assert ("t1", "t3") == (listed[0].first.type, listed[0].last.type)
    assert (1, 2) == (catalog.forgotten, len(catalog))
