"""One event as the gateway knows it: where it stands in the log, whose it is, and its envelope as bytes."""

from __future__ import annotations

from loopcast.broker.interface import Delivery
from loopcast.position import Position
from loopcast.repeats import Repeats
from loopcast.topology import APP_ID, HEARTBEAT
from loopcast.wire import from_delivery
from loopcast_gateway.frames import event_frame

__all__ = ["Entry", "is_repeat", "recorded_by", "to_entry"]


class Entry:
    """
    An event of the log.

    Plain attributes instead of a dataclass: one is made for every event. What is built from it, the position's text
    and the frame for live viewers, is built once and kept.
    """

    __slots__ = ("_frame", "_pos", "envelope", "experiment", "id", "offset", "partition", "recorded", "run", "type")

    def __init__(
        self,
        *,
        partition: int,
        offset: int,
        id: str,  # noqa: A002 - the name of the AMQP property, less its prefix
        experiment: str,
        type: str,  # noqa: A002 - the name of the CloudEvents attribute
        recorded: int,
        envelope: bytes,
        run: str = "",
    ) -> None:
        self.partition = partition
        self.offset = offset
        self.id = id
        """The `message_id`, by which a position knows it."""
        self.experiment = experiment
        self.type = type
        self.recorded = recorded
        """When a producer took it, in microseconds since 1970; 0 where nobody said."""
        self.envelope = envelope
        self.run = run
        """The run's id; empty where nobody said."""
        self._pos: str | None = None
        self._frame: bytes | None = None

    @property
    def size(self) -> int:
        """What it takes of a ring's bytes: the envelope and about as much as the object itself has."""
        return len(self.envelope) + 400

    @property
    def position(self) -> Position:
        """Its place, with the anchor that proves it."""
        return Position.of(self.partition, self.offset, self.id)

    @property
    def pos(self) -> str:
        """Its place as a client keeps it."""
        if self._pos is None:
            self._pos = str(self.position)
        return self._pos

    def live_frame(self, *, several: bool) -> bytes:
        """The frame for viewers that see it as it comes; `several` partitions are told apart by `p`."""
        if self._frame is None:
            self._frame = event_frame(self.pos, self.envelope, partition=self.partition if several else None)
        return self._frame

    def replay_frame(self, *, several: bool) -> bytes:
        """The frame for a viewer that sees it later."""
        return event_frame(self.pos, self.envelope, replay=True, partition=self.partition if several else None)


def to_entry(delivery: Delivery, partition: int) -> Entry | None:
    """
    The event that `delivery` carries; None where it is a heartbeat.

    What the producer wrote is taken as it is, by its headers. A stranger's message is understood and encoded anew,
    because a frame is spliced from it.
    """
    experiment = delivery.headers.get("experiment")
    recorded, run = delivery.headers.get("recorded"), delivery.headers.get("run")
    if delivery.app_id == APP_ID and isinstance(experiment, str):
        type_, envelope = delivery.type, delivery.body
    elif delivery.app_id == APP_ID and delivery.type == HEARTBEAT:
        return None
    else:
        event = from_delivery(delivery)
        experiment, type_, envelope, recorded = event.experiment, event.type, event.encode(), event.recorded
        run = event.run
    return Entry(
        partition=partition,
        offset=delivery.offset,
        id=delivery.message_id,
        experiment=experiment,
        type=type_,
        recorded=recorded if isinstance(recorded, int) else delivery.timestamp * 1_000_000,
        envelope=envelope,
        run=run if isinstance(run, str) else "",
    )


def recorded_by(delivery: Delivery) -> int:
    """When `delivery`, which need be no event, was recorded at the latest, in microseconds; 0 where nobody said."""
    recorded = delivery.headers.get("recorded")
    if isinstance(recorded, int):
        return recorded
    # AMQP's timestamps are the beginnings of seconds.
    return delivery.timestamp * 1_000_000 + 999_999 if delivery.timestamp else 0


def is_repeat(delivery: Delivery, repeats: Repeats) -> bool:
    """
    Whether the log had the event of `delivery` before; if not, `repeats` knows it now.

    A stranger's numbers are not believed, because they could make events of others look like repeats.
    """
    headers, id_ = delivery.headers, delivery.message_id
    run, emitter, sequence = headers.get("run"), headers.get("emitter"), headers.get("sequence")
    ours = delivery.app_id == APP_ID
    if ours and isinstance(run, str) and isinstance(emitter, str) and isinstance(sequence, int):
        return repeats.seen(run, emitter, sequence, id_)
    return bool(id_) and repeats.seen("", None, None, id_)
