"""A run's pulse in the log: found by who asks for it, and an event to nobody."""

from loopcast.broker.interface import Delivery
from loopcast.pulse import Pulse, from_delivery, to_message
from loopcast.topology import APP_ID, HEARTBEAT

PULSE = Pulse(experiment="a/b", run="r1", pid=4711, host="worker", emitter="0123456789abcdef", recordedtime="")
NOW = 1_790_000_000_123_456


def delivered(message):
    return Delivery(
        tag=1,
        routing_key=message.routing_key,
        body=message.body,
        type=message.type,
        headers=message.headers,
        app_id=message.app_id,
    )


def test_it_comes_back_as_it_was_with_its_time():
    """What was told of a run is what a reader gets, with the moment at which it was taken."""
    message = to_message(PULSE, "loopcast.log.0", NOW)
    pulse = from_delivery(delivered(message))

    assert ("", "loopcast.log.0") == (message.exchange, message.routing_key)
    assert ("a/b", "r1", 4711, "worker", "0123456789abcdef", "2026-09-21T14:13:20.123456Z") == (
        pulse.experiment, pulse.run, pulse.pid, pulse.host, pulse.emitter, pulse.recordedtime,
    )  # fmt: skip


def test_readers_that_do_not_know_it_skip_it():
    """By its type it is a heartbeat, and without an `experiment` header nobody takes it for an event."""
    message = to_message(PULSE, "loopcast.log.0", NOW)

    assert (HEARTBEAT, APP_ID, {"x-stream-filter-value": "a%2Fb"}) == (message.type, message.app_id, message.headers)


def test_other_records_are_no_pulse():
    """A gateway's heartbeat has no members, an event another type, a stranger another name."""
    message = to_message(PULSE, "loopcast.log.0", NOW)
    empty, event, stranger = delivered(message), delivered(message), delivered(message)
    empty.body, event.type, stranger.app_id = b"{}", "state_enter", "somebody"

    assert [None] * 3 == list(map(from_delivery, (empty, event, stranger)))
