"""A WebSocket client that sends what it is told, byte for byte (RFC 6455), and reads what comes back."""

import asyncio
import json
import struct
from dataclasses import dataclass, field

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

REQUEST = {
    "Host": "127.0.0.1",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Protocol": "loopcast.v1.json",
}


def handshake(path="/ws", line="GET {} HTTP/1.1", **changes):
    """A request to upgrade; a header that is None is left out, a list stands several times."""
    fields = {**REQUEST, **{name.replace("_", "-"): value for name, value in changes.items()}}
    lines = [line.format(path)]
    for name, value in fields.items():
        lines += [f"{name}: {one}" for one in (value if isinstance(value, list) else [value]) if one is not None]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def frame(opcode, payload=b"", *, fin=True, rsv=0, mask=b"\x37\xfa\x21\x3d", size=None, length=None):
    """
    One frame.

    `size` is what it claims to have; `length` (7, 16 or 64) the width of that number; no `mask`, and it has none.
    """
    size = len(payload) if size is None else size
    width = length or (7 if size < 126 else 16 if size < 1 << 16 else 64)
    marked = 0x80 if mask is not None else 0
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    if width == 7:
        head += bytes([marked | size])
    elif width == 16:
        head += bytes([marked | 126]) + struct.pack(">H", size)
    else:
        head += bytes([marked | 127]) + struct.pack(">Q", size)
    if mask is None:
        return head + payload
    return head + mask + bytes(byte ^ mask[n % 4] for n, byte in enumerate(payload))


def fragments(payload, size, *, opcode=TEXT, between=()):
    """`payload` in frames of `size` bytes, with the frames `between` after each but the last."""
    parts = [payload[n : n + size] for n in range(0, len(payload), size)] or [b""]
    found = []
    for n, part in enumerate(parts):
        last = n == len(parts) - 1
        found.append(frame(CONT if n else opcode, part, fin=last))
        found += [] if last else list(between)
    return found


def close(code=None, reason=b"", **more):
    """A close frame; without a code it is empty."""
    return frame(CLOSE, b"" if code is None else struct.pack(">H", code) + reason, **more)


def command(id_="a", size=0):
    """The command `ping`, whose answer repeats `id_`, filled up to `size` bytes."""
    text = json.dumps({"id": id_, "action": "ping"}, ensure_ascii=False).encode("utf-8", "surrogateescape")
    return text + b" " * (size - len(text))


@dataclass
class Case:
    """What is sent, and what has to come: pongs by their bytes, answers by their ids, and how it ends."""

    name: str
    sends: list[bytes]
    answers: list[str] = field(default_factory=list)
    """Ids of commands that are answered, in this order."""
    pongs: list[bytes] = field(default_factory=list)
    errors: int = 0
    """How many messages are refused."""
    ends: int | tuple[int, ...] | None = None
    """The code of the server's close frame (0 is an empty one), or several that would do; None: it stays open."""
    chop: int = 0
    """How many bytes are written at a time; 0 is each frame as it is."""


class Peer:
    """One connection."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer
        self.head = b""

    @classmethod
    async def connect(cls, port, request=None):
        """Open one and upgrade it; with `request`, whatever that does."""
        peer = cls(*await asyncio.open_connection("127.0.0.1", port))
        peer.writer.write(handshake() if request is None else request)
        if request is None:
            peer.head = await asyncio.wait_for(peer.reader.readuntil(b"\r\n\r\n"), 10)
            assert peer.head.startswith(b"HTTP/1.1 101 "), peer.head
            opcode, payload = await peer.read()
            assert (TEXT, "welcome") == (opcode, json.loads(payload)["type"])
        return peer

    async def write(self, data, chop=0):
        """Send bytes, `chop` at a time."""
        for start in range(0, len(data), chop or len(data) or 1):
            self.writer.write(data[start : start + (chop or len(data))])
            if chop:
                await asyncio.sleep(0)
        await self.writer.drain()

    async def read(self, seconds=10):
        """The next frame: opcode and payload. A server's is whole and has no mask (RFC 6455, 5.1)."""
        async with asyncio.timeout(seconds):
            first, second = await self.reader.readexactly(2)
            assert first & 0xF0 == 0x80, "final, no reserved bit"
            assert second < 0x80, "not masked"
            size = second
            if second == 126:
                (size,) = struct.unpack(">H", await self.reader.readexactly(2))
            elif second == 127:
                (size,) = struct.unpack(">Q", await self.reader.readexactly(8))
            return first & 0x0F, await self.reader.readexactly(size)

    async def gone(self, seconds=10):
        """Whether the server has sent nothing more and closed."""
        async with asyncio.timeout(seconds):
            return await self.reader.read() == b""

    def abandon(self):
        self.writer.transport.abort()


async def run(port, case):  # noqa: PLR0912 - a table's one reader
    """Play `case` on a connection of its own."""
    peer = await Peer.connect(port)
    try:
        answers, pongs, errors = [], [], 0
        data = b"".join(case.sends)
        if case.chop:
            await peer.write(data, case.chop)
        else:
            for part in case.sends:
                await peer.write(part)
        if case.ends is None:
            await peer.write(frame(TEXT, command("the end")))
        while True:
            opcode, payload = await peer.read()
            if opcode == PONG:
                pongs.append(payload)
            elif opcode == CLOSE:
                found = struct.unpack(">H", payload[:2])[0] if payload else 0
                assert case.ends is not None, f"closed with {found}: {payload[2:]}"
                assert found in (case.ends if isinstance(case.ends, tuple) else (case.ends,))
                payload[2:].decode()
                if not any(part[:1] and part[0] & 0x0F == CLOSE for part in case.sends):
                    peer.writer.write(close(1000))
                assert await peer.gone(), "nothing comes behind a close frame"
                break
            else:
                answer = json.loads(payload)
                if answer["type"] == "error":
                    errors += 1
                elif answer.get("id") == "the end":
                    break
                else:
                    # A gateway that has been without a broker for a while says so, though nobody asked.
                    answers += [] if answer["type"] == "log" else [answer["id"]]
        assert (case.answers, case.pongs, case.errors) == (answers, pongs, errors)
    finally:
        peer.abandon()
