"""Each message settled once, as what happened to it, whatever the broker's acknowledgements lump together."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopcast.amqp.confirms import Confirms, Settled
from loopcast.amqp.parser import Acknowledged, Returned
from loopcast.broker.interface import Message, Settlement

CONFIRMED, RETURNED, REJECTED = Settlement.CONFIRMED, Settlement.RETURNED, Settlement.REJECTED


def message(id_, key="a.b"):
    return Message(exchange="x", routing_key=key, body=b"", message_id=id_)


def back(id_, key="a.b", exchange="x"):
    return Returned(312, "NO_ROUTE", exchange, key, id_)


def confirms(ids):
    made = Confirms()
    made.sent([message(id_) for id_ in ids])
    return made


def test_one_by_one_in_any_order():
    """Single acknowledgements are told as they come, a second time not at all."""
    made = confirms("abc")

    assert [Settled(2, False, CONFIRMED)] == made.acknowledged(Acknowledged(2, False, True))
    assert [Settled(3, False, REJECTED)] == made.acknowledged(Acknowledged(3, False, False))
    assert [] == made.acknowledged(Acknowledged(2, False, True))
    assert [] == made.acknowledged(Acknowledged(4, False, True))
    assert [Settled(1, False, CONFIRMED)] == made.acknowledged(Acknowledged(1, False, True))


def test_a_whole_window_that_comes_back_is_found_at_once():
    """Each is looked for behind the one before it, and what was settled long ago is not walked over again."""
    looked = 0

    class Counted(dict):
        def get(self, tag, default=None):
            nonlocal looked
            looked += 1
            return super().get(tag, default)

    made = Confirms()
    for first in range(0, 20_000, 1000):
        made.sent([message(str(n)) for n in range(first, first + 1000)])
        for tag in range(first + 1, first + 1001):
            made.acknowledged(Acknowledged(tag, False, True))
    assert 20_001 == made._lowest
    made.sent([message(str(n)) for n in range(20_000, 22_000)])
    made._unsettled = Counted(made._unsettled)
    for n in range(20_000, 22_000):
        made.returned(back(str(n)))

    assert looked < 30_000
    settled = made.acknowledged(Acknowledged(22_000, True, True))
    assert [Settled(n, False, RETURNED) for n in range(20_001, 22_001)] == settled


def test_one_that_comes_back_behind_a_later_one_is_found_all_the_same():
    """Whatever the order: it is settled as what it is."""
    made = confirms("abcd")
    for id_ in "cad":
        made.returned(back(id_))

    expected = [(1, RETURNED), (2, CONFIRMED), (3, RETURNED), (4, RETURNED)]
    assert expected == [(tag, said) for tag, _, said in made.acknowledged(Acknowledged(4, True, True))]


def test_multiple_speaks_for_all_before():
    """One acknowledgement for several is told as one; where nothing is left to tell, as none."""
    made = confirms("abcde")
    made.acknowledged(Acknowledged(2, False, True))

    assert [Settled(3, True, CONFIRMED)] == made.acknowledged(Acknowledged(3, True, True))
    assert [] == made.acknowledged(Acknowledged(3, True, True))
    assert [Settled(5, True, REJECTED)] == made.acknowledged(Acknowledged(5, True, False))


def test_tag_0_speaks_for_all():
    """A multiple acknowledgement of tag 0 is of everything so far (AMQP 0-9-1, basic.ack)."""
    made = confirms("abc")

    assert [Settled(3, True, CONFIRMED)] == made.acknowledged(Acknowledged(0, True, True))


def test_a_returned_message_among_others():
    """The returned message is told for itself; those before and behind it as confirmed."""
    made = confirms("abcde")
    made.returned(back("c"))

    assert [
        Settled(2, True, CONFIRMED),
        Settled(3, False, RETURNED),
        Settled(5, True, CONFIRMED),
    ] == made.acknowledged(Acknowledged(5, True, True))


def test_returned_at_the_ends():
    """Nothing is told of an empty stretch before, between or behind returned messages."""
    made = confirms("abcd")
    for id_ in "abd":
        made.returned(back(id_))

    assert [
        Settled(1, False, RETURNED),
        Settled(2, False, RETURNED),
        Settled(3, True, CONFIRMED),
        Settled(4, False, RETURNED),
    ] == made.acknowledged(Acknowledged(4, True, True))


def test_a_returned_message_acknowledged_alone():
    """A single acknowledgement of a returned message is its return."""
    made = confirms("ab")
    made.returned(back("b"))

    assert [Settled(2, False, RETURNED)] == made.acknowledged(Acknowledged(2, False, True))
    assert [Settled(1, False, CONFIRMED)] == made.acknowledged(Acknowledged(1, False, True))


def test_the_same_id_twice():
    """An id that is in flight twice, once to nowhere, is told apart by where it went; twice to nowhere, in order."""
    made = Confirms()
    made.sent([message("a", "k.1"), message("a", "k.2"), message("a", "k.2")])
    made.returned(back("a", "k.2"))
    made.returned(back("a", "k.2"))

    assert [
        Settled(1, True, CONFIRMED),
        Settled(2, False, RETURNED),
        Settled(3, False, RETURNED),
    ] == made.acknowledged(Acknowledged(3, True, True))


def test_a_return_of_nothing_we_sent():
    """A return that fits no message is none of ours, and changes nothing."""
    made = confirms("a")
    made.returned(back("z"))

    assert [Settled(1, False, CONFIRMED)] == made.acknowledged(Acknowledged(1, False, True))


def test_skipped_messages_shift_the_tags():
    """A message that was never sent has a tag of ours, and the broker's count goes on without it."""
    made = Confirms()
    assert Settled(1, False, REJECTED) == made.skip()
    made.sent([message("b"), message("c")])
    assert Settled(4, False, REJECTED) == made.skip()
    assert Settled(5, False, REJECTED) == made.skip()
    made.sent([message("f")])

    assert [Settled(2, False, CONFIRMED)] == made.acknowledged(Acknowledged(1, False, True))
    assert [Settled(6, True, CONFIRMED)] == made.acknowledged(Acknowledged(3, True, True))


@given(st.data())
def test_each_once_as_what_it_was(data):
    """Any order of sends, skips, returns and acknowledgements settles each message once, as what happened to it."""
    fates = data.draw(st.lists(st.sampled_from(["sent", "nowhere", "unsendable"]), min_size=1, max_size=30))
    made, told, broker = Confirms(), {}, []

    def tell(settled):
        open_tags = [t for t in range(1, len(fates) + 1) if t not in told]
        for t in [t for t in open_tags if t == settled.tag or (settled.multiple and t < settled.tag)]:
            assert t not in told
            told[t] = settled.settlement

    for ours, fate in enumerate(fates, 1):
        if fate == "unsendable":
            tell(made.skip())
        else:
            made.sent([message(str(ours))])
            broker.append(ours)
    for ours, fate in enumerate(fates, 1):
        if fate == "nowhere":
            made.returned(back(str(ours)))
    unsettled = list(range(1, len(broker) + 1))
    while unsettled:
        tag = data.draw(st.sampled_from(unsettled))
        multiple = data.draw(st.booleans())
        unsettled = [t for t in unsettled if t > tag] if multiple else [t for t in unsettled if t != tag]
        for settled in made.acknowledged(Acknowledged(tag, multiple, True)):
            tell(settled)

    expected = {"sent": CONFIRMED, "nowhere": RETURNED, "unsendable": REJECTED}
    assert {n: expected[fate] for n, fate in enumerate(fates, 1)} == told
    assert {} == made._unsettled
    assert set() == made._returned


@pytest.mark.parametrize("multiple", [True, False])
def test_nothing_is_kept_of_what_is_settled(multiple):
    """A long life leaves nothing behind."""
    made = Confirms()
    for n in range(1, 5001):
        made.sent([message(str(n))])
        made.acknowledged(Acknowledged(n, multiple, True))

    assert 0 == len(made._unsettled)
