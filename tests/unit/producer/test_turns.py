"""Which replica publishes what of a Redis channel, whatever is said of turns, and in which order."""

import pytest

from loopcast_producer.turns import Turns


class Replicas:
    """Replicas that hear all words and messages in one order, as Redis has it, and answer."""

    def __init__(self, *names, most_bytes=1000):
        self.all = {name: Turns(name, most_bytes) for name in names}
        self.holder = None

    def __getitem__(self, name):
        return self.all[name]

    def word(self, word):
        answers = [
            turns.holding for name, turns in self.all.items() if turns.hear_of_turns(word, leased=name == self.holder)
        ]
        for answer in answers:
            self.word(answer)

    def lease(self, name):
        self.holder = name
        self.word(self[name].beginning)

    def claim(self, name):
        self[name].come_back(leased=False)
        self.word(self[name].claim)

    def say(self, *messages):
        for message in messages:
            for turns in self.all.values():
                assert turns.hear(message)

    def published(self):
        return {name: b"".join(turns.first(100, 10_000)) for name, turns in self.all.items()}


def test_each_message_is_of_the_one_whose_turn_began_last():
    """The border is the same for all replicas."""
    replicas = Replicas("a", "b")
    replicas.say(b"0")
    replicas.lease("a")
    replicas.say(b"1", b"2")
    replicas.lease("b")
    replicas.say(b"3")

    assert {"a": b"12", "b": b"3"} == replicas.published()


def test_what_is_claimed_waits_until_somebody_has_the_lease():
    """Nothing of it is published before, because a holder may have taken it; then it is, whoever has the lease."""
    replicas = Replicas("a", "b", "c")
    replicas.claim("a")
    replicas.say(b"1")
    replicas.claim("b")
    replicas.say(b"2")
    assert {"a": b"", "b": b"", "c": b""} == replicas.published()
    assert [False, True, False] == [turns.active for turns in replicas.all.values()]
    replicas.lease("c")
    replicas.say(b"3")

    assert {"a": b"1", "b": b"2", "c": b"3"} == replicas.published()


def test_a_holder_says_that_a_claim_is_wrong():
    """The broker is away for the claimer only: it drops what it kept, and the holder publishes all of it."""
    replicas = Replicas("a", "b")
    replicas.lease("a")
    replicas.say(b"1")
    replicas["b"].come_back(leased=False)
    assert replicas["a"].hear_of_turns(replicas["b"].claim, leased=True)
    assert not replicas["b"].hear_of_turns(replicas["b"].claim, leased=False)
    replicas.say(b"2")
    replicas.word(replicas["a"].holding)
    replicas.say(b"3")
    assert not replicas["b"].active
    replicas.lease("b")

    assert {"a": b"123", "b": b""} == replicas.published()


def test_a_late_answer_ends_nobodys_turn():
    """Who began after the holder that answers goes on."""
    replicas = Replicas("a", "b")
    replicas.lease("a")
    replicas.lease("b")
    replicas.word(replicas["a"].holding)
    replicas.say(b"1")

    assert {"a": b"", "b": b"1"} == replicas.published()


def test_who_keeps_for_a_broker_that_is_away_stops_at_a_claim():
    """The last holder without its lease and the one that came back take each message once."""
    replicas = Replicas("a", "b")
    replicas.lease("a")
    replicas.holder = None
    replicas.say(b"1")
    replicas.claim("b")
    replicas.say(b"2")
    replicas.lease("a")
    replicas.say(b"3")

    assert {"a": b"13", "b": b"2"} == replicas.published()


def test_what_was_claimed_outlives_another_loss_of_redis():
    """What nobody contradicted is kept, and comes before what is claimed next."""
    replicas = Replicas("a")
    replicas.claim("a")
    replicas.say(b"1")
    replicas.claim("a")
    replicas.say(b"2")
    replicas.lease("a")

    assert {"a": b"12"} == replicas.published()


@pytest.mark.parametrize("word", ["", "claims", "a stranger's word", " claims", " holds"])
def test_a_strange_word_hurts_nothing(word):
    """Whatever else is published there costs nothing that was kept before."""
    replicas = Replicas("me")
    replicas.lease("me")
    replicas.say(b"1")
    replicas.word(word)

    assert {"me": b"1"} == replicas.published()


def test_what_is_kept_is_bounded():
    """Claimed or not; what was published or given up makes room."""
    turns = Turns("a", 4)
    turns.hear_of_turns("a", leased=True)
    assert [True, True, False] == [turns.hear(b"xx") for _ in range(3)]
    turns.drop_first(1)
    turns.come_back(leased=False)
    turns.hear_of_turns("a claims", leased=False)
    assert [True, False] == [turns.hear(b"yy") for _ in range(2)]
    turns.hear_of_turns("b holds", leased=False)
    turns.hear_of_turns("a", leased=True)

    assert [True, False] == [turns.hear(b"zz") for _ in range(2)]
    assert [b"xx", b"zz"] == turns.first(9, 9)


def test_a_batch_is_bounded_by_its_bytes():
    """As many as fit, and one at least: a batch larger than the window would wait until that is empty."""
    turns = Turns("a", 1000)
    turns.begin(True)
    for message in (b"xxx", b"xx", b"x", b"x" * 100, b"x"):
        turns.hear(message)
    sizes = []
    while len(turns):
        batch = turns.first(2, 5)
        sizes.append(list(map(len, batch)))
        turns.drop_first(len(batch))

    assert [[3, 2], [1], [100], [1]] == sizes
