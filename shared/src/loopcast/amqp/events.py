"""What a connection tells its shell."""

from __future__ import annotations

from dataclasses import dataclass

from loopcast.amqp.confirms import Settled
from loopcast.broker.interface import Delivery
from loopcast.errors import BrokerError

__all__ = ["Closed", "Event", "Ready", "Settled"]


@dataclass(frozen=True, slots=True)
class Ready:
    """The channel is open and set up; heartbeats are due every `heartbeat` seconds, 0 for never."""

    heartbeat: float


@dataclass(frozen=True, slots=True)
class Closed:
    """The connection is over: what is left to send is to be sent, and the socket closed. None if it was asked for."""

    error: BrokerError | None


Event = Ready | Settled | list[Delivery] | Closed
