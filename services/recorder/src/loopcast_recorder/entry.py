"""One event as the recorder keeps it: where it stands in the log, whose it is, and its envelope as bytes. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from loopcast.broker.interface import Delivery
from loopcast.events import format_time
from loopcast.topology import APP_ID, HEARTBEAT
from loopcast.wire import from_delivery

__all__ = ["OFFSET_BITS", "Entry", "place", "to_entry"]

OFFSET_BITS = 40
PARTITION_BITS = 8


def place(epoch: int, partition: int, offset: int) -> int:
    """
    The number `n` of the event at `offset`: it grows with the log, and no two events ever have the same.

    A log that was deleted and made anew counts its offsets from 0 again, so each such time is another `epoch`. An
    experiment lies in one partition, so `n` orders its events as the log does.
    """
    return (epoch << (OFFSET_BITS + PARTITION_BITS)) | (partition << OFFSET_BITS) | offset


class _Envelope(msgspec.Struct):
    """What is read of an envelope that the producer wrote; the rest stands in the headers."""

    data: msgspec.Raw
    time: str | None = None
    subject: str | None = None
    parentrunid: str | None = None


_envelope = msgspec.json.Decoder(_Envelope)
_object = msgspec.json.Decoder(dict[str, object])


class Entry:
    """
    An event of the log.

    Plain attributes instead of a dataclass: one is made for every event.
    """

    __slots__ = (
        "attempt", "data", "emitter", "envelope", "experiment", "id", "message_id", "offset", "parent_run", "recorded",
        "run",
        "sequence", "subject", "time", "type",
    )  # fmt: skip

    def __init__(self, delivery: Delivery, envelope: bytes, head: _Envelope, headers: Mapping[str, object]) -> None:
        self.offset = delivery.offset
        self.id = delivery.message_id
        self.message_id = delivery.message_id
        """By which a position knows it; a stranger's event may have another id."""
        self.type = delivery.type
        self.envelope = envelope
        self.data = head.data
        """The loop's own object, byte for byte."""
        self.subject = head.subject
        self.parent_run = head.parentrunid
        self.experiment = str(headers["experiment"])
        self.run = str(headers["run"])
        self.attempt = _whole(headers.get("attempt"))
        self.recorded = _whole(headers.get("recorded")) or delivery.timestamp * 1_000_000
        """When a producer took it, in microseconds since 1970; 0 where nobody said."""
        self.time = head.time or format_time(self.recorded)
        emitter, sequence = headers.get("emitter"), headers.get("sequence")
        numbered = isinstance(emitter, str) and isinstance(sequence, int)
        self.emitter = str(emitter) if numbered else None
        self.sequence = _whole(sequence) if numbered else None

    def read(self) -> dict[str, object]:
        """The loop's own object; empty where it is none, or nobody can read it."""
        try:
            return _object.decode(self.data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return {}


def to_entry(delivery: Delivery) -> Entry | None:
    """
    The event that `delivery` carries; None where it is a heartbeat.

    What the producer wrote is taken as it is, by its headers. A stranger's message is understood and encoded anew, and
    its number is not believed, because it could make events of others look like repeats.
    """
    if delivery.app_id == APP_ID:
        if delivery.type == HEARTBEAT:
            return None
        headers = delivery.headers
        if isinstance(headers.get("experiment"), str) and isinstance(headers.get("run"), str):
            try:
                return Entry(delivery, delivery.body, _envelope.decode(delivery.body), headers)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                # Somebody else's program uses our name.
                pass
    return _strange(delivery)


def _strange(delivery: Delivery) -> Entry:
    event = from_delivery(delivery)
    head = _Envelope(data=event.data, time=event.time, subject=event.subject, parentrunid=event.parent_run)
    headers = {"experiment": event.experiment, "run": event.run, "attempt": event.attempt, "recorded": event.recorded}
    entry = Entry(delivery, event.encode(), head, headers)
    entry.id, entry.type = event.id, event.type
    return entry


def _whole(value: object) -> int:
    return value if type(value) is int and value > 0 else 0
