"""Which of a caller's trace context is carried on (W3C Trace Context)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopcast.trace_context import context_of, trace_context

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    "parent",
    [
        None,
        "hello",
        PARENT.upper(),
        PARENT + "\n",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    ],
)
def test_without_a_parent_nothing_is_carried(parent):
    """A `traceparent` that is none takes the `tracestate` with it (4.3)."""
    assert (None, None) == trace_context(parent, "a=1")


@pytest.mark.parametrize(
    ("state", "kept"),
    [
        (None, None),
        ("", None),
        (" , ", None),
        ("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE", "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"),
        (" a=1 ,\t, b=2 3", "a=1,b=2 3"),
        ("fw529a3039@dt=FfUZUB8BpLkN", "fw529a3039@dt=FfUZUB8BpLkN"),
        ("1st@vendor=x", "1st@vendor=x"),
        ("a=1,a=2", None),
        ("A=1", None),
        ("a", None),
        ("a=", None),
        ("a=b=c", None),
        ("a=é", None),
        (f"{'k' * 257}=1", None),
        (f"a={'v' * 257}", None),
        (",".join(f"k{n}=1" for n in range(33)), None),
    ],
)
def test_a_state_is_carried_if_it_is_one(state, kept):
    """Members in their order, without white space around them; one that breaks the grammar costs the state alone."""
    assert (PARENT, kept) == trace_context(PARENT, state)


def test_a_long_state_loses_whole_members():
    """Beyond 512 characters the members over 128 go first, then the last ones (3.3.1.5)."""
    small = [f"k{n}={'v' * 60}" for n in range(10)]
    large = f"large={'v' * 200}"

    assert ",".join(small[:7]) == trace_context(PARENT, ",".join([large, *small[:7]])).state
    assert ",".join(small[:8]) == trace_context(PARENT, ",".join(small)).state
    assert f"{large},{small[0]}" == trace_context(PARENT, f"{large},{small[0]}").state


@given(st.text("ab=1,@ \t", max_size=40))
def test_what_is_carried_is_carried_again(state):
    """The rule changes nothing any more in what it let through: every hop may apply it."""
    once = trace_context(PARENT, state)

    assert once == trace_context(*once)


def test_fields_of_any_type_are_looked_at():
    """Headers of a message and attributes of an event may hold anything."""
    assert (PARENT, "a=1") == context_of({"traceparent": PARENT, "tracestate": "a=1"})
    assert (PARENT, None) == context_of({"traceparent": PARENT, "tracestate": 7})
    assert (None, None) == context_of({"traceparent": 7, "tracestate": "a=1"})
