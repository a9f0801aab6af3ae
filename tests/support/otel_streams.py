"""Recorded streams as the events that the log would hold, and what a fold makes of them as text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from loopcast.events import Event, normalize_time, source_of
from loopcast.runs import Runs
from loopcast_otel_exporter.encoding import encode_log, encode_span
from loopcast_otel_exporter.fold import Fold, Options
from loopcast_otel_exporter.signals import Span

FIXTURES = Path(__file__).parents[1] / "fixtures" / "streams"
EMITTER = "00000000000000aa"


def lines(name: str) -> list[dict[str, object]]:
    """The events of a recorded stream, as the engine wrote them."""
    return [json.loads(line) for line in (FIXTURES / f"{name}.jsonl").read_text().splitlines()]


def envelopes(
    raw: Iterable[Mapping[str, object]], *, experiment: str = "exp", run: str | None = None, emitter: str = EMITTER
) -> list[Event]:
    """What a relay that reads `raw` publishes; ids and sequence numbers are the same every time."""
    runs = Runs(now=lambda: 0, suffix=lambda: "000000", run=run)
    events: list[Event] = []
    for number, data in enumerate(raw, 1):
        identity = runs.identify(data)
        time = normalize_time(data.get("ts"))
        assert time is not None
        events.append(
            Event(
                id=f"{experiment}-{identity.run}-{emitter}-{number}",
                source=source_of(experiment, identity.run),
                type=str(data["event"]),
                subject=identity.loop,
                time=time,
                experiment=experiment,
                run=identity.run,
                attempt=identity.attempt,
                recorded_time=time,
                emitter=emitter,
                sequence=f"{number:020d}",
                data=msgspec.Raw(json.dumps(data).encode()),
            )
        )
    return events


def renumbered(events: Iterable[Event]) -> list[Event]:
    """The same with sequence numbers of (run, emitter), as an SDK counts."""
    counts: dict[tuple[str, str | None], int] = {}
    numbered = []
    for event in events:
        counts[event.run, event.emitter] = number = counts.get((event.run, event.emitter), 0) + 1
        numbered.append(msgspec.structs.replace(event, sequence=f"{number:020d}"))
    return numbered


def fold(events: Iterable[Event], options: Options | None = None) -> Fold:
    """A fold that has taken `events`."""
    folded = Fold(options or Options())
    for event in events:
        folded.apply(event)
    return folded


def tree(spans: Iterable[Span]) -> str:
    """Spans as an indented tree in the order of their starts, times in milliseconds since the first."""
    found = list(spans)
    start = min(span.start for span in found)
    children: dict[bytes, list[Span]] = {}
    known = {span.span_id for span in found}
    for span in sorted(found, key=lambda s: (s.trace_id != found[0].trace_id, s.start, s.span_id)):
        children.setdefault(span.parent_id if span.parent_id in known else b"", []).append(span)
    written: list[str] = []

    def write(parent: bytes, depth: int) -> None:
        for span in children.get(parent, []):
            written.extend(_lines(span, start, "  " * depth))
            write(span.span_id, depth + 1)

    write(b"", 0)
    return "\n".join(written) + "\n"


def _lines(span: Span, start: int, indent: str) -> Iterable[str]:
    status = "" if span.error is None else f" ERROR {span.error!r}"
    times = f"{(span.start - start) / 1e6:.3f}..{(span.end - start) / 1e6:.3f}"
    yield f"{indent}{span.name} [{times}] {span.trace_id.hex()[:8]}/{span.span_id.hex()}{status}"
    for name, value in sorted(span.attributes.items()):
        yield f"{indent}    {name} = {value!r}"
    for event in span.events:
        shown = ", ".join(f"{n}={v!r}" for n, v in sorted(event.attributes.items()))
        yield f"{indent}    * {event.name} [{(event.time - start) / 1e6:.3f}] {shown}"
    for link in span.links:
        yield f"{indent}    -> {link.relation} {link.trace_id.hex()[:8]}/{link.span_id.hex()}"


def expected(events: Iterable[Event]) -> tuple[dict[bytes, bytes], dict[str, bytes]]:
    """The bytes that an undisturbed fold makes of `events`, by span id and by record id."""
    output = fold(events).take()
    return {s.span_id: encode_span(s) for s in output.spans}, {r.uid: encode_log(r) for r in output.logs}


def items(kept: Mapping[object, tuple[object, Any]]) -> dict[object, bytes]:
    """A receiver's bytes without resource and scope."""
    return {key: item.SerializeToString(deterministic=True) for key, (_, item) in kept.items()}
