"""Folding the state stream, and the breaker's steps."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from loopcast_webhook_forwarder.breaker import failed, probing, succeeded
from loopcast_webhook_forwarder.state import Control, Progress, Record, Spill, State, decode, encode, fold


def folded(*records: Record) -> State:
    state = State()
    for record in records:
        state = fold(state, record)
    return state


def test_a_former_holder_counts_no_more():
    """What a replica writes after another has claimed the endpoint changes nothing."""
    state = folded(
        Record(progress=Progress(epoch=1, holder="a")),
        Record(progress=Progress(epoch=2, holder="b")),
        Record(progress=Progress(epoch=1, holder="a", failures=9)),
    )

    assert state.progress == Progress(epoch=2, holder="b")


def test_of_two_that_claim_the_same_epoch_the_first_holds():
    """The order in the stream decides, so every replica decides alike."""
    state = folded(
        Record(progress=Progress(epoch=1, holder="a")),
        Record(progress=Progress(epoch=1, holder="b")),
        Record(progress=Progress(epoch=1, holder="a", failures=1)),
    )

    assert state.progress.holder == "a"
    assert state.progress.failures == 1


def test_a_replica_that_had_not_read_a_pause_does_not_undo_it():
    """The higher version of what people said holds, whoever writes later."""
    paused = Control(version=1, mode="paused")
    state = folded(Record(control=paused), Record(control=Control(), progress=Progress(epoch=1, holder="a")))

    assert state.control == paused
    assert state.progress.holder == "a"


def test_the_last_word_on_bindings_holds():
    """A record that says nothing of them leaves them, and an empty list takes them away."""
    state = folded(Record(bindings=("a", "b")), Record(progress=Progress(epoch=1)))

    assert state.bindings == ("a", "b")
    assert fold(state, Record(bindings=())).bindings == ()


def test_a_command_ends_a_wait_and_a_later_failure_begins_another():
    """`resume` means now, not at the end of the hour."""
    waiting = Progress(epoch=1, holder="a", at=100, wait_until=3700)
    resumed = Control(version=1, mode="running", at=200)

    assert State(Control(), waiting).waits_until() == 3700
    assert State(resumed, waiting).waits_until() == 0
    assert State(resumed, msgspec.structs.replace(waiting, at=300, wait_until=900)).waits_until() == 900


def test_records_survive_the_wire():
    """What is written is what is read."""
    record = Record(
        control=Control(version=3, mode="stopped", reason="HTTP 410", at=1.5),
        progress=Progress(epoch=2, holder="x", failing_since=1.0, spill=Spill("t", 1.0, {"0": "P"})),
        bindings=("#",),
    )

    assert decode(encode(record)) == record


@given(st.binary(max_size=100))
def test_what_is_no_record_changes_nothing(body):
    """A stranger's message in the stream does not stop the service."""
    assert fold(State(), decode(b"\xff" + body)) == State()


def test_a_newer_version_s_record_is_read_as_far_as_it_is_known():
    """Two versions next to each other share a stream."""
    assert decode(b'{"v":2,"control":{"version":1,"mode":"paused","colour":"red"},"weather":1}').control == Control(
        version=1, mode="paused"
    )


def fail(progress: Progress, head: str = "e1", *, now: float, misconfigured: bool = False) -> Progress:
    return failed(progress, head=head, now=now, wait=10, threshold=3, reason="HTTP 500", misconfigured=misconfigured)


def test_the_breaker_opens_half_opens_and_closes():
    """Closed until the threshold, then open, half-open for a try, closed by a success."""
    progress = Progress()
    phases = []
    for now in range(4):
        progress = fail(probing(progress), now=now)
        phases.append(progress.phase)

    assert phases == ["closed", "closed", "open", "open"]
    assert probing(progress).phase == "half-open"
    assert progress.failing_since == 0
    assert progress.wait_until == 13
    assert succeeded(probing(progress), 20) == Progress(at=20)


def test_attempts_are_of_the_head_and_failures_of_the_endpoint():
    """When another event is the head its attempts begin anew; the endpoint's row of failures goes on."""
    progress = fail(fail(fail(Progress(), now=0), now=1), "e2", now=2)

    assert (progress.head, progress.attempts, progress.failures) == ("e2", 1, 3)


def test_what_people_must_mend_is_open_at_once_and_says_so():
    """One 401 is enough to stop sending whole batches."""
    assert fail(Progress(), now=0, misconfigured=True).phase == "misconfigured"


def test_a_success_of_a_healthy_endpoint_writes_nothing():
    """The state stream is silent while all is well."""
    progress = Progress(epoch=1, holder="a", at=5)

    assert succeeded(progress, 99) is progress
