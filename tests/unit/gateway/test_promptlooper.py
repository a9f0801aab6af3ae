"""PromptLooper's protocol: its objects and its commands."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopcast.events import parse
from loopcast_gateway.entry import Entry
from loopcast_gateway.promptlooper import ALL, PromptLooper, flat, read
from loopcast_gateway.protocol import (
    ErrorName,
    Gap,
    PingFrame,
    PongFrame,
    Refused,
    Replay,
    Stats,
    Subscribe,
    Unsubscribe,
    Welcome,
)


def entry(data, **attributes):
    """An event of the log with this data, as JSON text."""
    head = {
        "specversion": "1.0",
        "id": "1",
        "source": "/x",
        "type": "score",
        "experimentid": "a",
        "runid": "r",
        "recordedtime": "2026-11-21T00:00:00.123456Z",
        "emitter": "0" * 16,
        "sequence": "00000000000000000042",
        **attributes,
    }
    text = json.dumps({k: v for k, v in head.items() if v is not None})[:-1] + f', "data": {data}}}'
    event = parse(text.encode())
    return Entry(
        partition=0,
        offset=7,
        id="1",
        experiment="a",
        type="score",
        recorded=event.recorded or 0,
        envelope=event.encode(),
    )


def test_the_object_and_three_marks():
    """The loop's own object comes byte for byte, with its time, number and place behind it."""
    one = entry('{"experiment_id": "a",  "score": 1.50}')

    text = flat(one).decode()

    assert text.startswith('{"experiment_id": "a",  "score": 1.50,"_ts":1795219200.123456,"_seq":42,"_pos":"')
    assert {"experiment_id": "a", "score": 1.5, "_ts": 1795219200.123456, "_seq": 42, "_pos": one.pos} == json.loads(
        text
    )


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("{}", {}),
        ("{ }", {}),
        ("[1, 2]", {"event": "score", "data": [1, 2]}),
        ('"text"', {"event": "score", "data": "text"}),
        ("null", {"event": "score", "data": None}),
        ('{"_ts": 1, "a": {"_pos": 2}}', {"a": {"_pos": 2}}),
        ('{"a": "\\"_ts\\""}', {"a": '"_ts"'}),
    ],
)
def test_any_data_becomes_an_object(data, expected):
    """Empty objects, what is no object, and objects that have such members themselves come out as one object."""
    one = entry(data)
    found = json.loads(
        flat(one), object_pairs_hook=lambda pairs: dict(pairs) if len({k for k, _ in pairs}) == len(pairs) else 1 / 0
    )

    assert {**expected, "_ts": 1795219200.123456, "_seq": 42, "_pos": one.pos} == found


def test_an_event_that_nobody_numbered():
    """Without a sequence there is no _seq."""
    assert "_seq" not in json.loads(flat(entry('{"sequence":"7"}', sequence=None, emitter=None)))


@given(
    st.dictionaries(
        st.text(max_size=5), st.text(max_size=5) | st.integers() | st.lists(st.none(), max_size=2), max_size=5
    )
)
def test_whatever_the_object_it_is_kept(data):
    """Every member of the loop's object is there as it was."""
    found = json.loads(flat(entry(json.dumps(data))))

    assert {k: v for k, v in data.items() if k not in ("_ts", "_seq", "_pos")} == {
        k: v for k, v in found.items() if k not in ("_ts", "_seq", "_pos")
    }


def test_nothing_is_said_that_was_not_asked_for():
    """Only an answer with an id is a frame for such a client; a ping is one of the wire."""
    dialect = PromptLooper()

    assert dialect.frame(Welcome(session="s", server_time=1.0, ping_ms=1, limits={})) is None
    assert dialect.frame(Gap(experiment_id="a", reason="truncated")) is None
    assert dialect.frame(PongFrame()) is None
    assert b'{"type":"pong","id":0}' == dialect.frame(PongFrame(id=0))[2:]
    assert b"\x89\x00" == dialect.frame(PingFrame(pos=[]))


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ('{"action":"subscribe","experiment_id":"a","client":"x"}', Subscribe(experiment_id="a")),
        ('{"action":"subscribe"}', Subscribe(experiment_id="*")),
        ('{"action":"unsubscribe","experiment_id":7,"id":1}', Unsubscribe(experiment_id="7", id=1)),
        ('{"action":"replay","experiment_id":"a"}', Replay(experiment_id="a", limit=ALL, order="oldest")),
        (
            '{"action":"replay","experiment_id":null,"since_ts":5.5,"limit":0}',
            Replay(experiment_id="*", since_ts=5.5, limit=0, order="newest"),
        ),
        ('{"action":"replay","limit":99999,"since_ts":null}', Replay(experiment_id="*", limit=10_000, order="newest")),
        ('{"action":"stats","id":3}', Stats(id=3)),
    ],
)
def test_commands_as_its_clients_send_them(text, command):
    """Ids may be numbers, members may be missing or null, and members that nobody knows are no fault."""
    assert command == read(text.encode())


@pytest.mark.parametrize(
    ("text", "id_"),
    [
        ("noise", None),
        ("[1,2]", None),
        ('{"action":"dance","id":4}', 4),
        ('{"action":"replay","limit":-1,"id":4}', 4),
        ('{"action":"replay","since_ts":"yesterday","id":"k"}', "k"),
        ('{"action":"subscribe","experiment_id":"","id":4}', 4),
        ('{"action":"subscribe","experiment_id":["a"],"id":4}', 4),
    ],
)
def test_what_is_no_command_is_refused(text, id_):
    """A fault is found before anything is done, and goes back under the id of the command."""
    with pytest.raises(Refused) as refused:
        read(text.encode())

    assert id_ == refused.value.id
    assert refused.value.name in (ErrorName.BAD_REQUEST, ErrorName.METHOD_NOT_FOUND)
