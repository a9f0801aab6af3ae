"""Numbers, times, ids that were seen, memory for bodies, results."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopcast.errors import (
    BrokerBlocked,
    BrokerUnavailable,
    EventTooLarge,
    InvalidExperiment,
    InvalidType,
    LogMissing,
    WindowFull,
)
from loopcast_producer.admission import Admission
from loopcast_producer.idempotency import IdempotencyWindow
from loopcast_producer.numbering import Numbering, RecordingClock
from loopcast_producer.problems import Refusal, broker_problem, invalid_event, method_not_allowed
from loopcast_producer.receipt import Receipt, Result


@given(st.lists(st.integers(0, 10**10), min_size=1, max_size=50))
def test_recorded_times_only_grow(clock):
    """Whatever the machine's clock does, no two events were taken at the same microsecond, and none before another."""
    readings = iter(clock)
    recording = RecordingClock(lambda: next(readings))

    times = [recording.now() for _ in clock]

    assert sorted(set(times)) == times
    assert times[0] == max(1, clock[0] // 1000)


@given(st.lists(st.sampled_from("abcdef"), max_size=60), st.integers(1, 4))
def test_no_number_comes_twice(runs, limit):
    """The table of runs is bounded, and still no (run, emitter, number) comes twice and each pair counts by one."""
    numbering = Numbering(limit)
    seen: dict[tuple[str, str], int] = {}

    for run in runs:
        emitter, number = numbering.next(run)
        key = (run, emitter)
        assert number == seen.get(key, 0) + 1
        seen[key] = number
        assert len(numbering._last) <= limit


def test_a_number_that_was_not_sent_is_given_again():
    """What the broker never got leaves no hole in the numbers."""
    numbering = Numbering()
    emitter, first = numbering.next("r")
    assert (1, (emitter, 2)) == (first, numbering.next("r"))

    numbering.take_back("r", emitter, 2)

    assert (emitter, 2) == numbering.next("r")


def test_what_an_earlier_emitter_gave_is_no_number_of_the_new_one():
    """A batch that starts the table anew and is not sent leaves no run in it: each begins with 1 again."""
    numbering = Numbering(max_runs=2)
    numbering.next("a")
    runs = ["a", "b", "c", "a"]
    given = [numbering.next(run) for run in runs]

    for run, (emitter, number) in reversed(list(zip(runs, given, strict=True))):
        numbering.take_back(run, emitter, number)

    assert [2, 1, 1, 1] == [number for _, number in given]
    again = [numbering.next(run) for run in ("b", "a")]
    assert [(given[-1][0], 1)] * 2 == again


def test_an_unsettled_id_waits_for_the_first():
    """Between publishing and confirm an id is neither new nor a duplicate: it has something to wait for."""
    window: IdempotencyWindow[str] = IdempotencyWindow(10)
    window.begin("k", "first")

    assert (False, "first") == (window.confirmed("k"), window.unsettled("k"))

    window.confirm("k")

    assert (True, None) == (window.confirmed("k"), window.unsettled("k"))


def test_an_id_that_did_not_land_is_welcome_again():
    """After a failure the id is as if it had never come."""
    window: IdempotencyWindow[str] = IdempotencyWindow(10)
    window.begin("k", "first")

    window.forget("k")

    assert (False, None) == (window.confirmed("k"), window.unsettled("k"))


@given(st.lists(st.integers(0, 30), max_size=100), st.integers(0, 10))
def test_the_last_ids_are_remembered_and_no_more(keys, limit):
    """The window holds the last `limit` different ids; 0 remembers none."""
    window: IdempotencyWindow[None] = IdempotencyWindow(limit)
    for key in keys:
        if not window.confirmed(str(key)):
            window.confirm(str(key))
        assert len(window) <= limit

    expected: list[int] = []
    for key in keys:
        if limit and key not in expected:
            expected = [*expected, key][-limit:]
    assert [str(key) for key in expected] == list(window._confirmed)


def test_bodies_share_a_budget():
    """What does not fit is refused with Retry-After, and room that was given back is room again."""
    admission = Admission(100)
    admission.take(60)

    with pytest.raises(Refusal) as caught:
        admission.take(50)

    assert (503, 1) == (caught.value.problem.status, caught.value.problem.retry_after)
    admission.give_back(60)
    admission.take(500)
    assert 500 == admission.held


def test_results_are_counted_and_listed():
    """Each result is counted; the list ends at its bound and says how many are missing from it."""
    receipt = Receipt(room=2)
    for result in (Result("accepted", "1"), Result("invalid", error="no"), Result("duplicate", "1"), Result("invalid")):
        receipt.add(result)

    assert {
        "accepted": 1,
        "duplicates": 1,
        "invalid": 2,
        "events": [{"status": "accepted", "id": "1"}, {"status": "invalid", "error": "no"}],
        "omitted": 2,
    } == json.loads(receipt.encode())


def test_a_receipt_has_all_its_counts():
    """Counts of nothing are said, too: a client need not know which are left out."""
    assert {"accepted": 0, "duplicates": 0, "invalid": 0, "events": []} == json.loads(Receipt().encode())


@pytest.mark.parametrize(
    ("error", "kind", "seconds"),
    [
        (BrokerUnavailable("away."), "broker-unavailable", 1),
        (BrokerBlocked("alarm."), "broker-blocked", 5),
        (WindowFull("full."), "window-full", 1),
        (LogMissing("gone."), "log-missing", 10),
    ],
)
def test_a_brokers_refusal_is_503_with_its_reason(error, kind, seconds):
    """Each way in which the broker does not confirm has its own type, its reason, and when to try again."""
    refusal = broker_problem(error)

    assert (503, f"urn:loopcast:problem:{kind}") == (refusal.problem.status, refusal.problem.type)
    assert refusal.problem.detail.startswith(str(error))
    assert "Idempotency-Key" in refusal.problem.detail
    assert ((b"retry-after", b"%d" % seconds),) == refusal.headers


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (EventTooLarge("big"), 413, "event-too-large"),
        (InvalidExperiment("bad"), 422, "invalid-experiment"),
        (InvalidType("bad"), 422, "invalid-event"),
    ],
)
def test_an_events_fault_has_its_status(error, status, kind):
    """A single event that is refused is refused with the reason's own status."""
    problem = invalid_event(error).problem

    assert (status, f"urn:loopcast:problem:{kind}", str(error)) == (problem.status, problem.type, problem.detail)


def test_a_wrong_method_says_the_right_one():
    """405 has Allow (RFC 9110, 15.5.6)."""
    refusal = method_not_allowed("GET")

    assert (405, ((b"allow", b"POST"),)) == (refusal.problem.status, refusal.headers)


def test_counts_before_a_failure_are_told():
    """A refusal in the middle of a stream says what was accepted before."""
    problem = json.loads(broker_problem(BrokerUnavailable("away.")).problem.counted(3, 0, 1).encode())

    assert (3, 0, 1) == (problem["accepted"], problem["duplicates"], problem["invalid"])
