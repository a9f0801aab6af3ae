"""The rare frames, read and written by pamqp: everything that does not come by the thousand."""

from __future__ import annotations

import struct

from pamqp import base, exceptions, frame

from loopcast.amqp.faults import COMMAND_INVALID, SYNTAX_ERROR, Fault

__all__ = ["CHANNEL", "FRAME_OVERHEAD", "HEARTBEAT", "PROTOCOL_HEADER", "decode_method", "encode_method"]

CHANNEL = 1
"""The only channel of a connection."""

FRAME_OVERHEAD = 8
"""What a frame has around its payload: type, channel, size and the end mark (AMQP 0-9-1, 4.2.3)."""

PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
"""The first that a client says (4.2.2)."""

HEARTBEAT = b"\x08\x00\x00\x00\x00\x00\x00\xce"
"""A whole frame (4.2.7)."""

_FRAME = struct.Struct(">BHI")

_RECOVER_ASYNC = b"\x00\x3c\x00\x64"
"""What pamqp warns of when it reads it, instead of reading it."""

# pamqp lets through what its decoders meet: times that are none, tables in tables a thousand deep.
_UNREADABLE = (
    exceptions.PAMQPException,
    ValueError,
    LookupError,
    TypeError,
    ArithmeticError,
    OSError,
    RecursionError,
    struct.error,
)


def encode_method(channel: int, method: base.Frame) -> bytes:
    """Write the whole frame of a method."""
    return frame.marshal(method, channel)


def decode_method(payload: bytes) -> base.Frame:
    """
    Read the payload of a method frame.

    Raises:
        Fault: it is no method, or a field of it cannot be read.
    """
    if payload.startswith(_RECOVER_ASYNC):
        raise Fault(COMMAND_INVALID, "basic.recover-async is nothing that a broker says")
    try:
        _, _, method = frame.unmarshal(_FRAME.pack(1, 0, len(payload)) + payload + b"\xce")
    except _UNREADABLE as error:
        raise Fault(SYNTAX_ERROR, f"a method cannot be read ({error})") from None
    assert isinstance(method, base.Frame)
    return method
