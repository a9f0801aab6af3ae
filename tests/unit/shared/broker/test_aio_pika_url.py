"""URLs as RabbitMQ writes them mean the same to every client."""

from __future__ import annotations

import pytest

from loopcast.broker.aio_pika_url import translate


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("amqp://guest:guest@127.0.0.1:5672/", "amqp://guest:guest@127.0.0.1:5672/?heartbeat=10"),
        ("amqp://host/%2Fa%20b?heartbeat=3", "amqp://host/%2Fa%20b?heartbeat=3"),
        (
            "amqps://u:p%40ss@host/v?cacertfile=/run/ca.pem&verify=verify_none",
            "amqps://u:p%40ss@host/v?heartbeat=10&cafile=%2Frun%2Fca.pem&no_verify_ssl=1",
        ),
        ("amqps://host?verify=verify_peer", "amqps://host?heartbeat=10&no_verify_ssl=0"),
        ("amqps://host?auth_mechanism=external", "amqps://host?heartbeat=10&auth=external"),
    ],
)
def test_a_query_is_put_into_the_librarys_words(url: str, expected: str) -> None:
    """Credentials, host and path stay as they are; the query says what the library calls it."""
    assert expected == translate(url)
