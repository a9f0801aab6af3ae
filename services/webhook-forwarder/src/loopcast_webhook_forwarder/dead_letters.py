"""Dead letters as messages: the event as it was, and why it lies there in headers. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from loopcast.broker.interface import Delivery, HeaderValue, Message
from loopcast.topology import APP_ID, webhook_dead_letters, webhook_queue

__all__ = ["DEAD", "KEY", "REPLAY", "dead_letter", "gap_letter", "key_of", "put_behind", "replayed"]

DEAD = "loopcast-dead-"
"""What the names of a dead letter's own headers begin with."""

KEY = "loopcast-key"
"""The routing key that the event was published under: in a queue that it was put into directly, its key is another."""

REPLAY = "loopcast-replay"
"""Set on what was put back, so that no binding is asked whether it is wanted."""

MAX_TEXT = 1024
"""Of a header: all of a message's headers have to fit into one frame."""


def key_of(delivery: Delivery) -> str:
    """The routing key that the event was published under."""
    key = delivery.headers.get(KEY)
    return key if isinstance(key, str) else delivery.routing_key


def dead_letter(
    endpoint: str, delivery: Delivery, *, reason: str, attempts: int, answer: bytes, since: float | None, now: float
) -> Message:
    """The dead letter of an event: `since` is when its endpoint's failures began, `answer` what came back last."""
    headers: dict[str, HeaderValue] = {
        **_own(delivery.headers),
        KEY: key_of(delivery),
        f"{DEAD}endpoint": endpoint,
        f"{DEAD}reason": reason[:MAX_TEXT],
        f"{DEAD}attempts": attempts,
        f"{DEAD}answer": answer[:MAX_TEXT].decode("utf-8", "replace"),
        f"{DEAD}at": int(now),
    }
    if since is not None:
        headers[f"{DEAD}failing-since"] = int(since)
    return _message(webhook_dead_letters(endpoint).name, delivery, headers)


def replayed(endpoint: str, delivery: Delivery) -> Message:
    """The event of a dead letter, or of the log, on its way back into the queue: same id, same body."""
    headers = {**_own(delivery.headers), KEY: key_of(delivery), REPLAY: 1}
    return _message(webhook_queue(endpoint).name, delivery, headers)


def put_behind(endpoint: str, delivery: Delivery) -> Message:
    """A dead letter as it is, for the end of its queue."""
    kept = {name: value for name, value in delivery.headers.items() if not name.startswith("x-d")}
    return _message(webhook_dead_letters(endpoint).name, delivery, kept)


def gap_letter(
    endpoint: str,
    *,
    id: str,  # noqa: A002 - the message's
    partition: int,
    first: int,
    last: int,
    reason: str,
    now: float,
) -> Message:
    """The one dead letter for what retention took: the offsets `first` to `last` of a partition of the log."""
    headers: dict[str, HeaderValue] = {
        f"{DEAD}endpoint": endpoint,
        f"{DEAD}reason": f"{reason} before this endpoint was caught up",
        f"{DEAD}partition": partition,
        f"{DEAD}first-offset": first,
        f"{DEAD}last-offset": last,
        f"{DEAD}count": last - first + 1,
        f"{DEAD}at": int(now),
    }
    return Message(
        exchange="",
        routing_key=webhook_dead_letters(endpoint).name,
        body=b"",
        message_id=id,
        type="loopcast.webhook.gap",
        headers=headers,
        app_id=APP_ID,
    )


def _own(headers: Mapping[str, HeaderValue]) -> dict[str, HeaderValue]:
    """Without what an earlier death or the broker added."""
    return {name: value for name, value in headers.items() if not name.startswith((DEAD, "x-d", REPLAY))}


def _message(queue: str, delivery: Delivery, headers: Mapping[str, HeaderValue]) -> Message:
    return Message(
        exchange="",
        routing_key=queue,
        body=delivery.body,
        message_id=delivery.message_id,
        type=delivery.type,
        headers=headers,
        content_type=delivery.content_type,
        app_id=delivery.app_id,
        timestamp=delivery.timestamp,
    )
