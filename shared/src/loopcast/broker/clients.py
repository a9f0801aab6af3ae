"""Which AMQP client a service uses."""

from __future__ import annotations

from typing import Literal

from loopcast.broker.interface import Client

__all__ = ["client_of"]


def client_of(name: Literal["loopcast", "aio-pika"]) -> Client:
    """The client that `LOOPCAST_AMQP_CLIENT` names; each is imported only where it is used."""
    if name == "aio-pika":
        from loopcast.broker.aio_pika_client import AioPikaClient

        return AioPikaClient()
    from loopcast.amqp.client import AmqpClient

    return AmqpClient()
