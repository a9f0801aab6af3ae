"""Which types a subscription wants."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopcast_gateway.filters import MAX_PATTERNS, BadFilter, filter_of


@pytest.mark.parametrize(
    ("types", "exclude", "wanted"),
    [
        (["loop_*"], None, ["loop_start", "loop_complete"]),
        (None, ["action_output"], ["loop_start", "loop_complete", "issue.completed", "state.issue_failed"]),
        (["*issue*", "loop_start"], ["*.issue_*"], ["loop_start", "issue.completed"]),
        (["loop_s????"], None, ["loop_start"]),
        (["[il]*"], ["*_start"], ["loop_complete", "issue.completed"]),
        (["LOOP_*"], None, []),
    ],
)
def test_types_by_patterns(types, exclude, wanted):
    """A type is wanted if one of `types` matches all of it and none of `exclude` does."""
    found = filter_of(types, exclude)
    seen = ["loop_start", "loop_complete", "issue.completed", "state.issue_failed", "action_output"]

    assert wanted == [type_ for type_ in seen if found.admits(type_)]


def test_no_filter_where_all_is_wanted():
    """Who names no pattern is not made to pay for any."""
    assert filter_of(None, None) is None
    assert filter_of(None, []) is None


def test_the_same_patterns_are_the_same_filter():
    """The order of patterns and saying one twice make no difference, so that viewers can share bytes."""
    assert filter_of(["a", "b"], ["c"]) == filter_of(["b", "a", "a"], ["c"])
    assert hash(filter_of(["a", "b"], None)) == hash(filter_of(["b", "a"], None))
    assert filter_of(["a"], None) != filter_of(None, ["a"])


@pytest.mark.parametrize(
    ("types", "exclude", "word"),
    [
        ([], None, "leave it out"),
        (["a"] * (MAX_PATTERNS + 1), None, str(MAX_PATTERNS)),
        (None, ["a b"], "'a b'"),
        ([""], None, "no pattern"),
        (["x" * 121], None, "no pattern"),
        (["gr\u00f6\u00dfer"], None, "no pattern"),
        (["a\n"], None, "no pattern"),
    ],
)
def test_what_is_no_pattern_is_refused(types, exclude, word):
    """A pattern that no type could match is an error with a sentence, not a subscription that stays silent."""
    with pytest.raises(BadFilter, match=word):
        filter_of(types, exclude)


@given(st.lists(st.text("ab.*?[]!-", min_size=1, max_size=40), max_size=5), st.text("ab._-", max_size=120))
def test_any_pattern_has_an_answer(patterns, type_):
    """Whatever legal characters stand in a pattern, it is compiled and answers."""
    found = filter_of(None, patterns)

    assert found is None or found.admits(type_) in (True, False)
