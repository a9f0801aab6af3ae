"""The small rules of the broker layer: when to try again, when to acknowledge, where to go on, what a refusal says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopcast.broker.acks import Acks
from loopcast.broker.inequivalent import Inequivalent, retention_advice
from loopcast.broker.interface import Delivery
from loopcast.broker.resume import CLOCK_SKEW_SECONDS, Resume
from loopcast.broker.supervisor import Backoff
from loopcast.position import Anchor
from loopcast.topology import Topology


def delivery(offset: int, id_: str = "") -> Delivery:
    return Delivery(tag=1, routing_key="a.b", body=b"", message_id=id_ or f"id-{offset}", offset=offset)


def offsets(deliveries: object) -> list[int]:
    return [d.offset for d in deliveries]  # type: ignore[attr-defined]


def test_the_wait_doubles_to_its_cap() -> None:
    """The ceilings are 0.1, 0.2, 0.4 s and so on, and never more than 10 s."""
    backoff = Backoff()

    ceilings = [backoff.ceiling(tries) for tries in (0, 1, 2, 6, 7, 1000)]

    assert [0.1, 0.2, 0.4, 6.4, 10.0, 10.0] == ceilings


@given(tries=st.integers(0, 10_000), chance=st.floats(0, 1, exclude_max=True))
def test_the_wait_is_anything_up_to_the_ceiling(tries: int, chance: float) -> None:
    """Full jitter: a wait is a part of the ceiling, from nothing on."""
    backoff = Backoff()

    assert 0 <= backoff.delay(tries, chance) <= backoff.ceiling(tries)


def test_a_quarter_of_the_credit_is_acknowledged_at_once() -> None:
    """Under load, one acknowledgement speaks for a quarter of the prefetch."""
    acks = Acks(prefetch=100)

    said = [acks.handed(tag, now=0.0) for tag in range(1, 51)]

    assert [25, 50] == [tag for tag in said if tag is not None]


def test_a_few_deliveries_are_acknowledged_within_thirty_seconds() -> None:
    """
    What stays under a quarter is acknowledged after 30 s.

    Regression: a stream consumer that leaves a few deliveries unacknowledged is closed after the consumer timeout.
    """
    acks = Acks(prefetch=1000)
    acks.handed(3, now=100.0)
    acks.handed(4, now=120.0)

    said = [acks.due(now) for now in (129.9, 130.0, 160.0, 500.0)]

    assert [None, 4, None, None] == said


def test_time_counts_from_the_oldest_unacknowledged() -> None:
    """Deliveries that keep trickling in do not put the acknowledgement off."""
    acks = Acks(prefetch=1000)

    said = [acks.handed(tag, now=tag * 10.0) for tag in range(1, 8)]

    assert [None, None, None, 4, None, None, None] == said


@given(st.lists(st.tuples(st.integers(1, 40), st.floats(0, 40)), min_size=1), st.integers(1, 200))
def test_nothing_waits_longer_than_thirty_seconds_after_a_look(steps: list[tuple[int, float]], prefetch: int) -> None:
    """At every look, nothing older than 30 s and no quarter of the credit is left unacknowledged."""
    acks, tag, now, acked, ages = Acks(prefetch), 0, 0.0, 0, {}
    for count, passed in steps:
        tag, now = tag + count, now + passed
        ages[tag] = now
        acked = acks.handed(tag, now) or acked
        oldest = min((at for t, at in ages.items() if t > acked), default=now)

        assert now - oldest < 30.0
        assert tag - acked < max(1, prefetch // 4)


def test_a_reading_begins_where_it_was_asked_to() -> None:
    """Before anything was handed over, the broker is asked for the start, and what is below it is dropped."""
    resume = Resume(10)

    proof, fresh = resume.came([delivery(8), delivery(9), delivery(10), delivery(12)])

    assert not resume.begin()
    assert 10 == resume.offset
    assert (None, [10, 12]) == (proof, offsets(fresh))


def test_a_reading_goes_on_behind_what_was_handed_over() -> None:
    """After a reconnect the last delivery is read again as a proof, and not handed over again."""
    resume = Resume("first")
    resume.handed(delivery(41))

    assert resume.begin()
    assert 41 == resume.offset
    proof, fresh = resume.came([delivery(40), delivery(41), delivery(42)])

    assert (Anchor.PROVEN, [42]) == (proof, offsets(fresh))
    assert (None, [43]) == (resume.came([delivery(43)])[0], offsets(resume.came([delivery(43)])[1]))


def test_the_proof_may_come_after_the_rest_of_its_chunk() -> None:
    """Deliveries below the proof alone prove nothing yet."""
    resume = Resume("first")
    resume.handed(delivery(41))
    resume.begin()

    assert (None, ()) == resume.came([delivery(39), delivery(40)])
    assert Anchor.PROVEN == resume.came([delivery(41)])[0]


def test_a_link_that_was_lost_right_after_its_proof_proves_nothing_for_the_next() -> None:
    """
    Each link is judged by the delivery that was handed over last, however far the one before it came.

    Regression: the proof of a link that brought nothing further was looked for behind its place, and a whole log was
    said to be truncated; seen as a hole that viewers were told of when a broker was killed soon after its start.
    """
    resume = Resume("first")
    resume.handed(delivery(41))
    resume.begin()
    resume.came([delivery(41)])

    resume.begin()
    proof, fresh = resume.came([delivery(41), delivery(42)])

    assert (Anchor.PROVEN, [42]) == (proof, offsets(fresh))


@given(
    links=st.lists(st.tuples(st.integers(0, 3), st.lists(st.integers(1, 4), max_size=4), st.booleans()), max_size=12),
    start=st.one_of(st.just("first"), st.integers(0, 8)),
)
def test_a_log_that_stays_whole_is_read_whole(links: list[tuple[int, list[int], bool]], start: int | str) -> None:
    """
    Links that come and go in any moment cost a reading nothing and repeat nothing.

    A link begins up to 3 offsets before the place that is asked for, as a chunk does, brings batches of any size, and
    is lost; what its last batch brought may be lost with it.
    """
    resume, handed = Resume(start), []
    for early, sizes, loses in links:
        resume.begin()
        asked = 0 if resume.offset == "first" else int(resume.offset)
        at = max(0, asked - early)
        for n, size in enumerate(sizes):
            proof, fresh = resume.came([delivery(offset) for offset in range(at, at + size)])
            at += size
            assert proof in {None, Anchor.PROVEN}
            if fresh and not (loses and n == len(sizes) - 1):
                handed += offsets(fresh)
                resume.handed(fresh[-1])

    begin = 0 if start == "first" else int(start)
    assert list(range(begin, begin + len(handed))) == handed


@pytest.mark.parametrize(
    ("first", "proof"), [(delivery(50), Anchor.TRUNCATED), (delivery(41, "another"), Anchor.EPOCH_CHANGED)]
)
def test_another_first_delivery_hands_over_nothing(first: Delivery, proof: Anchor) -> None:
    """A log that starts later, or has another message at the place, is said to, and nothing of it is handed over."""
    resume = Resume("first")
    resume.handed(delivery(41))
    resume.begin()

    assert (proof, ()) == resume.came([first, delivery(60)])


@pytest.mark.parametrize("start", ["next", "last"])
def test_the_end_is_taken_up_again_by_time(start: str) -> None:
    """
    A link that is lost before anything came goes on at the moment of the first success, not at the new end.

    Regression: `next` after a reconnect loses everything that was published during the outage.
    """
    resume = Resume(start)
    asked = resume.offset
    resume.opened(now=1_760_000_000.7)
    resume.opened(now=1_760_009_999.0)

    assert start == asked
    assert f"@{1_760_000_000 - CLOCK_SKEW_SECONDS}" == resume.offset


RECEIVED = "PRECONDITION_FAILED - inequivalent arg '{}' for queue 'loopcast.log.0' in vhost '/': received "


@pytest.mark.parametrize(
    ("sentence", "found"),
    [
        ("'77' but current is '5000000000'", 5_000_000_000),
        ("the value '77' of type 'signedint' but current is the value '9' of type 'long'", 9),
        ("the value '77' of type 'signedint' but current is none", None),
    ],
)
def test_a_refusal_says_what_the_broker_has(sentence: str, found: int | None) -> None:
    """The broker's sentence names the argument that differs and the value it has."""
    argument = "x-max-length-bytes"

    assert Inequivalent(argument, found) == Inequivalent.parse(RECEIVED.format(argument) + sentence)


def test_text_stays_text() -> None:
    """A value of digits is a number only where the argument is one."""
    sentence = RECEIVED.format("alternate-exchange") + "the value '2' of type 'longstr' but current is the value '1'"

    assert Inequivalent("alternate-exchange", "1") == Inequivalent.parse(sentence)


def test_another_refusal_is_not_about_an_argument() -> None:
    """What is no such sentence says nothing of arguments."""
    assert Inequivalent.parse("NOT_FOUND - no queue 'q' in vhost '/'") is None


def test_other_retention_is_a_policy_away() -> None:
    """The warning names the policy that gives a log the retention of the settings, and nothing that it has already."""
    queue = Topology(max_age="1h", max_bytes=1000).queues[0]

    advice = retention_advice(queue, {"x-max-age": "7D", "x-max-length-bytes": 5000})

    assert (
        r"rabbitmqctl set_policy loopcast.log.0 '^loopcast\.log\.0$' "
        """'{"max-age": "1h", "max-length-bytes": 1000}' --apply-to queues"""
    ) == advice
