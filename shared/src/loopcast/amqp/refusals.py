"""The broker's reasons in our words (reply codes: AMQP 0-9-1, 1.2)."""

from __future__ import annotations

from loopcast.errors import BrokerError, BrokerUnavailable, LogMissing

__all__ = ["cancelled", "channel_closed", "connection_closed", "lost", "silent"]

_ACCESS_REFUSED = 403
_NOT_FOUND = 404


def connection_closed(code: int, text: str) -> BrokerError:
    """Why the broker closed the connection: a login refused, no such vhost, an operator."""
    if code == _ACCESS_REFUSED:
        return BrokerUnavailable(f"The broker refused the login: {_words(code, text)}.")
    return BrokerUnavailable(f"The broker closed the connection: {_words(code, text)}.")


def channel_closed(code: int, text: str) -> BrokerError:
    """Why the broker closed the channel: the exchange or queue is not there, a permission, an acknowledgement late."""
    if code == _NOT_FOUND:
        return LogMissing(f"The broker does not have it: {_words(code, text)}.")
    return BrokerUnavailable(f"The broker closed the channel: {_words(code, text)}.")


def cancelled() -> BrokerError:
    """Why a consumer ended that nobody ended (https://www.rabbitmq.com/docs/consumer-cancel)."""
    return LogMissing("The broker cancelled the consumer: the queue was deleted, or moved to another node.")


def silent(seconds: float) -> BrokerError:
    """Why a connection is given up that nobody closed (AMQP 0-9-1, 4.2.7)."""
    return BrokerUnavailable(
        f"The broker was silent for {seconds:g} s, heartbeats included: the network is cut, or the broker stands still."
    )


def lost(error: Exception | None, *, greeted: bool) -> BrokerError:
    """Why the connection ended without a word."""
    if not greeted:
        return BrokerUnavailable(
            "What was connected to hung up before it said anything of AMQP: is it the right port, and does it want "
            "TLS (amqps://)?"
        )
    reason = f": {error}" if error is not None and str(error) else ""
    return BrokerUnavailable(f"The connection to the broker was lost{reason}.")


def _words(code: int, text: str) -> str:
    return f"{text.strip().rstrip('.') or 'no reason given'} ({code})"
