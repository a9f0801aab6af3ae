"""
Every name in the broker, and what each object is made of: the only list of them.

Pure: :mod:`loopcast.broker.declare` applies a :class:`Topology` to a broker, `loopcast topology export` writes it as
RabbitMQ's definitions, and a test holds both equal to the manifests.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from loopcast.errors import ConfigurationError

__all__ = [
    "APP_ID",
    "CLOUDEVENT",
    "EVENTS",
    "HEARTBEAT",
    "MAX_PARTITIONS",
    "OTEL_DEAD",
    "WEBHOOK_NAME",
    "Binding",
    "Exchange",
    "Queue",
    "Topology",
    "checkpoint_stream",
    "lease_queue",
    "log_stream",
    "member_queue",
    "parse_age",
    "webhook_dead_letters",
    "webhook_names",
    "webhook_queue",
    "webhook_state",
]

EVENTS = "loopcast.events"
"""The topic exchange that everything is published to."""

LOG = "loopcast.log"
"""The default name of the log."""

HEARTBEAT = "loopcast.heartbeat"
"""The `type` of the records by which gateways prove where the log ends; readers skip them."""

APP_ID = "loopcast"
"""The `app_id` of messages whose body is an envelope of ours; only the producer's user may set it."""

CLOUDEVENT = "application/cloudevents+json"
"""The content type of those bodies."""

OTEL_DEAD = "loopcast.otel.dead"
"""The quorum queue of what OTLP backends refused for good."""

SEGMENT_BYTES = 64 * 1024 * 1024
"""Retention drops whole segments, so this is how fine it is."""

CHECKPOINT_BYTES = 32 * 1024 * 1024
CHECKPOINT_SEGMENT_BYTES = 16 * 1024 * 1024

MAX_PARTITIONS = 255
"""A position token has one byte for the partition."""

MAX_NAME_BYTES = 255
"""A name is a short string (AMQP 0-9-1, 4.2.5.3)."""

WEBHOOK_NAME = re.compile(r"[a-z0-9-]{1,63}\Z")
"""What an endpoint may be called: its name is part of three objects' names."""

Argument = str | int | bool
_AGE = re.compile(r"([1-9][0-9]*)([YMDhms])\Z")
_UNITS = {"Y": 365 * 86400, "M": 30 * 86400, "D": 86400, "h": 3600, "m": 60, "s": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """A durable exchange."""

    name: str
    kind: Literal["topic", "headers", "fanout"]
    arguments: Mapping[str, Argument] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """A durable queue or stream."""

    name: str
    kind: Literal["quorum", "stream"]
    arguments: Mapping[str, Argument] = field(default_factory=dict)

    @property
    def declared(self) -> dict[str, Argument]:
        """The arguments as `queue.declare` takes them, the kind included."""
        return {"x-queue-type": self.kind, **self.arguments}


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """From an exchange to a queue or an exchange."""

    source: str
    destination: str
    to: Literal["queue", "exchange"]
    key: str = ""
    arguments: Mapping[str, Argument] = field(default_factory=dict)


def webhook_queue(endpoint: str) -> Queue:
    """
    One endpoint's work.

    A large delivery limit is the only setting that loses nothing and keeps the order on 3.10 and on 4.x: without one,
    4.x drops a message after 20 returns; -1 drops it at once on 3.10. No length limit, because a full queue that
    refuses stops the publishers of every other queue (measured; https://www.rabbitmq.com/docs/quorum-queues).
    """
    return Queue(
        name=f"loopcast.webhook.{endpoint}",
        kind="quorum",
        arguments={"x-single-active-consumer": True, "x-delivery-limit": 1_000_000_000},
    )


def webhook_dead_letters(endpoint: str) -> Queue:
    """What one endpoint was not delivered."""
    return Queue(name=f"loopcast.webhook.{endpoint}.dead", kind="quorum", arguments={"x-delivery-limit": 1_000_000_000})


def webhook_state(endpoint: str) -> Queue:
    """What the forwarder's replicas and the command line tell each other about one endpoint."""
    return Queue(
        name=f"loopcast.state.webhook.{endpoint}",
        kind="stream",
        arguments={"x-max-length-bytes": 32_000_000, "x-stream-max-segment-size-bytes": 16_000_000},
    )


def webhook_names() -> Queue:
    """Which endpoints forwarders have run: what is left of one that its file no longer has is found by it."""
    return Queue(
        # Where a forwarder may write anyway, and no endpoint can have such a name.
        name="loopcast.state.webhook._names",
        kind="stream",
        arguments={"x-max-length-bytes": 32_000_000, "x-stream-max-segment-size-bytes": 16_000_000},
    )


def log_stream(log: str, partition: int) -> str:
    """The name of the stream that keeps one partition of the log."""
    return f"{log}.{partition}"


def lease_queue(reader: str, partition: int) -> str:
    """The exclusive queue whose holder reads `partition` for `reader`."""
    return f"loopcast.lease.{reader}.{partition}"


def member_queue(reader: str, number: int) -> str:
    """The exclusive queue by which a replica of `reader` is counted."""
    return f"loopcast.lease.{reader}.member.{number}"


def checkpoint_stream(reader: str, partition: int) -> Queue:
    """The small stream that keeps what `reader` knows of `partition`."""
    return Queue(
        name=f"loopcast.checkpoint.{reader}.{partition}",
        kind="stream",
        arguments={
            "x-max-length-bytes": CHECKPOINT_BYTES,
            "x-stream-max-segment-size-bytes": CHECKPOINT_SEGMENT_BYTES,
        },
    )


def parse_age(age: str) -> int:
    """
    A retention age as RabbitMQ writes it (`7D`, `12h`; Y, M, D, h, m, s) in seconds.

    Raises:
        ValueError: it is not one.
    """
    match = _AGE.match(age)
    if match is None:
        raise ValueError(f"{age!r} is no age; write a number and one of Y, M, D, h, m, s, such as 7D")
    return int(match[1]) * _UNITS[match[2]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """
    The exchanges and the log of one installation. Webhook, state, lease and checkpoint objects are not here.

    Raises:
        ConfigurationError: the number of partitions is out of range, or the log's name would be no name or another
            object's.
    """

    partitions: int = 1
    log: str = LOG
    log_bindings: tuple[str, ...] = ("#",)
    max_age: str = "7D"
    max_bytes: int = 5_000_000_000

    def __post_init__(self) -> None:
        if not 1 <= self.partitions <= MAX_PARTITIONS:
            raise ConfigurationError(
                f"The number of partitions must be 1 to {MAX_PARTITIONS}, not {self.partitions} (LOOPCAST_PARTITIONS)."
            )
        if not self.log or len(self.marker.name.encode()) > MAX_NAME_BYTES or self.log == EVENTS:
            raise ConfigurationError(f"{self.log[:60]!r} cannot be the log's name: choose one such as {LOG}.")

    @property
    def streams(self) -> tuple[str, ...]:
        """The names of the log's streams, by partition."""
        return tuple(log_stream(self.log, n) for n in range(self.partitions))

    @property
    def stray(self) -> str:
        """Where events go that match no partition: counted and alarmed, never in another partition."""
        return f"{self.log}.stray"

    @property
    def marker(self) -> Exchange:
        """
        An exchange that nobody publishes to: it keeps the number of partitions.

        The broker compares one argument of an exchange on redeclaration, its alternate exchange, so that a service
        that believes in another number is refused (406) instead of spreading events over the wrong streams.
        """
        return Exchange(
            name=f"{self.log}.partitions", kind="fanout", arguments={"alternate-exchange": str(self.partitions)}
        )

    @property
    def exchanges(self) -> tuple[Exchange, ...]:
        """In an order in which they can be declared."""
        events = Exchange(name=EVENTS, kind="topic")
        if self.partitions == 1:
            return (events, self.marker)
        return (
            events,
            self.marker,
            Exchange(name=self.stray, kind="fanout"),
            Exchange(name=self.log, kind="headers", arguments={"alternate-exchange": self.stray}),
        )

    @property
    def queues(self) -> tuple[Queue, ...]:
        """The streams of the log, and the stray queue where there is more than one."""
        arguments: dict[str, Argument] = {
            "x-max-age": self.max_age,
            "x-max-length-bytes": self.max_bytes,
            "x-stream-max-segment-size-bytes": SEGMENT_BYTES,
        }
        streams = tuple(Queue(name=name, kind="stream", arguments=arguments) for name in self.streams)
        return streams if self.partitions == 1 else (*streams, Queue(name=self.stray, kind="quorum"))

    @property
    def bindings(self) -> tuple[Binding, ...]:
        """What leads from the topic exchange into the log."""
        if self.partitions == 1:
            stream = self.streams[0]
            return tuple(Binding(source=EVENTS, destination=stream, to="queue", key=key) for key in self.log_bindings)
        return (
            *(Binding(source=EVENTS, destination=self.log, to="exchange", key=key) for key in self.log_bindings),
            *(
                Binding(
                    source=self.log,
                    destination=stream,
                    to="queue",
                    arguments={"x-match": "all", "partition": partition},
                )
                for partition, stream in enumerate(self.streams)
            ),
            Binding(source=self.stray, destination=self.stray, to="queue"),
        )

    def definitions(self, vhost: str = "/") -> dict[str, list[dict[str, object]]]:
        """The same as RabbitMQ's definitions file has it (`rabbitmqctl import_definitions`)."""
        return {
            "exchanges": [
                {
                    "name": e.name,
                    "vhost": vhost,
                    "type": e.kind,
                    "durable": True,
                    "auto_delete": False,
                    "internal": False,
                    "arguments": dict(e.arguments),
                }
                for e in self.exchanges
            ],
            "queues": [
                {
                    "name": q.name,
                    "vhost": vhost,
                    "durable": True,
                    "auto_delete": False,
                    "arguments": q.declared,
                }
                for q in self.queues
            ],
            "bindings": [
                {
                    "source": b.source,
                    "vhost": vhost,
                    "destination": b.destination,
                    "destination_type": b.to,
                    "routing_key": b.key,
                    "arguments": dict(b.arguments),
                }
                for b in self.bindings
            ],
        }
