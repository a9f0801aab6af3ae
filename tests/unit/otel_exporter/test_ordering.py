"""Events in the order of their numbers, each once, and not for ever waiting for what never comes."""

import msgspec
import pytest
from otel_streams import envelopes, lines

from loopcast_otel_exporter.ordering import HOLD_MICROSECONDS, WINDOW, Ordering


@pytest.fixture
def events():
    """A run of one emitter."""
    return envelopes(lines("demo-parent"), run="run")


def admitted(ordering, events):
    """The numbers that come out."""
    return [ready.number for event in events for ready in ordering.admit(event)]


def test_an_early_event_waits_for_those_before_it(events):
    """3 and 2 wait for 1, and come behind it in order."""
    ordering = Ordering()

    assert [] == admitted(ordering, [events[2], events[1]])
    assert 2 == ordering.waiting
    assert [1, 2, 3] == admitted(ordering, [events[0]])
    assert 0 == ordering.waiting


def test_a_repeat_is_dropped_wherever_its_first_copy_is(events):
    """Of what has come out, and of what still waits."""
    ordering = Ordering()

    assert [1] == admitted(ordering, [events[0], events[0], events[2], events[2]])
    assert (2, 1) == (ordering.repeats.dropped, ordering.waiting)


def test_a_gap_is_given_up_after_the_window(events):
    """Not before 1,000 other events, then at once, and what is missing is counted."""
    others = envelopes(lines("demo-parent"), run="other", emitter="b" * 16)[:1]
    numbered = [msgspec.structs.replace(others[0], sequence=f"{n:020d}") for n in range(1, WINDOW + 2)]
    ordering = Ordering()
    admitted(ordering, [events[0], events[3], events[4]])
    before = admitted(ordering, numbered[: WINDOW - 1])

    assert (WINDOW - 1, 2) == (len(before), ordering.waiting)
    assert [WINDOW, 4, 5, WINDOW + 1] == admitted(ordering, numbered[WINDOW - 1 :])
    assert (0, 2) == (ordering.waiting, ordering.counts.missing)


def test_a_gap_is_given_up_when_the_log_says_that_time_has_passed(events):
    """A record that is no event tells the time where nothing else comes."""
    ordering = Ordering()
    admitted(ordering, [events[0], events[3]])

    assert [] == list(ordering.tick(ordering.now + HOLD_MICROSECONDS))
    assert [4] == [event.number for event in ordering.tick(ordering.now + 1)]


def test_what_waits_lies_in_the_checkpoint(events):
    """Another process goes on with the same events, numbers and time."""
    ordering = Ordering()
    admitted(ordering, [events[0], events[2]])
    restored = Ordering.load(ordering.dump())

    assert (ordering.now, 1) == (restored.now, restored.waiting)
    assert [2, 3] == admitted(restored, [events[0], events[1]])


def test_events_without_numbers_are_known_by_their_ids(events):
    """They come out as they come, each id once."""
    plain = [msgspec.structs.replace(event, sequence=None, emitter=None) for event in events[:3]]
    ordering = Ordering()

    assert [None] * 3 == admitted(ordering, [*plain, *plain])
    assert 3 == ordering.repeats.dropped


def given_up(ordering):
    """The numbers that come out after long enough, and the sizes of the holes before them."""
    ready = ordering.tick(ordering.now + HOLD_MICROSECONDS + 1)
    return [(event.number, [hole.events for hole in ordering.missed()]) for event in ready]


def test_what_never_came_is_told_with_the_event_behind_it(events):
    """Each hole once, of the run that it is of; none before an emitter's first event, and none that fills itself."""
    ordering = Ordering()
    admitted(ordering, [events[2]])
    assert [(3, [])] == given_up(ordering)

    admitted(ordering, [events[5], events[4], events[9]])
    assert [(5, [1]), (6, []), (10, [3])] == given_up(ordering)

    admitted(ordering, [events[11], events[10]])
    assert [] == given_up(ordering)


def test_what_a_producer_numbered_is_not_missed(events):
    """Without an attempt a number may be used up by a try that the broker did not confirm."""
    ordering = Ordering()
    admitted(ordering, [events[0], msgspec.structs.replace(events[4], attempt=0)])

    assert [(5, [])] == given_up(ordering)


@pytest.mark.parametrize("restarted", [True, False])
def test_what_the_log_lost_is_not_missed(events, restarted):
    """Over a loss each emitter's next number may jump, once, whatever waits at that moment; and a restart knows."""
    ordering = Ordering()
    admitted(ordering, [events[0], events[2]])
    ordering.doubt()
    if restarted:
        ordering = Ordering.load(ordering.dump())
    assert [(3, [])] == given_up(ordering)

    admitted(ordering, [events[9], events[11]])
    assert [(10, []), (12, [1])] == given_up(ordering)


def test_a_checkpoint_from_before_holes_were_told_is_read(events):
    """It has one member less."""
    ordering = Ordering()
    admitted(ordering, [events[0], events[2]])
    older = msgspec.msgpack.encode(msgspec.msgpack.decode(ordering.dump())[:-1])

    assert [2, 3] == admitted(Ordering.load(older), [events[1]])


@pytest.mark.parametrize("record", [b"", b"\xc1", Ordering().dump()[:-1]])
def test_what_is_no_record_is_refused(record):
    """A damaged checkpoint is an error and never half an order."""
    with pytest.raises(ValueError, match="order"):
        Ordering.load(record)
