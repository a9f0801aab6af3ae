"""Events as the recorder gets them from the log, without a broker."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from loopcast.broker.interface import Delivery
from loopcast.events import Event, normalize_time, source_of, to_microseconds
from loopcast.runs import Runs
from loopcast.wire import to_message

FIXTURES = Path(__file__).parents[1] / "fixtures" / "streams"


def lines(name: str) -> list[dict[str, object]]:
    """The events of a recorded stream, as the engine wrote them."""
    return [json.loads(line) for line in (FIXTURES / f"{name}.jsonl").read_text().splitlines()]


def envelopes(
    raw: Iterable[Mapping[str, object]],
    *,
    experiment: str = "exp",
    run: str | None = None,
    emitter: str | None = "00000000000000aa",
    first: int = 1,
) -> list[Event]:
    """What a relay that reads `raw` publishes; ids and sequence numbers are the same every time."""
    runs = Runs(now=lambda: 0, suffix=lambda: "000000", run=run)
    events = []
    for number, data in enumerate(raw, first):
        identity = runs.identify(data)
        time = normalize_time(data.get("ts")) or "2026-11-20T17:00:00.000000Z"
        events.append(
            Event(
                id=f"{experiment}-{identity.run}-{emitter}-{number}"[-200:],
                source=source_of(experiment, identity.run),
                type=str(data.get("event", "message")),
                subject=identity.loop,
                time=time,
                experiment=experiment,
                run=identity.run,
                attempt=identity.attempt,
                recorded_time=time,
                emitter=emitter,
                sequence=None if emitter is None else f"{number:020d}",
                data=msgspec.Raw(json.dumps(data).encode()),
            )
        )
    return events


def deliver(events: Iterable[Event], *, offset: int = 0) -> list[Delivery]:
    """The same as the broker delivers it, from `offset` on."""
    return [_delivery(event, number) for number, event in enumerate(events, offset)]


def recorded_seconds(event: Event) -> float:
    """When the producer took it, in Unix seconds."""
    return to_microseconds(event.recorded_time or "") / 1e6


def cut(items: Sequence[Delivery], size: int) -> list[Sequence[Delivery]]:
    """The same in pieces of `size`."""
    return [items[at : at + size] for at in range(0, len(items), size)]


def _delivery(event: Event, offset: int) -> Delivery:
    message = to_message(event, 0)
    return Delivery(
        tag=offset + 1,
        routing_key=message.routing_key,
        body=message.body,
        message_id=message.message_id,
        type=message.type,
        headers=message.headers,
        content_type=message.content_type,
        app_id=message.app_id,
        timestamp=message.timestamp,
        offset=offset,
    )
