"""
Events as the bodies of requests: pure.

The bodies that a producer of ours published are joined as they are: no event is parsed to be passed on. What a
stranger published is read and encoded anew, once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from loopcast.broker.interface import Delivery
from loopcast.errors import InvalidEvent
from loopcast.events import slice_data
from loopcast.topology import APP_ID
from loopcast.wire import from_delivery
from loopcast_webhook_forwarder.endpoints import Endpoint, Format
from loopcast_webhook_forwarder.slack import slack_message

__all__ = ["Payload", "encode_payload", "envelope"]

MAX_EVENT_TYPE = 100
"""What GitHub takes as `event_type` (https://docs.github.com/en/rest/repos/repos#create-a-repository-dispatch-event)."""


@dataclass(frozen=True, slots=True)
class Payload:
    """A request's body."""

    content_type: str
    body: bytes


def envelope(delivery: Delivery) -> bytes:
    """The CloudEvent in a message, as JSON."""
    return delivery.body if delivery.app_id == APP_ID else from_delivery(delivery).encode()


def encode_payload(events: Sequence[Delivery], endpoint: Endpoint) -> Payload:
    """The body that carries `events` to `endpoint`; formats of one event at a time take the only one there is."""
    return _ENCODERS[endpoint.format](events, endpoint)


def _cloudevents_batch(events: Sequence[Delivery], _: Endpoint) -> Payload:
    return Payload("application/cloudevents-batch+json", _array(map(envelope, events)))


def _cloudevents(events: Sequence[Delivery], _: Endpoint) -> Payload:
    return Payload("application/cloudevents+json", envelope(events[0]))


def _little_loops(events: Sequence[Delivery], _: Endpoint) -> Payload:
    return Payload("application/json", _array(map(_original, events)))


def _slack(events: Sequence[Delivery], endpoint: Endpoint) -> Payload:
    message = slack_message([from_delivery(d) for d in events], endpoint.dashboard, endpoint.trace_url)
    return Payload("application/json", msgspec.json.encode(message))


def _github(events: Sequence[Delivery], _: Endpoint) -> Payload:
    event = from_delivery(events[0])
    payload = {
        "id": event.id,
        "experiment": event.experiment,
        "run": event.run,
        "type": event.type,
        "time": event.time,
        "data": event.data,
    }
    body = {"event_type": event.type[:MAX_EVENT_TYPE], "client_payload": payload}
    return Payload("application/json", msgspec.json.encode(body))


_ENCODERS: dict[Format, Callable[[Sequence[Delivery], Endpoint], Payload]] = {
    "cloudevents-batch": _cloudevents_batch,
    "cloudevents": _cloudevents,
    "little-loops": _little_loops,
    "slack": _slack,
    "github": _github,
}


def _original(delivery: Delivery) -> bytes:
    try:
        return slice_data(envelope(delivery))
    except InvalidEvent:
        return bytes(from_delivery(delivery).data)


def _array(parts: map[bytes]) -> bytes:
    return b"".join((b"[", b",".join(parts), b"]"))
