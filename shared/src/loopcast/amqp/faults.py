"""What ends a connection from inside the protocol, with the reply codes of AMQP 0-9-1, 1.2 ("constants")."""

from __future__ import annotations

__all__ = ["CHANNEL_ERROR", "COMMAND_INVALID", "FRAME_ERROR", "SYNTAX_ERROR", "UNEXPECTED_FRAME", "Fault"]

FRAME_ERROR = 501
"""A malformed frame (4.2.3, 4.2.6)."""

SYNTAX_ERROR = 502
"""A frame whose fields cannot be read."""

COMMAND_INVALID = 503
"""A method out of its order."""

CHANNEL_ERROR = 504
"""A frame for a channel that is not open."""

UNEXPECTED_FRAME = 505
"""A content frame where none was announced, or another frame inside a content (4.2.6)."""


class Fault(Exception):
    """The peer broke the protocol: the connection has to be closed with `code`."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
