"""An AMQP URL as RabbitMQ writes it, in aio-pika's words: pure."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlencode, urlsplit

__all__ = ["HEARTBEAT_SECONDS", "translate"]

HEARTBEAT_SECONDS = 10
"""
Where the URL says nothing. aio-pika gives a silent connection up after three and a bit of them; with its own minute, a
cut cable would go unnoticed for three.
"""

_NAMES = {"cacertfile": "cafile", "auth_mechanism": "auth"}


def translate(url: str, *, heartbeat: int | None = None) -> str:
    """
    `url` with its query (https://www.rabbitmq.com/docs/uri-query-parameters) as aio-pika has it.

    `heartbeat` (seconds), where given, goes before what the URL says.
    """
    parts = urlsplit(url)
    query = {"heartbeat": str(HEARTBEAT_SECONDS)}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name == "verify":
            query["no_verify_ssl"] = "1" if value == "verify_none" else "0"
        else:
            query[_NAMES.get(name, name)] = value
    if heartbeat is not None:
        query["heartbeat"] = str(heartbeat)
    return parts._replace(query=urlencode(query)).geturl()
