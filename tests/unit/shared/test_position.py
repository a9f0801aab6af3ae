"""The position token."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopcast.errors import InvalidPosition
from loopcast.position import Anchor, Position, anchor_hash, verify

partitions = st.integers(0, 255)
offsets = st.integers(0, 2**64 - 1)
ids = st.uuids().map(str)


@given(partitions, offsets, ids)
def test_round_trip(partition: int, offset: int, message_id: str) -> None:
    """A token is 26 characters and reads back as the position that it was made of."""
    position = Position.of(partition, offset, message_id)
    token = str(position)

    assert 26 == len(token)
    assert position == Position.parse(token)


def test_token_is_pinned() -> None:
    """The token of a known place: tokens outlive the program that made them."""
    position = Position.of(3, 1_000_000, "0193c1f2-7f4e-7000-8000-000000000000")

    assert "041G00000000UGI0LACNASKHF4" == str(position)


@given(partitions, st.lists(st.tuples(offsets, ids), min_size=2, max_size=9, unique_by=lambda o: o[0]))
def test_sorts_as_the_log(partition: int, places: list[tuple[int, str]]) -> None:
    """Tokens of one partition sort as text in the order of their offsets."""
    positions = [Position.of(partition, offset, message_id) for offset, message_id in places]
    by_offset = [str(p) for p in sorted(positions, key=lambda p: p.offset)]

    assert by_offset == sorted(str(p) for p in positions)


GOOD = str(Position.of(0, 7, "id"))


@pytest.mark.parametrize(
    "token",
    [
        "",
        GOOD[:-1],
        GOOD + "0",
        GOOD.lower(),
        "W" * 26,
        "é" * 26,
        "=" * 26,
        GOOD[:-6] + "======",
        GOOD[:25] + " ",
        GOOD[:25] + "1",  # the two bits left over must be zero, or two tokens would mean one place
        "08" + GOOD[2:],  # version 2
        "\ud800" * 26,
    ],
)
def test_bad_token(token: str) -> None:
    """A token that no gateway made is refused, whatever is wrong with it."""
    with pytest.raises(InvalidPosition):
        Position.parse(token)


@given(st.text(max_size=30) | st.text("0123456789ABCDEFGHIJKLMNOPQRSTUV=", min_size=26, max_size=26))
def test_any_text(token: str) -> None:
    """Any text is either refused or a token that is written the same way again."""
    try:
        position = Position.parse(token)
    except InvalidPosition:
        return

    assert token == str(position)


def test_verify_proven() -> None:
    """The same message at the same offset proves the place."""
    assert Anchor.PROVEN is verify(Position.of(0, 7, "a"), 7, "a")


def test_verify_truncated() -> None:
    """A log that starts later has lost what was between, even where the message has the same id."""
    assert Anchor.TRUNCATED is verify(Position.of(0, 7, "a"), 8, "a")


@pytest.mark.parametrize(("offset", "message_id"), [(7, "b"), (6, "a")])
def test_verify_epoch(offset: int, message_id: str) -> None:
    """Another message there, or a log that is shorter, is another log."""
    assert Anchor.EPOCH_CHANGED is verify(Position.of(0, 7, "a"), offset, message_id)


@given(ids, ids)
def test_anchor(one: str, other: str) -> None:
    """An anchor is six bytes and differs where the ids do."""
    assert 6 == len(anchor_hash(one))
    assert (one == other) == (anchor_hash(one) == anchor_hash(other))
