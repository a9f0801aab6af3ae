"""
Every error that Loopcast raises, in one tree.

* :exc:`LoopcastError`
    * :exc:`ConfigurationError`: a setting, file or argument is wrong; the sentence says which and what to do.
    * :exc:`InvalidEvent`: what was handed over is no event; nothing was published.
        * :exc:`InvalidExperiment`: the experiment id breaks the grammar.
        * :exc:`InvalidType`: the event's type breaks the grammar.
        * :exc:`EventTooLarge`: the event is over the size limit.
        * :exc:`NotPermitted`: whoever sent the event may not send to its experiment.
    * :exc:`InvalidPosition`: a position token that no gateway made.
    * :exc:`InvalidToken`: a token or API key that permits nothing; `reason` says why in a word.
    * :exc:`KeysUnavailable`: whether a token is good cannot be said now: try again.
    * :exc:`BrokerError`
        * :exc:`BrokerUnavailable`: not connected, or the connection went while waiting: try again, same ids.
        * :exc:`BrokerBlocked`: the broker takes nothing for now (memory or disk alarm): try again later.
        * :exc:`WindowFull`: too many unconfirmed bytes: try again when some are confirmed.
        * :exc:`LogMissing`: the topic exchange or the log is not there: nothing was lost, nothing was accepted.
        * :exc:`LogChanged`: a reader came back and the log is not what it was: truncated, or made anew.
        * :exc:`TopologyMismatch`: what the broker has differs from what the settings say.
    * :exc:`StorageError`: a place does not take what is to be kept (disk full, database locked): it is tried again.
    * :exc:`NodeError`: a private RabbitMQ node cannot be had, started or asked; the sentence says what to do.
"""

from __future__ import annotations

__all__ = [
    "BrokerBlocked",
    "BrokerError",
    "BrokerUnavailable",
    "ConfigurationError",
    "EventTooLarge",
    "InvalidEvent",
    "InvalidExperiment",
    "InvalidPosition",
    "InvalidToken",
    "InvalidType",
    "KeysUnavailable",
    "LogChanged",
    "LogMissing",
    "LoopcastError",
    "NodeError",
    "NotPermitted",
    "StorageError",
    "TopologyMismatch",
    "WindowFull",
]


class LoopcastError(Exception):
    """The root of the tree."""


class ConfigurationError(LoopcastError):
    """A setting, file or argument is wrong."""


class InvalidEvent(LoopcastError):
    """What was handed over is no event."""


class InvalidExperiment(InvalidEvent):
    """The experiment id breaks the grammar."""


class InvalidType(InvalidEvent):
    """The event's type breaks the grammar."""


class EventTooLarge(InvalidEvent):
    """The event is over the size limit."""


class NotPermitted(InvalidEvent):
    """Whoever sent the event may not send to its experiment."""


class InvalidPosition(LoopcastError):
    """The position token was not made by a gateway."""


class InvalidToken(LoopcastError):
    """A token or API key permits nothing; the sentence never has a part of it."""

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason
        """missing, malformed, algorithm, unknown_key, signature, expired, early, audience, issuer or claims."""


class KeysUnavailable(LoopcastError):
    """The keys that verify tokens could not be fetched yet."""

    retry_after: float = 2.0
    """Seconds after which another try makes sense."""


class BrokerError(LoopcastError):
    """The broker did not take what it was given, or did not give what it was asked for."""

    retry_after: float = 1.0
    """Seconds after which another try makes sense."""


class BrokerUnavailable(BrokerError):
    """There is no connection, or it went while waiting: the message may have landed, so the id must be kept."""


class BrokerBlocked(BrokerError):
    """The broker raised an alarm and takes nothing from publishers (`connection.blocked`)."""

    retry_after = 5.0


class WindowFull(BrokerError):
    """The window of unconfirmed bytes is full."""


class LogMissing(BrokerError):
    """The topic exchange or a log is not there, so the event would have gone nowhere."""

    retry_after = 10.0


class LogChanged(BrokerError):
    """A reader came back to a log that had lost what it read last (`truncated`), or is another (`epoch_changed`)."""

    def __init__(self, message: str, *, reason: str = "epoch_changed") -> None:
        super().__init__(message)
        self.reason = reason


class TopologyMismatch(BrokerError):
    """The broker's objects differ from what the settings say, in a way that would lose or misplace events."""


class StorageError(LoopcastError):
    """A file or a database does not take what is to be kept: a full disk, a lock. It is tried again, from the log."""


class NodeError(LoopcastError):
    """A private RabbitMQ node cannot be had, started or asked."""
