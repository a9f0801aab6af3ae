"""Waits between tries, Retry-After, and when an event is given up."""

import datetime as dt
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopcast_webhook_forwarder.endpoints import Retry
from loopcast_webhook_forwarder.retry import MAX_RETRY_AFTER, Schedule, parse_retry_after

SCHEDULE = Schedule(Retry(schedule=(1, 10, 100), give_up_after=1000))
CHANCES = st.floats(0, 1, exclude_max=True)


def test_the_schedule_is_followed_and_its_last_wait_repeats():
    """Without jitter (chance 0.5) the waits are what was written."""
    assert [SCHEDULE.wait(n, 0.5) for n in range(1, 6)] == [1, 10, 100, 100, 100]


@given(st.integers(1, 1000), CHANCES)
def test_jitter_moves_a_wait_by_a_fifth_at_most(failures, chance):
    """What a person wrote keeps its meaning."""
    base = SCHEDULE.wait(failures, 0.5)

    assert base * 0.8 - 1e-9 <= SCHEDULE.wait(failures, chance) <= base * 1.2 + 1e-9


@given(st.integers(1, 10), CHANCES, st.floats(0, 1e9))
def test_retry_after_lengthens_only_and_to_an_hour_at_most(failures, chance, asked):
    """An endpoint may ask for patience, and not for ever."""
    plain, told = SCHEDULE.wait(failures, chance), SCHEDULE.wait(failures, chance, asked)

    assert told == max(plain, min(asked, MAX_RETRY_AFTER))


def test_what_only_people_mend_waits_longest():
    """A configuration error is retried at the schedule's slowest pace."""
    assert SCHEDULE.slow(0.5) == 100
    assert SCHEDULE.slow(0.5, 200) == 200


@pytest.mark.parametrize(
    ("now", "failing_since", "taken", "gives_up"),
    [
        (2000, None, 0, False),
        (2000, 1000, 1000, True),
        (2000, 1001, 1000, False),
        (2000, 1000, 1001, False),
        (9000, 1000, 8999, False),
    ],
)
def test_an_event_is_given_up_when_it_and_the_outage_are_old(now, failing_since, taken, gives_up):
    """A fresh outage loses no old event, and an old outage no fresh event."""
    assert SCHEDULE.gives_up(now=now, failing_since=failing_since, taken=taken) is gives_up


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("0", 0), ("120", 120), (" 7 ", 7), ("", None), (None, None), ("soon", None), ("-1", None), ("1.5", None),
     ("٣", None), ("9" * 65, None)],
)  # fmt: skip
def test_retry_after_in_seconds(value, seconds):
    """Digits are seconds (RFC 9110, 10.2.3); anything else is not heard."""
    assert parse_retry_after(value, now=0) == seconds


def test_retry_after_as_a_date():
    """A date is the time until then, and one that has passed is now."""
    date = format_datetime(dt.datetime(2026, 11, 20, 12, 0, 30, tzinfo=dt.UTC), usegmt=True)
    noon = dt.datetime(2026, 11, 20, 12, tzinfo=dt.UTC).timestamp()

    assert parse_retry_after(date, noon) == 30
    assert parse_retry_after(date, noon + 60) == 0


@given(st.text(max_size=80))
def test_any_retry_after_is_seconds_or_nothing(value):
    """A hostile header raises nothing."""
    seconds = parse_retry_after(value, now=1.7e9)

    assert seconds is None or seconds >= 0
