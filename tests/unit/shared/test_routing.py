"""From ids and types to routing keys, and what a binding matches."""

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from loopcast import routing
from loopcast.errors import InvalidExperiment, InvalidType

legal_ids = st.text(
    st.characters(exclude_categories=("Cc", "Cs")) | st.sampled_from(".*#%~/ é界"), min_size=1, max_size=80
).filter(lambda e: len(e.encode()) <= routing.MAX_EXPERIMENT_BYTES)
legal_types = st.from_regex(r"[A-Za-z0-9_-]{1,9}(\.[A-Za-z0-9_-]{1,9}){0,4}", fullmatch=True)
words = st.text("ab.*#", max_size=8)


@pytest.mark.parametrize(
    ("experiment", "word"),
    [
        ("exp-42", "exp-42"),
        ("a.b", "a%2Eb"),
        ("exp.*", "exp%2E%2A"),
        ("#", "%23"),
        ("*", "%2A"),
        ("100%", "100%25"),
        ("a/b c", "a%2Fb%20c"),
        ("é", "%C3%A9"),
        ("~x", "%7Ex"),
        ("~", "~"),
    ],
)
def test_experiment_word(experiment: str, word: str) -> None:
    """An id becomes one word in which only letters, digits, _ and - stand for themselves."""
    assert word == routing.experiment_word(experiment)


def test_long_word() -> None:
    """A word over 120 bytes keeps its first 80, cut at an escape, and a hash of the whole id."""
    word = routing.experiment_word("x" + "é" * 60)

    # 80 characters are one x, thirteen whole é of six and one half: the half goes.
    assert "x" + "%C3%A9" * 13 + "~" == word[:80]
    assert 26 == len(word.partition("~")[2])
    assert "a" * 120 == routing.experiment_word("a" * 120)
    assert "a" * 80 + "~" == routing.experiment_word("a" * 121)[:81]


@given(legal_ids, legal_types)
@example("é" * 127, "t" * 120)
def test_key_fits(experiment: str, type_: str) -> None:
    """Every key is one word of the id, the type behind it, and short enough for AMQP."""
    key = routing.routing_key(experiment, type_)

    assert len(key.encode()) <= 255
    assert type_ == key.partition(".")[2]
    assert not set(".*#") & set(routing.experiment_word(experiment))


@given(legal_ids, legal_ids)
@example("a.b", "a%2Eb")
@example("~", "%7E")
@example("a" * 121, "a" * 122)
def test_keys_are_apart(one: str, other: str) -> None:
    """No two ids share a key."""
    assume(one != other)

    assert routing.experiment_word(one) != routing.experiment_word(other)


@given(legal_ids, legal_ids, legal_types)
@example("*", "a", "t")
@example("#", "a", "t")
@example("a.#", "a", "t")
def test_binding_is_private(mine: str, theirs: str, type_: str) -> None:
    """An experiment's binding matches all of its own events and none of another's."""
    binding = routing.bind_experiment(mine)

    assert routing.matches(binding, routing.routing_key(mine, type_))
    assert (mine == theirs) == routing.matches(binding, routing.routing_key(theirs, type_))


@given(legal_ids, legal_types, legal_types)
def test_bind_type(experiment: str, type_: str, other: str) -> None:
    """A binding for a type matches it in every experiment and no other type."""
    key = routing.routing_key(experiment, type_)

    assert routing.matches(routing.bind_type(type_), key)
    assert (type_ == other) == routing.matches(routing.bind_type(other), key)


def test_bind_family() -> None:
    """A family of types is bound by its first word, everywhere or in one experiment."""
    assert routing.matches("*.issue.#", "exp-1.issue.completed")
    assert not routing.matches("*.issue.#", "exp-1.issues")
    assert "a%2Eb.issue.#" == routing.bind_experiment("a.b", "issue.#")


@pytest.mark.parametrize(
    ("binding", "key", "matched"),
    [
        ("#", "", True),
        ("#", "a.b.c", True),
        ("*", "a", True),
        ("*", "", False),  # an empty key has no word: rabbit_exchange_type_topic's split_topic_key
        ("*", "a.b", False),
        ("", "", True),
        ("", "a", False),
        ("a.#", "a", True),
        ("a.#", "a.b.c", True),
        ("a.#", "ab", False),
        ("#.a", "a", True),
        ("#.a", "b.c.a", True),
        ("a.#.b", "a.b", True),
        ("a.#.b", "a.x.y.b", True),
        ("a.#.b", "a.x.y", False),
        ("a.*.b", "a.b", False),
        ("*.*", "a.b", True),
        ("*.*", "a", False),
        ("*.#", "a", True),
        ("*.#", "", False),
        ("#.*", "a.b", True),
        ("#.#", "", True),
        ("a.", "a.", True),
        ("a.*", "a.", True),  # the word behind the dot is there and empty
        ("a", "a.", False),
        ("a*", "ab", False),  # a star is a word, never a part of one
        ("A", "a", False),
    ],
)
def test_matches(binding: str, key: str, matched: bool) -> None:
    """A topic exchange's rules, as RabbitMQ applies them."""
    assert matched == routing.matches(binding, key)


def _by_definition(pattern: list[str], key: list[str]) -> bool:
    if not pattern:
        return not key
    if pattern[0] == "#":
        return any(_by_definition(pattern[1:], key[n:]) for n in range(len(key) + 1))
    return bool(key) and pattern[0] in ("*", key[0]) and _by_definition(pattern[1:], key[1:])


@given(words, st.text("ab.", max_size=8))
def test_matches_by_definition(binding: str, key: str) -> None:
    """The matcher agrees with the rule written as a recursion."""
    expected = _by_definition(binding.split(".") if binding else [], key.split(".") if key else [])

    assert expected == routing.matches(binding, key)


@pytest.mark.parametrize("bad", ["", "a\nb", "\x00", "tab\t", "\x7f", "\x85", "\ud800", "x" * 256, "é" * 128])
def test_bad_experiment(bad: str) -> None:
    """Empty ids, control characters, lone surrogates and ids over 255 bytes are refused in words."""
    with pytest.raises(InvalidExperiment, match=r"^The run id has|^The run id is empty"):
        routing.check_experiment(bad, what="run id")


@pytest.mark.parametrize("good", ["x" * 255, "é" * 127, "\u2028", " ", "~", "a b/c"])
def test_good_experiment(good: str) -> None:
    """Every other text is an id."""
    assert good == routing.check_experiment(good)


@pytest.mark.parametrize("bad", ["", ".", "a.", ".a", "a..b", "a b", "é", "a\n", "a%20b", "*", "#", "x" * 121])
def test_bad_type(bad: str) -> None:
    """A type that breaks the grammar is refused."""
    with pytest.raises(InvalidType, match="The event type"):
        routing.check_type(bad)


@given(legal_types)
def test_good_type(type_: str) -> None:
    """A legal type is taken as it is, by both ways."""
    assert type_ == routing.check_type(type_) == routing.coerce_type(type_)


@pytest.mark.parametrize(
    ("type_", "coerced"),
    [
        ("a b", "a%20b"),
        ("", "%"),
        (".", "%.%"),
        ("a..b", "a.%.b"),
        ("a.", "a.%"),
        ("100%", "100%25"),
        ("x" * 121, "x" * 120),
        ("é" * 200, "%C3%A9" * 20),
        ("x" + "é" * 200, "x" + "%C3%A9" * 19 + "%C3"),
        ("." * 200, ".".join(["%"] * 59)),
        ("x" * 119 + ".y", "x" * 119),
        ("\ud800", "%ED%A0%80"),
    ],
)
def test_coerce_type(type_: str, coerced: str) -> None:
    """Anything becomes a type: escaped, without empty words, cut between escapes and words."""
    assert coerced == routing.coerce_type(type_)


@given(st.text(max_size=300) | st.text("a.% é", max_size=300) | st.text(st.characters(categories=["Cs"]), max_size=9))
def test_coerced_types_are_types(type_: str) -> None:
    """What was coerced is accepted as coerced, and is legal in a routing key."""
    coerced = routing.coerce_type(type_)

    assert coerced == routing.check_type(coerced, coerced=True)
    assert routing.matches(routing.bind_experiment("e"), routing.routing_key("e", coerced))


@pytest.mark.parametrize(("experiment", "partition"), [("exp-42", 0), ("é", 2)])
def test_partition(experiment: str, partition: int) -> None:
    """The partition is crc32 of the id's UTF-8 modulo their number: a change would split every experiment's log."""
    assert partition == routing.partition_of(experiment, 4)
    assert 0 == routing.partition_of(experiment, 1)


@given(legal_ids, st.integers(1, 255))
def test_partition_range(experiment: str, partitions: int) -> None:
    """Every id has a partition that exists."""
    assert routing.partition_of(experiment, partitions) in range(partitions)
