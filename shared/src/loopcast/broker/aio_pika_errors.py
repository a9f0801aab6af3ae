"""What aio-pika raises, in our words."""

from __future__ import annotations

from aio_pika import exceptions

from loopcast.errors import BrokerError, BrokerUnavailable, LogMissing, TopologyMismatch

__all__ = ["end", "refusal", "unavailable"]


def unavailable(error: BaseException, where: str, vhost: str) -> BrokerUnavailable:
    """Why no connection to `vhost` of the broker at `where` (host and port) could be made."""
    if isinstance(error, exceptions.ProbableAuthenticationError | exceptions.AuthenticationError):
        return BrokerUnavailable(f"The broker at {where} refused the login: {_text(error)}.")
    if isinstance(error, exceptions.InvalidFrameError):
        # The library shows no more of the `connection.close` that answers `connection.open`.
        return BrokerUnavailable(
            f"The broker at {where} refused the virtual host {vhost!r}: it is not there, or not for this user."
        )
    return BrokerUnavailable(f"There is no connection to the broker at {where}: {_text(error)}.")


def end(error: BaseException) -> BrokerError:
    """Why a channel or connection ended."""
    if isinstance(error, exceptions.ChannelNotFoundEntity) and not _is_coming(error):
        return LogMissing(f"The broker does not have it: {_text(error)}.")
    if isinstance(error, exceptions.AMQPError):
        return BrokerUnavailable(f"The broker closed it: {_text(error)}.")
    return BrokerUnavailable(f"The connection to the broker was lost: {_text(error)}.")


def _is_coming(error: BaseException) -> bool:
    """
    Whether a queue is there and its leader or a stream's replica is not: so it is after a broker's start.

    RabbitMQ says the one with 404, as if there were no such queue, and the other with 406, as if it were declared
    otherwise (rabbit_stream_queue.erl, `consume`).
    """
    return any(words in _text(error) for words in ("is down or inaccessible", "have a replica on the local node"))


def refusal(error: BaseException) -> BrokerError:
    """Why an operation was refused (AMQP 0-9-1, 1.2: reply codes)."""
    if isinstance(error, exceptions.ChannelPreconditionFailed) and not _is_coming(error):
        return TopologyMismatch(f"The broker has it otherwise: {_text(error)}.")
    return end(error)


def _text(error: BaseException) -> str:
    words = " ".join(str(part) for part in error.args if part) or type(error).__name__
    return words.rstrip(".")
