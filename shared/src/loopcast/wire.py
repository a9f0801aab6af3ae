"""
Events as AMQP messages, and messages as events: pure.

What routes or deduplicates an event stands in the properties and headers, so that nobody parses a body to pass it on.
A message that is not ours (its `app_id` says so) is read by :mod:`loopcast.strangers`.
"""

from __future__ import annotations

from loopcast.broker.interface import Delivery, HeaderValue, Message
from loopcast.errors import InvalidEvent
from loopcast.events import Event, parse
from loopcast.routing import experiment_word, routing_key
from loopcast.strangers import understand
from loopcast.topology import APP_ID, CLOUDEVENT, EVENTS

__all__ = ["from_delivery", "to_message"]

MAX_ID_BYTES = 255
"""`message_id` is a short string (AMQP 0-9-1, 4.2.5.3)."""

MAX_HEADER_BYTES = 1024
"""
A longer one is left out: all headers of a message have to fit into one frame, and the body has the whole text anyway.
"""

MAX_INT = 2**63 - 1
"""The largest number that a field table holds."""


def to_message(event: Event, partition: int, recorded: int | None = None) -> Message:
    """
    The message that publishes `event` to its partition of the log, and to whoever binds to its key.

    `recorded` is its `recorded_time` in microseconds, from who knows it without reading the text.

    Raises:
        InvalidEvent: the id is empty or longer than AMQP takes.
        InvalidExperiment: the experiment breaks its grammar.
    """
    if not 0 < len(event.id.encode("utf-8", "surrogatepass")) <= MAX_ID_BYTES:
        raise InvalidEvent(f'The "id" of an event must have 1 to {MAX_ID_BYTES} bytes of UTF-8.')
    if recorded is None:
        recorded = event.recorded or 0
    return Message(
        exchange=EVENTS,
        routing_key=routing_key(event.experiment, event.type),
        body=event.encode(),
        message_id=event.id,
        type=event.type,
        headers=_headers(event, partition, recorded),
        content_type=CLOUDEVENT,
        app_id=APP_ID,
        timestamp=recorded // 1_000_000,
    )


def from_delivery(delivery: Delivery) -> Event:
    """The event in any message whatsoever: ours as it was published, a stranger's as far as it is understood."""
    if delivery.app_id == APP_ID:
        try:
            return parse(delivery.body)
        except InvalidEvent:
            # Somebody else's program uses our name.
            pass
    return understand(delivery)


def _headers(event: Event, partition: int, recorded: int) -> dict[str, HeaderValue]:
    headers: dict[str, HeaderValue] = {
        "experiment": event.experiment,
        "run": event.run,
        "partition": partition,
        # Always a string: a filter value of another type closes the connection on brokers that filter (from 3.13).
        "x-stream-filter-value": experiment_word(event.experiment),
    }
    if event.attempt:
        headers["attempt"] = event.attempt
    if recorded:
        headers["recorded"] = recorded
    if event.traceparent is not None and len(event.traceparent) <= MAX_HEADER_BYTES:
        headers["traceparent"] = event.traceparent
        if event.tracestate is not None and len(event.tracestate) <= MAX_HEADER_BYTES:
            headers["tracestate"] = event.tracestate
    number = event.number if event.emitter and len(event.emitter) <= MAX_HEADER_BYTES else None
    # Both or neither: they are one key. Without it a reader knows the event by its id.
    if number is not None and 0 <= number <= MAX_INT:
        headers["emitter"], headers["sequence"] = event.emitter, number
    return headers
