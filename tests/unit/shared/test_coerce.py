"""Any dict is an event."""

import dataclasses
import datetime as dt
import decimal
import enum
import json
import math
import pathlib
import timeit
import uuid
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopcast import coerce
from loopcast.coerce import MAX_DEPTH, encode
from loopcast.events import Event, parse


class Text(str):
    """A text of somebody's own."""

    __slots__ = ()


class Number(int):
    """A number of somebody's own."""


class Real(float):
    """A float of somebody's own."""


class Colour(enum.Enum):
    """An enumeration."""

    RED = "red"


class Array:
    """What NumPy's arrays and values look like from here."""

    def tolist(self) -> list[float]:
        """Plain values."""
        return [1.0, math.nan]


class Bad:
    """An object of which nothing can be learnt."""

    def __repr__(self) -> str:
        raise RuntimeError


class Odd:
    """An object that promises plain values and has none."""

    def __repr__(self) -> str:
        return "Odd()"

    def tolist(self) -> object:
        """Fails."""
        raise RuntimeError


class Worse:
    """An object that does not even say what it is."""

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        raise RuntimeError


class BadMapping(dict[str, object]):
    """A dict that cannot be read."""

    def items(self) -> Any:
        """Fails."""
        raise RuntimeError


@dataclasses.dataclass
class Point:
    """A dataclass."""

    x: float
    y: object


class Struct(msgspec.Struct):
    """A msgspec struct."""

    x: int


BERLIN = dt.timezone(dt.timedelta(hours=1))


def deep(levels: int) -> object:
    """A list in a list, so many times."""
    value: object = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "expected", "count"),
    [
        ("text", "text", 0),
        (None, None, 0),
        (True, True, 0),
        (1.5, 1.5, 0),
        (-0.0, -0.0, 0),
        (2**64, 2**64, 0),
        (-(2**200), -(2**200), 0),
        ((1, [2]), [1, [2]], 0),
        (OrderedDict(a=1), {"a": 1}, 0),
        (defaultdict(list, a=[1]), {"a": [1]}, 0),
        (Text("t"), "t", 0),
        (Number(7), 7, 0),
        (Real(1.5), 1.5, 0),
        (Colour.RED, "red", 0),
        (math.nan, None, 1),
        (math.inf, None, 1),
        (Real(-math.inf), None, 1),
        ([math.nan, {"a": math.nan}], [None, {"a": None}], 2),
        ({3, 1, 2}, [1, 2, 3], 1),
        (frozenset(f"{n:03}" for n in reversed(range(99))), [f"{n:03}" for n in range(99)], 1),
        (deque([1]), [1], 1),
        ({}.keys(), [], 1),
        (b"plain", "plain", 1),
        (b"\xff", "\\xff", 1),
        (bytearray(b"a"), "a", 1),
        (memoryview(b"a"), "a", 1),
        (pathlib.PurePosixPath("/a/b"), "/a/b", 1),
        (pathlib.PurePosixPath("/\udcff"), "/\ufffd", 1),
        (dt.datetime(2026, 11, 20, 18, tzinfo=BERLIN), "2026-11-20T18:00:00+01:00", 1),
        (dt.date(2026, 11, 20), "2026-11-20", 1),
        (dt.time(18, 0), "18:00:00", 1),
        (dt.timedelta(seconds=90), "0:01:30", 1),
        (uuid.UUID(int=0), "00000000-0000-0000-0000-000000000000", 1),
        (decimal.Decimal("1.10"), "1.10", 1),
        (Point(1.0, {1}), {"x": 1.0, "y": [1]}, 2),
        (Struct(1), {"x": 1}, 1),
        (Array(), [1.0, None], 2),
        (Point, repr(Point), 1),
        (1j, "1j", 1),
        (range(10**12), "range(0, 1000000000000)", 1),
        ("\ud800x", "\ufffdx", 1),
        ("\ud83d\ude00", "\U0001f600", 1),
        ({1: "a", None: "b", 1.5: "d"}, {"1": "a", "null": "b", "1.5": "d"}, 3),
        ({False: 0}, {"false": 0}, 1),
        ({math.nan: 0}, {"null": 0}, 1),
        ({b"k": 0, (1, "b"): 1}, {"k": 0, '[1,"b"]': 1}, 2),
        ({Colour.RED: 0}, {"red": 0}, 1),
        ({"1": "a", 1: "b"}, {"1": "a", "1_": "b"}, 1),
        ({"\ud800": 0}, {"\ufffd": 0}, 1),
        (BadMapping(a=1), "<BadMapping>", 1),
    ],
)
def test_values(value: object, expected: object, count: int) -> None:
    """Each kind of value becomes the nearest JSON that there is, and what was changed is counted."""
    body, counted = encode({"event": "x", "value": value})

    assert {"event": "x", "value": expected} == json.loads(body)
    assert count == counted


@pytest.mark.parametrize("value", [math.nan, {1}, b"a", dt.date(2026, 1, 1), pathlib.PurePosixPath("a")])
def test_top_level(value: object) -> None:
    """What the JSON library would change without a word is counted, beside nulls that are meant too."""
    assert 1 == encode({"event": "x", "value": value, "none": None})[1]
    assert 1 == encode({"event": "x", 1: None})[1]


def test_endless_integer() -> None:
    """An integer of more digits than Python reads is written in hexadecimal, in a text."""
    assert ({"a": hex(10**5000)}, 1) == (json.loads(encode({"a": 10**5000})[0]), encode({"a": 10**5000})[1])


def test_float_beside_null() -> None:
    """A finite number beside a null is not taken for NaN."""
    assert (b'{"a":1.5,"b":null,"c":"null"}', 0) == encode({"a": 1.5, "b": None, "c": "null"})
    assert (b'{"a":1.5,"b":1}', 0) == encode({"a": 1.5, "b": 1})


def test_bad_objects() -> None:
    """An object that raises when it is looked at becomes its type's name; the rest of the event stands."""
    body, count = encode({"event": "x", "bad": Bad(), "worse": Worse(), "good": [1]})

    assert {"event": "x", "bad": "<Bad>", "worse": "<Worse>", "good": [1]} == json.loads(body)
    assert count >= 2


def test_bad_names() -> None:
    """Not even a type's name that is no text stops an event."""
    nameless = type("Nameless", (), {"__repr__": lambda _: 1})
    nameless.__qualname__ = "\ud800"

    assert {"a": "<\ufffd>"} == json.loads(encode({"a": nameless()})[0])


ODD = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats() | st.text("ab\ud800", max_size=2)
    | st.sampled_from([b"x", uuid.UUID(int=7), dt.date(2026, 1, 2), pathlib.Path("p")]),
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner)
    | st.dictionaries(st.text("ab", max_size=2) | st.integers(0, 3) | st.none(), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(st.dictionaries(st.text("abc", min_size=1, max_size=2), ODD, max_size=4))
def test_the_short_way_says_what_the_long_way_says(event: dict[str, object]) -> None:
    """What is judged plain is written as it would be after a look at every value, and nothing odd is judged plain."""
    long = coerce._Coercion()
    body = coerce._dumps(long.value(event, 0))

    assert (body, long.count) == encode(event)


@pytest.mark.parametrize("make", [lambda inner: [inner], lambda inner: {"a": inner}])
def test_depth_is_bounded_in_plain_events_too(make: Callable[[object], object]) -> None:
    """The deepest nest that is kept is the same by either way, and one more becomes a marker."""
    deep: object = "end"
    for _ in range(MAX_DEPTH - 1):
        deep = make(deep)

    assert (b"too deep" in encode({"a": deep})[0], b"too deep" in encode({"a": make(deep)})[0]) == (False, True)


def test_end_of_the_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing works any more there is still an event, and it is counted."""

    def fail(*_: object) -> None:
        raise RecursionError

    monkeypatch.setattr(coerce, "_Coercion", lambda: type("Broken", (), {"value": fail}))

    assert (b'{"unencodable":true}', 1) == encode({"a": {1}})


def test_long_repr() -> None:
    """A `repr` is cut before it makes the event too large."""
    long = type("Long", (), {"__repr__": lambda _: "x" * 10**6})

    assert {"a": "x" * 2000} == json.loads(encode({"a": long()})[0])


def test_cycle() -> None:
    """A dict that contains itself ends at the first turn, and one that only stands twice is written twice."""
    event: dict[str, object] = {"event": "x"}
    event["self"] = [event]
    twice = [1]

    assert ({"event": "x", "self": ["<cycle>"]}, 1) == (json.loads(encode(event)[0]), encode(event)[1])
    assert (b'{"a":[1],"b":[1]}', 0) == encode({"a": twice, "b": twice})


def test_depth() -> None:
    """Nesting ends at a marker before any reader's limit, however deep the value goes."""
    fits, cut, endless = (encode({"a": deep(levels)}) for levels in (MAX_DEPTH - 1, MAX_DEPTH, 100_000))

    assert (0, 1, 1) == (fits[1], cut[1], endless[1])
    assert cut[0] == endless[0]
    assert b"<too deep>" in cut[0]


@pytest.mark.parametrize("value", [None, 1, "x", [1], {1}, math.nan, Bad(), object])
def test_no_dict(value: object) -> None:
    """What is no dict at all becomes JSON too."""
    assert json.loads(encode(value)[0]) != {}


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=9,
)
anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=9)
    | st.binary(max_size=9)
    | st.datetimes()
    | st.uuids()
    | st.decimals()
    | st.complex_numbers()
    | st.builds(Odd),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.integers() | st.text(st.characters(), max_size=3) | st.booleans(), inner, max_size=3)
        | st.frozensets(st.integers() | st.floats() | st.text(st.characters(), max_size=3), max_size=3)
    ),
    max_leaves=9,
)


@given(st.dictionaries(st.text(max_size=5), plain, max_size=5))
def test_plain_is_untouched(event: dict[str, object]) -> None:
    """JSON stays what it was, and nothing is counted."""
    body, count = encode(event)

    assert event == json.loads(body)
    assert 0 == count


@given(st.dictionaries(st.integers() | st.text(st.characters(), max_size=5), anything, max_size=5))
def test_always_an_event(event: dict[object, object]) -> None:
    """Whatever a dict holds, it becomes JSON in one line that a producer takes as it is."""
    body, _ = encode(event)
    envelope = Event(id="i", source="/s", type="t", experiment="e", run="r", data=msgspec.Raw(body))

    assert b"\n" not in body
    assert body == bytes(parse(envelope.encode()).data)


def test_fast() -> None:
    """A typical event costs a fraction of what a call of `send` may."""
    event = {
        "event": "action_complete",
        "ts": "2026-11-20T17:38:29.530033+00:00",
        "exit_code": 0,
        "duration_ms": 2,
        "output_preview": "a",
        "stderr_preview": None,
        "is_prompt": False,
    }
    call: Callable[[], object] = lambda: encode(event)  # noqa: E731
    seconds = min(timeit.repeat(call, number=2_000, repeat=5)) / 2_000

    assert seconds < 20e-6
