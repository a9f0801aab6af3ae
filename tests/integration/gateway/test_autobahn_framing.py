# ruff: noqa: E501 - a case a line
"""
Autobahn's families 1 to 5 and 9 and 10 (https://github.com/crossbario/autobahn-testsuite): frames.

The suite wants a server that echoes. Ours answers a `ping` command with its id, so the payload is such a command,
filled up with white space to the size that a case wants: the answer says that the message came whole.
"""

import pytest
from websocket_wire import BINARY, CLOSE, CONT, PING, PONG, TEXT, Case, command, fragments, frame, run

SIZES = (125, 126, 127, 128, 129, 65535, 65536)
LIMIT = 65536

FRAMING = [
    *(Case(f"1.1 text of {n}", [frame(TEXT, command(size=n))], ["a"]) for n in SIZES),
    *(Case(f"1.1 text of {n}, in pieces of 997", [frame(TEXT, command(size=n))], ["a"], chop=997) for n in SIZES),
    *(Case(f"1.1 length in {w} bits", [frame(TEXT, command(size=100), length=w)], ["a"]) for w in (16, 64)),
    Case("1.1 text of 0", [frame(TEXT)], errors=1),
    Case("1.1 octet by octet", [frame(TEXT, command(size=200))], ["a"], chop=1),
    *(Case(f"1.2 binary of {n}", [frame(BINARY, b"\xfe" * n)], errors=1) for n in (0, *SIZES)),
    Case("1.2 binary, octet by octet", [frame(BINARY, b"\xfe" * 200)], errors=1, chop=1),
    Case("1 many in one write", [b"".join(frame(TEXT, command(str(n))) for n in range(9))], [str(n) for n in range(9)]),
    Case("1 mask of zeros", [frame(TEXT, command(), mask=bytes(4))], ["a"]),
    Case("1 no mask", [frame(TEXT, command(), mask=None)], ends=1002),
    Case("1 no mask on a ping", [frame(PING, b"x", mask=None)], ends=1002),
    Case("1 no mask on a close", [frame(CLOSE, b"\x03\xe8", mask=None)], ends=1002),
    Case("1 a length over 63 bits", [frame(TEXT, size=1 << 63, length=64)], ends=(1002, 1009)),
    Case("1 a length of all ones", [frame(TEXT, size=(1 << 64) - 1, length=64)], ends=(1002, 1009)),
]

HELLO = b"Hello, world!"
PINGS = [
    Case("2.1 empty", [frame(PING)], pongs=[b""]),
    Case("2.2 with text", [frame(PING, HELLO)], pongs=[HELLO]),
    Case("2.3 with bytes", [frame(PING, b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff")], pongs=[b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff"]),
    Case("2.4 of 125", [frame(PING, b"\xfe" * 125)], pongs=[b"\xfe" * 125]),
    Case("2.5 of 126", [frame(PING, b"\xfe" * 126)], ends=1002),
    Case("2.5 of 65536", [frame(PING, b"\xfe" * 65536)], ends=1002),
    Case("2.6 of 125, octet by octet", [frame(PING, b"\xfe" * 125)], pongs=[b"\xfe" * 125], chop=1),
    Case("2.7 a pong that nobody asked for", [frame(PONG)]),
    Case("2.8 the same with text", [frame(PONG, HELLO)]),
    Case("2.9 and a ping behind it", [frame(PONG, HELLO), frame(PING, b"x")], pongs=[b"x"]),
    Case("2.10 ten", [frame(PING, b"%d" % n) for n in range(10)], pongs=[b"%d" % n for n in range(10)]),
    Case("2.11 ten, octet by octet", [frame(PING, b"%d" % n) for n in range(10)], pongs=[b"%d" % n for n in range(10)], chop=1),
    Case("2 a pong of 126", [frame(PONG, b"x" * 126)], ends=1002),
    Case("2 a ping with a length in 16 bits", [frame(PING, b"x", length=16)], pongs=[b"x"]),
]  # fmt: skip

RESERVED = [
    *(Case(f"3.1 RSV {r}", [frame(TEXT, command(), rsv=r)], ends=1002) for r in range(1, 8)),
    *(Case(f"3.2 RSV {r} behind a message", [frame(TEXT, command()), frame(TEXT, command(), rsv=r), frame(PING)], ["a"], ends=1002) for r in range(1, 8)),
    *(Case(f"3.4 RSV {r}, octet by octet", [frame(TEXT, command()), frame(TEXT, command(), rsv=r)], ["a"], ends=1002, chop=1) for r in range(1, 8)),
    *(Case(f"3.5 RSV {r} on bytes", [frame(BINARY, b"\xff", rsv=r)], ends=1002) for r in range(1, 8)),
    *(Case(f"3.6 RSV {r} on a ping", [frame(PING, b"x", rsv=r)], ends=1002) for r in range(1, 8)),
    *(Case(f"3.7 RSV {r} on a close", [frame(CLOSE, rsv=r)], ends=1002) for r in range(1, 8)),
    *(Case(f"3 RSV {r} on a part", [frame(TEXT, b"{", fin=False), frame(CONT, b"}", rsv=r)], ends=1002) for r in range(1, 8)),
]  # fmt: skip

UNKNOWN = (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)
OPCODES = [
    *(Case(f"4 opcode {o}", [frame(o)], ends=1002) for o in UNKNOWN),
    *(Case(f"4 opcode {o} with a payload", [frame(o, b"reserved")], ends=1002) for o in UNKNOWN),
    *(Case(f"4 opcode {o} behind a message", [frame(TEXT, command()), frame(o), frame(PING)], ["a"], ends=1002) for o in UNKNOWN),
    *(Case(f"4 opcode {o}, octet by octet", [frame(TEXT, command()), frame(o, b"reserved"), frame(PING)], ["a"], ends=1002, chop=1) for o in UNKNOWN),
    *(Case(f"4 opcode {o} within a message", [frame(TEXT, b"{", fin=False), frame(o)], ends=1002) for o in UNKNOWN),
]  # fmt: skip

MESSAGE = command(size=60)
PARTS = fragments(MESSAGE, 30)
FRAGMENTS = [
    Case("5.1 a ping in two", [frame(PING, b"a", fin=False), frame(CONT, b"b")], ends=1002),
    Case("5.2 a pong in two", [frame(PONG, b"a", fin=False), frame(CONT, b"b")], ends=1002),
    Case("5 a close in two", [frame(CLOSE, b"\x03\xe8", fin=False)], ends=1002),
    Case("5.3 text in two", PARTS, ["a"]),
    Case("5.4 text in two, octet by octet", PARTS, ["a"], chop=1),
    Case("5.5 text in many", fragments(MESSAGE, 1), ["a"]),
    Case("5.6 a ping between", [PARTS[0], frame(PING, b"x"), PARTS[1]], ["a"], pongs=[b"x"]),
    Case("5.7 a ping between, octet by octet", [PARTS[0], frame(PING, b"x"), PARTS[1]], ["a"], pongs=[b"x"], chop=1),
    Case("5.8 a pong between", [PARTS[0], frame(PONG, b"x"), PARTS[1]], ["a"]),
    Case("5.9 a part of nothing", [frame(CONT, b"no"), frame(TEXT, command())], ends=1002),
    Case("5.10 a last part of nothing", [frame(CONT, b"no", fin=True)], ends=1002),
    Case("5.11 the same, octet by octet", [frame(CONT, b"no"), frame(TEXT, command())], ends=1002, chop=1),
    Case("5.12 a first part of nothing", [frame(CONT, b"no", fin=False), frame(TEXT, command())], ends=1002),
    Case("5.13 behind a message", [frame(TEXT, command()), frame(CONT, b"no", fin=False)], ["a"], ends=1002),
    Case("5.15 behind the last part", [*PARTS, frame(CONT, b"no", fin=False), frame(TEXT, command())], ["a"], ends=1002),
    Case("5.16 over and over", [frame(CONT, b"no", fin=False), frame(TEXT, b"a"), frame(CONT, b"no")] * 2, ends=1002),
    Case("5.17 over and over, final", [frame(CONT, b"no"), frame(TEXT, b"a"), frame(CONT, b"no")] * 2, ends=1002),
    Case("5.18 text within text", [PARTS[0], frame(TEXT, command())], ends=1002),
    Case("5.18 bytes within text", [PARTS[0], frame(BINARY, b"x")], ends=1002),
    Case("5.18 text within bytes", [frame(BINARY, b"x", fin=False), frame(TEXT, command())], errors=1, ends=1002),
    Case("5.19 pings all over", fragments(MESSAGE, 12, between=[frame(PING, b"x")]), ["a"], pongs=[b"x"] * 4),
    Case("5.20 the same, octet by octet", fragments(MESSAGE, 12, between=[frame(PING, b"x")]), ["a"], pongs=[b"x"] * 4, chop=1),
    Case("5 empty parts", [frame(TEXT, b"", fin=False), *[frame(CONT, b"", fin=False)] * 8, frame(CONT, MESSAGE)], ["a"]),
    Case("5 nothing but empty parts", [frame(TEXT, b"", fin=False), frame(CONT, b"", fin=False), frame(CONT, b"")], errors=1),
    Case("5 bytes in two", [frame(BINARY, b"x", fin=False), frame(CONT, b"y")], errors=1),
    Case("5 text behind bytes in two", [frame(BINARY, b"x", fin=False), frame(CONT, b"y"), *PARTS], ["a"], errors=1),
    Case("5 a close within a message", [PARTS[0], frame(CLOSE, b"\x03\xe8")], ends=(1000, 1002)),
]  # fmt: skip

LARGE = [
    *(Case(f"9.3 the limit in parts of {n}", fragments(command(size=LIMIT), n), ["a"]) for n in (64, 256, 1024, 4096, 16384, 65535)),
    *(Case(f"9.7 {size} in pieces of {n}", [frame(TEXT, command(size=size))], ["a"], chop=n) for size in (16384, LIMIT) for n in (64, 512, 4096)),
    *(Case(f"9 one more than the limit in parts of {n}", fragments(command(size=LIMIT + 1), n), ends=1009) for n in (256, 65536)),
    *(Case(f"9 {size} at once", [frame(TEXT, command(size=size))], ends=1009) for size in (LIMIT + 1, 1 << 20)),
    *(Case(f"9 bytes, {size}", [frame(BINARY, bytes(size))], ends=1009) for size in (LIMIT + 1, 1 << 20)),
    *(Case(f"9 the claim of {size}", [frame(TEXT, b"{", size=size)], ends=1009) for size in (LIMIT + 1, 1 << 24, 1 << 31, 1 << 40, (1 << 63) - 1)),
    Case("9 1,024 parts", fragments(command(size=1024), 1), ["a"]),
    Case("9 1,025 parts", fragments(command(size=1025), 1), ends=1009),
    Case("9 empty parts without end", [b"".join([frame(TEXT, b"", fin=False), *[frame(CONT, b"", fin=False)] * 2000])], ends=(1009, 4013)),
    Case("10.1 the limit in parts of 1300", fragments(command(size=LIMIT), 1300), ["a"]),
    Case("10.1 the same in pieces of 1301", fragments(command(size=LIMIT), 1300), ["a"], chop=1301),
]  # fmt: skip

ALL = [*FRAMING, *PINGS, *RESERVED, *OPCODES, *FRAGMENTS, *LARGE]


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)
async def test_frames(wire, case):
    """Each case has the answers, the pongs and the close code that RFC 6455 asks for, and nothing more."""
    await run(wire, case)
