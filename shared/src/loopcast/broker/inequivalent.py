"""
What RabbitMQ says when a queue or exchange exists with other arguments, read: pure.

A declaration is refused with 406 and a sentence that names the first argument that differs, with both values. It is the
only way that AMQP has to ask what an existing object was made with (https://www.rabbitmq.com/docs/queues,
"Property Equivalence").
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from loopcast.topology import Argument, Queue

__all__ = ["RETENTION", "Inequivalent", "retention_advice"]

RETENTION = {
    "x-max-age": "max-age",
    "x-max-length-bytes": "max-length-bytes",
    "x-stream-max-segment-size-bytes": "stream-max-segment-size-bytes",
}
"""Arguments of a stream that a policy may say instead, and what the policy calls them."""

_SENTENCE = re.compile(r"inequivalent arg '([^']+)' for .* but current is (?:none|(?:the value )?'([^']*)')")
_NUMBERS = {"x-max-length-bytes", "x-stream-max-segment-size-bytes"}


@dataclass(frozen=True, slots=True)
class Inequivalent:
    """The argument that differs, and what the broker has for it; None where it has none."""

    argument: str
    current: Argument | None

    @classmethod
    def parse(cls, sentence: str) -> Inequivalent | None:
        """Read the broker's sentence; None where it says something else."""
        match = _SENTENCE.search(sentence)
        if match is None:
            return None
        argument, value = match.groups()
        return cls(argument, int(value) if argument in _NUMBERS and value and value.isdigit() else value)

    @property
    def is_retention(self) -> bool:
        """Whether it is only about how much a stream keeps."""
        return self.argument in RETENTION


def retention_advice(queue: Queue, adopted: Mapping[str, Argument | None]) -> str:
    """
    The command that gives the stream `queue` the retention of the settings where it has `adopted`.

    A stream's policy goes before the arguments that it was declared with, in both directions (policy_precedence in
    rabbit_stream_queue.erl; for other queues the smaller limit counts).
    """
    wanted = {RETENTION[name]: queue.arguments[name] for name in adopted if name in queue.arguments}
    pattern = f"^{re.escape(queue.name)}$"
    return f"rabbitmqctl set_policy {queue.name} '{pattern}' '{json.dumps(wanted)}' --apply-to queues"
