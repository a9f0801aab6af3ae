"""
A run's pulse: that the process behind an open run lives, told every 30 s, so that a killed one can be noticed.

It goes straight into the log of its experiment, past the topic exchange: no binding matches it, no webhook gets it. Its
`type` is that of a heartbeat, which every reader skips, older ones too; who wants it asks :func:`from_delivery`. Its
members are in the body, because readers take a message of ours with an `experiment` header for an event.
"""

from __future__ import annotations

import msgspec

from loopcast.broker.interface import Delivery, Message
from loopcast.events import format_time
from loopcast.ids import uuid7
from loopcast.intervals import PULSE_SECONDS
from loopcast.routing import experiment_word
from loopcast.topology import APP_ID, CLOUDEVENT, HEARTBEAT

__all__ = ["SILENT_SECONDS", "Pulse", "from_delivery", "to_message"]

SILENT_SECONDS = 3.5 * PULSE_SECONDS
"""Three that are missed are a process that is gone, or cut off; the half is for their way."""


class Pulse(msgspec.Struct, frozen=True, kw_only=True):
    """One beat of one run."""

    experiment: str
    run: str
    pid: int
    """The process, as its host numbers it."""
    host: str
    emitter: str
    """Who numbers the run's events: with `run`, what tells two processes on one run apart."""
    recordedtime: str
    """When a producer took it: RFC 3339 in microseconds, as events have it."""


_decode = msgspec.json.Decoder(Pulse).decode


def to_message(pulse: Pulse, stream: str, now: int) -> Message:
    """The message that puts `pulse` into the log's stream `stream`; `now` in microseconds since 1970."""
    stamped = msgspec.structs.replace(pulse, recordedtime=format_time(now))
    return Message(
        exchange="",
        routing_key=stream,
        body=msgspec.json.encode(stamped),
        message_id=uuid7(),
        type=HEARTBEAT,
        headers={"x-stream-filter-value": experiment_word(pulse.experiment)},
        content_type=CLOUDEVENT,
        app_id=APP_ID,
        timestamp=now // 1_000_000,
    )


def from_delivery(delivery: Delivery) -> Pulse | None:
    """The pulse that a record of the log is; None for an event, and for a gateway's heartbeat."""
    if delivery.type != HEARTBEAT or delivery.app_id != APP_ID:
        return None
    try:
        return _decode(delivery.body)
    except msgspec.MsgspecError:
        return None
