"""The window keeps the order and forgets nothing, whatever the broker says in whatever order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from loopcast.broker.interface import Message, Settlement
from loopcast.broker.window import OVERHEAD_BYTES, Window
from loopcast.errors import WindowFull


def message(id_: str, size: int = 0, to: str = "a.b", **more: Any) -> Message:
    return Message(**{"exchange": "x", **more}, routing_key=to, body=b"." * size, message_id=id_)


def ids(messages: list[Message]) -> list[str]:
    return [m.message_id for m in messages]


def test_everything_new_is_sent_in_order() -> None:
    """What is added is returned to be sent, in the order in which it came."""
    window = Window(10_000_000)

    _, fresh = window.add([message("a"), message("b")])

    assert ["a", "b"] == ids(fresh)


def test_a_message_that_is_tried_again_joins_the_one_in_the_window() -> None:
    """The same id is not sent twice while it is unsettled, also not within one call."""
    window = Window(10_000_000)
    first, _ = window.add([message("a")])

    again, fresh = window.add([message("a"), message("b"), message("b")])

    assert ["b"] == ids(fresh)
    assert first[0] is again[0]
    assert again[1] is again[2]


def test_the_same_id_elsewhere_is_another_message() -> None:
    """What goes to another place is sent, whatever its id, and each is settled by itself."""
    window = Window(10_000_000)
    elsewhere = [message("a", to="c.b"), message("a", exchange=""), message("a", headers={"experiment": "e"})]
    messages = [message("a"), *elsewhere]

    entries, fresh = window.add(messages)
    window.settle(2, False, Settlement.CONFIRMED)

    assert messages == fresh
    assert [None, Settlement.CONFIRMED, None, None] == [entry.settlement for entry in entries]
    assert [messages[0], *elsewhere[1:]] == window.restart()


def test_a_settled_message_may_be_published_again() -> None:
    """An id is remembered only while it is unsettled."""
    window = Window(10_000_000)
    window.add([message("a")])
    window.settle(1, False, Settlement.CONFIRMED)

    _, fresh = window.add([message("a")])

    assert ["a"] == ids(fresh)


def test_multiple_settles_all_before_it() -> None:
    """`multiple` speaks for every unsettled tag up to its own and for none after it."""
    window = Window(10_000_000)
    entries, _ = window.add([message(c) for c in "abcd"])
    window.settle(2, False, Settlement.REJECTED)

    window.settle(3, True, Settlement.CONFIRMED)

    assert [Settlement.CONFIRMED, Settlement.REJECTED, Settlement.CONFIRMED, None] == [e.settlement for e in entries]


def test_a_tag_that_nobody_knows_changes_nothing() -> None:
    """A word from the broker about a tag that is settled or was never given is ignored."""
    window = Window(10_000_000)
    window.add([message("a")])

    window.settle(7, False, Settlement.CONFIRMED)
    window.settle(0, True, Settlement.CONFIRMED)

    assert 1 == len(window)


def test_a_tag_from_the_future_with_multiple_settles_what_there_is() -> None:
    """An absurd tag costs nothing but what it says."""
    window = Window(10_000_000)
    window.add([message("a")])

    window.settle(2**60, True, Settlement.CONFIRMED)

    assert 0 == len(window)


def test_what_does_not_fit_is_refused_whole() -> None:
    """A batch over the bound adds none of its messages."""
    window = Window(2 * OVERHEAD_BYTES + 10)
    window.add([message("a", 10)])

    with pytest.raises(WindowFull, match="do not fit"):
        window.add([message("b", 0), message("c", 1)])

    assert 1 == len(window)
    assert ["b"] == ids(window.add([message("b", 0)])[1])


def test_an_empty_window_takes_anything() -> None:
    """A single batch over the whole bound is not refused for ever."""
    window = Window(10)

    _, fresh = window.add([message("a", 10_000)])

    assert ["a"] == ids(fresh)


def test_whoever_waits_is_called_once() -> None:
    """A waiter hears of its settlement once, and one that left hears nothing."""
    heard: list[str] = []
    window = Window(10_000_000)
    (entry,), _ = window.add([message("a")])
    stays: Callable[[], None] = lambda: heard.append("stays")  # noqa: E731
    leaves: Callable[[], None] = lambda: heard.append("leaves")  # noqa: E731
    entry.waiters += [stays, leaves]
    entry.waiters.remove(leaves)

    window.settle(1, True, Settlement.CONFIRMED)
    window.settle(1, True, Settlement.CONFIRMED)

    assert ["stays"] == heard


class Broker(RuleBasedStateMachine):
    """A broker that settles, or dies, as it likes, against a list of what is unsettled."""

    def __init__(self) -> None:
        super().__init__()
        self.window = Window(50 * OVERHEAD_BYTES)
        self.unsettled: list[str] = []
        self.tags: dict[int, str] = {}
        self.next = 1
        self.made = 0

    def sent(self, messages: list[Message]) -> None:
        for m in messages:
            self.tags[self.next] = m.message_id
            self.next += 1

    @rule(count=st.integers(1, 20))
    def publish(self, count: int) -> None:
        batch = [message(str(self.made + i)) for i in range(count)]
        try:
            _, fresh = self.window.add(batch)
        except WindowFull:
            assert len(self.unsettled) + count > 50
            return
        self.made += count
        self.unsettled += ids(fresh)
        self.sent(fresh)

    @precondition(lambda self: self.unsettled)
    @rule(data=st.data())
    def publish_again(self, data: st.DataObject) -> None:
        entries, fresh = self.window.add([message(data.draw(st.sampled_from(self.unsettled)))])
        assert [] == fresh
        assert entries[0].settlement is None

    @precondition(lambda self: self.tags)
    @rule(data=st.data(), multiple=st.booleans(), settlement=st.sampled_from(Settlement))
    def settle(self, data: st.DataObject, multiple: bool, settlement: Settlement) -> None:
        tag = data.draw(st.sampled_from(sorted(self.tags)))
        self.window.settle(tag, multiple, settlement)
        for settled in [t for t in self.tags if t == tag or (multiple and t < tag)]:
            self.unsettled.remove(self.tags.pop(settled))

    @rule()
    def reconnect(self) -> None:
        resent = self.window.restart()
        assert self.unsettled == ids(resent)
        self.tags, self.next = {}, 1
        self.sent(resent)

    @invariant()
    def bytes_are_those_of_the_unsettled(self) -> None:
        assert len(self.unsettled) * OVERHEAD_BYTES == self.window.size
        assert len(self.unsettled) == len(self.window)


TestBroker = Broker.TestCase


@given(st.lists(st.tuples(st.integers(1, 60), st.booleans()), max_size=60))
def test_any_order_of_settlements_leaves_the_rest_in_order(words: list[tuple[int, bool]]) -> None:
    """After any sequence of acknowledgements, what goes out again is what is left, in its order."""
    window = Window(10_000_000)
    window.add([message(f"{n:02}") for n in range(1, 51)])
    left = {n: f"{n:02}" for n in range(1, 51)}

    for tag, multiple in words:
        window.settle(tag, multiple, Settlement.CONFIRMED)
        left = {n: id_ for n, id_ in left.items() if n != tag and not (multiple and n < tag)}

    assert list(left.values()) == ids(window.restart())
