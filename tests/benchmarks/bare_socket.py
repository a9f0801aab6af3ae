"""
What the broker itself gives and takes: a blocking socket that only counts, and one that only writes frames made before.

Nothing is parsed and nothing decided, so no client can be faster than this on the same broker.
"""

import socket
import struct
import time

import pamqp.commands
import pamqp.frame
import pamqp.header

from loopcast.amqp.publishing import Encoder

FRAME_MAX = 131072
ACK = 21
"""The size of a `basic.ack` frame: header, class, method, tag, multiple, end."""


def drain(url, count, *, ack_every):
    """Seconds in which a socket takes the log's first `count` events, acknowledging as often as a reader does."""
    c = pamqp.commands
    with _channel(url) as sock:
        _ask(sock, c.Basic.Qos(0, 4 * ack_every, False))
        begin = time.perf_counter()
        _say(sock, c.Basic.Consume(0, "loopcast.log.0", "t", arguments={"x-stream-offset": "first"}))
        # Every message holds its own body once, and no other frame holds that text.
        seen, acked, mark, rest = 0, 0, b'"specversion":"1.0"', b""
        while seen < count:
            data = rest + sock.recv(1 << 20)
            seen += data.count(mark)
            rest = data[-len(mark) + 1 :]
            if seen - acked >= ack_every:
                _say(sock, c.Basic.Ack(seen, True))
                acked = seen
        return time.perf_counter() - begin


def flood(url, messages, *, size, in_flight):
    """Seconds in which a socket has `messages` confirmed, written `size` at a time, `in_flight` writes at a time."""
    encode = Encoder(FRAME_MAX).encode
    parts = [messages[n : n + size] for n in range(0, len(messages), size)]
    writes = [b"".join(piece for message in part for piece in encode(message)) for part in parts]
    with _channel(url) as sock:
        _ask(sock, pamqp.commands.Confirm.Select())
        begin = time.perf_counter()
        sent = confirmed = 0
        rest = b""
        while confirmed < len(messages):
            while sent < len(writes) and sent * size - confirmed < in_flight * size:
                sock.sendall(writes[sent])
                sent += 1
            rest += sock.recv(1 << 16)
            whole = len(rest) // ACK * ACK
            for at in range(0, whole, ACK):
                # One stream confirms in order, so the highest tag speaks for all before it.
                confirmed = max(confirmed, struct.unpack_from(">Q", rest, at + 11)[0])
            rest = rest[whole:]
        return time.perf_counter() - begin


def _channel(url):
    host, _, vhost = url.removeprefix("amqp://guest:guest@").partition("/")
    name, _, port = host.partition(":")
    sock = socket.create_connection((name, int(port)))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    c = pamqp.commands
    sock.sendall(pamqp.header.ProtocolHeader().marshal())
    sock.recv(4096)
    _ask(sock, c.Connection.StartOk({}, "PLAIN", "\0guest\0guest", "en_US"), 0)
    _say(sock, c.Connection.TuneOk(1, FRAME_MAX, 0), 0)
    _ask(sock, c.Connection.Open(vhost), 0)
    _ask(sock, c.Channel.Open())
    return sock


def _ask(sock, method, channel=1):
    _say(sock, method, channel)
    sock.recv(4096)


def _say(sock, method, channel=1):
    sock.sendall(pamqp.frame.marshal(method, channel))
