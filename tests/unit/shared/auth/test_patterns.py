"""Patterns of experiments: what they match, and what is none."""

import fnmatch
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopcast.auth.patterns import MAX_PATTERNS, BadPattern, Patterns


@pytest.mark.parametrize(
    ("pattern", "experiment", "expected"),
    [
        ("exp-1", "exp-1", True),
        ("exp-1", "exp-12", False),
        ("exp-1", "EXP-1", False),
        ("exp-*", "exp-", True),
        ("exp-*", "exp-1/a b", True),
        ("exp-*", "my-exp-1", False),
        ("*-exp", "my-exp", True),
        ("a*b*c", "a-b-b-c", True),
        ("a*b*c", "a-c-b", False),
        ("ab*ba", "aba", False),
        ("*", "~", True),
        ("exp-?", "exp-1", False),
        ("exp-[1]", "exp-1", False),
        ("a.c", "abc", False),
        ("*~*", "~", True),
        ("a*", "a*", True),
    ],
)
def test_star_is_any_text_and_nothing_else_is_special(pattern, experiment, expected):
    """`*` stands for any text; every other character only for itself."""
    assert expected is Patterns((pattern,)).permit(experiment)


@given(st.lists(st.text("ab*", max_size=8), max_size=4), st.text("ab", max_size=12))
def test_as_a_regular_expression_has_it(patterns, text):
    """Any number of patterns matches what the same written as regular expressions match."""
    expected = any(re.fullmatch(p.replace("*", ".*"), text) for p in patterns)

    assert expected is Patterns(patterns).permit(text)
    assert expected is Patterns(patterns).permit(text), "and the same when asked again"


def test_no_list_permits_nothing():
    """Without a pattern, nothing is permitted."""
    assert not Patterns(())
    assert not Patterns(()).permit("a")


def test_many_stars_cost_no_time():
    """A pattern made to keep a backtracking matcher busy is answered at once, because tokens bring patterns."""
    pattern = Patterns(("*a" * 200 + "*b",))
    assert fnmatch.fnmatchcase("aab", "*a*b")
    began = time.process_time()

    assert not pattern.permit("a" * 250)
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    "value", ["exp-*", None, 7, {"a": 1}, [1], [""], ["a" * 513], [None], ["a"] * (MAX_PATTERNS + 1), b"exp"]
)
def test_what_is_no_list_of_patterns_is_refused(value):
    """A claim of another shape is an error, never a permission."""
    with pytest.raises(BadPattern):
        Patterns.of(value, what="the claim")


def test_equal_by_what_they_say():
    """The same patterns in another order are the same, so that viewers can be grouped by them."""
    assert Patterns(("b", "a")) == Patterns(("a", "b", "a"))
    assert hash(Patterns(("b", "a"))) == hash(Patterns(("a", "b")))
    assert Patterns(("a",)) != Patterns(("b",))
