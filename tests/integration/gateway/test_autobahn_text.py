# ruff: noqa: E501 - a case a line
"""
Autobahn's families 6 and 7 (https://github.com/crossbario/autobahn-testsuite): UTF-8 and the closing handshake.

The texts of family 6 are Markus Kuhn's (https://www.cl.cam.ac.uk/~mgk25/ucs/examples/UTF-8-test.txt).
"""

import pytest
from websocket_wire import CLOSE, CONT, PING, TEXT, Case, close, command, fragments, frame, run

GREEK = "κόσμε"
VALID = {
    "6.2 latin": "Hello-µ@ßöäüàá-UTF-8!!",
    "6.5 greek": GREEK,
    "6.6 2 bytes": "\u00c2\u00a9",
    "6.7 first of 1": "\x7f",
    "6.7 first of 2": "\u0080",
    "6.7 first of 3": "\u0800",
    "6.7 first of 4": "\U00010000",
    "6.9 last of 2": "\u07ff",
    "6.9 last of 3": "\uffff",
    "6.9 last of 4": "\U0010ffff",
    "6.11 before the surrogates": "\ud7ff",
    "6.11 behind the surrogates": "\ue000",
    "6.11 replacement": "\ufffd",
    "6.22 non-characters": "\ufffe\uffff\U0001fffe\U0001ffff\U0010fffe\U0010ffff",
    "6 a flag of two": "🇨🇦",
    "6 joined": "👩‍🚀",
}
INVALID = {
    "6.3 a surrogate behind text": b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited",
    "6.4 beyond the end": b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4\x90\x80\x80edited",
    "6.8 first of 5": b"\xf8\x88\x80\x80\x80",
    "6.8 first of 6": b"\xfc\x84\x80\x80\x80\x80",
    "6.10 last of 4": b"\xf7\xbf\xbf\xbf",
    "6.10 last of 5": b"\xfb\xbf\xbf\xbf\xbf",
    "6.10 last of 6": b"\xfd\xbf\xbf\xbf\xbf\xbf",
    "6.11 one beyond the end": b"\xf4\x90\x80\x80",
    "6.12 0x80": b"\x80",
    "6.12 0xbf": b"\xbf",
    "6.12 2 of them": b"\x80\xbf",
    "6.12 3 of them": b"\x80\xbf\x80",
    "6.12 7 of them": b"\x80\xbf\x80\xbf\x80\xbf\x80",
    "6.13 lonely starts of 2": bytes(n for c in range(0xC0, 0xE0) for n in (c, 0x20)),
    "6.13 lonely starts of 3": bytes(n for c in range(0xE0, 0xF0) for n in (c, 0x20)),
    "6.13 lonely starts of 4": bytes(n for c in range(0xF0, 0xF8) for n in (c, 0x20)),
    "6.13 lonely starts of 5": bytes(n for c in range(0xF8, 0xFC) for n in (c, 0x20)),
    "6.13 lonely starts of 6": b"\xfc \xfd ",
    "6.14 cut in 2": b"\xc0",
    "6.14 cut in 3": b"\xe0\x80",
    "6.14 cut in 4": b"\xf0\x80\x80",
    "6.14 cut in 3, at the end": b"\xef\xbf",
    "6.14 cut in 4, at the end": b"\xf7\xbf\xbf",
    "6.15 cut again and again": b"\xc0\xe0\x80\xf0\x80\x80\xf8\x80\x80\x80",
    "6.16 0xfe": b"\xfe",
    "6.16 0xff": b"\xff",
    "6.16 both": b"\xfe\xfe\xff\xff",
    "6.17 overlong 2": b"\xc0\xaf",
    "6.17 overlong 3": b"\xe0\x80\xaf",
    "6.17 overlong 4": b"\xf0\x80\x80\xaf",
    "6.17 overlong 5": b"\xf8\x80\x80\x80\xaf",
    "6.18 the last overlong 2": b"\xc1\xbf",
    "6.18 the last overlong 3": b"\xe0\x9f\xbf",
    "6.18 the last overlong 4": b"\xf0\x8f\xbf\xbf",
    "6.19 overlong NUL of 2": b"\xc0\x80",
    "6.19 overlong NUL of 3": b"\xe0\x80\x80",
    "6.19 overlong NUL of 4": b"\xf0\x80\x80\x80",
    **{f"6.20 surrogate {n:x}": chr(n).encode("utf-8", "surrogatepass") for n in (0xD800, 0xDB7F, 0xDB80, 0xDBFF, 0xDC00, 0xDF80, 0xDFFF)},
    **{f"6.21 pair {a:x} {b:x}": (chr(a) + chr(b)).encode("utf-8", "surrogatepass") for a in (0xD800, 0xDB7F, 0xDBFF) for b in (0xDC00, 0xDFFF)},
}  # fmt: skip


def around(bad):
    return command("@@").replace(b"@@", bad)


UTF8 = [
    Case("6.1 empty parts", [frame(TEXT, b"", fin=False), frame(CONT, b"", fin=False), frame(CONT, command())], ["a"]),
    *(Case(name, [frame(TEXT, command(text))], [text]) for name, text in VALID.items()),
    *(Case(f"{name}, a byte a frame", fragments(command(text), 1), [text]) for name, text in VALID.items()),
    *(Case(f"{name}, octet by octet", [frame(TEXT, command(text))], [text], chop=1) for name, text in VALID.items()),
    *(Case(name, [frame(TEXT, around(bad))], ends=1007) for name, bad in INVALID.items()),
    *(Case(f"{name}, a byte a frame", fragments(around(bad), 1), ends=1007) for name, bad in INVALID.items()),
    *(Case(f"6.2 cut at {n}", [frame(TEXT, command(GREEK)[:n], fin=False), frame(CONT, command(GREEK)[n:])], [GREEK]) for n in range(1, len(command(GREEK)))),
    Case("6 within a character a ping", fragments(command(GREEK), 1, between=[frame(PING)]), [GREEK], pongs=[b""] * (len(command(GREEK)) - 1)),
    Case("6 ends within a character", [frame(TEXT, command(GREEK)[:9])], ends=1007),
    Case("6 two halves that are no whole", [frame(TEXT, b"\xce"), frame(TEXT, b"\xba")], ends=1007),
    Case("6 NUL", [frame(TEXT, b"\x00")], errors=1),
    Case("6 a byte order mark", [frame(TEXT, b"\xef\xbb\xbf" + command())], errors=1),
]  # fmt: skip

SENT = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4003, 4999)
NEVER = (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)
CLOSING = [
    Case("7.1 behind a message", [frame(TEXT, command()), close(1000)], ["a"], ends=1000),
    Case("7.1 twice", [close(1000), close(1000)], ends=1000),
    Case("7.1 a ping behind it", [close(1000), frame(PING)], ends=1000),
    Case("7.1 text behind it", [close(1000), frame(TEXT, command())], ends=1000),
    Case("7.1 in the middle of a message", [frame(TEXT, b"{", fin=False), close(1000), frame(CONT, b"}")], ends=(1000, 1002)),
    Case("7.1 a large message before", [frame(TEXT, command(size=65536)), close(1000), frame(PING)], ["a"], ends=1000),
    Case("7.1 garbage behind it", [close(1000), b"\xff" * 500], ends=1000),
    Case("7.3 empty", [close()], ends=(0, 1000)),
    Case("7.3 one byte", [frame(CLOSE, b"a")], ends=1002),
    Case("7.3 a code", [close(1000)], ends=1000),
    Case("7.3 a reason", [close(1000, b"Hello World!")], ends=1000),
    Case("7.3 123 bytes of reason", [close(1000, b"*" * 123)], ends=1000),
    Case("7.3 124 bytes of reason", [close(1000, b"*" * 124)], ends=1002),
    Case("7.3 octet by octet", [close(1000, "é".encode())], ends=1000, chop=1),
    *(Case(f"7.5 a reason that is no text: {name}", [close(1000, bad[:100])], ends=1007) for name, bad in list(INVALID.items())[:12]),
    *(Case(f"7.7 code {code}", [close(code)], ends=code) for code in SENT),
    *(Case(f"7.7 code {code} with a reason", [close(code, b"because")], ends=code) for code in SENT),
    *(Case(f"7.9 code {code}", [close(code)], ends=1002) for code in NEVER),
    *(Case(f"7.9 code {code} with a reason", [close(code, b"because")], ends=1002) for code in NEVER),
]  # fmt: skip

ALL = [*UTF8, *CLOSING]


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)
async def test_text_and_closing(wire, case):
    """What is text is answered as it was, what is none ends with 1007, and a close is answered with its code."""
    await run(wire, case)
