"""Anything at all on the wire: no crash, no leak, codes that the protocol has, and nobody else notices."""

import asyncio
import contextlib
import json
import os
import random
import struct
import time
from pathlib import Path

import pytest
from websocket_wire import BINARY, CLOSE, CONT, PING, PONG, TEXT, Peer, close, command, fragments, frame, handshake

from loopcast.auth.tokens import make_token
from loopcast_gateway.close_codes import CLOSE_CODES

SECRET = "fuzzing-secret-of-more-than-32-bytes!"
WORDS = ["auth", "subscribe", "unsubscribe", "replay", "stats", "ping", "pong", "explode", "", None, 7]
VALUES = [None, True, 0, -1, 2**63, 1e308, "", "*", "~", "a", "ü" * 40, [], {}, ["a"] * 40, {"a": {"b": 1}}, "\x00"]
NAMES = ["id", "action", "experiment_id", "token", "from", "resume", "types", "exclude", "coalesce_ms", "limit", "x"]
OPCODES = [TEXT] * 6 + [CONT, CONT, BINARY, PING, PONG, CLOSE, 3, 11]

MANY = int(os.environ.get("LOOPCAST_FUZZ_CLIENTS", "20000"))


class Fuzzer:
    """Makes the bytes of one client; everything comes from its seed."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def bytes_of_a_client(self):
        """What one client sends: a handshake, mostly a good one, and then frames, mostly good ones, in any shape."""
        chance = self.random
        request = handshake()
        if chance.random() < 0.15:
            request = self.damaged(request)
        elif chance.random() < 0.2:
            request = handshake(
                path=chance.choice(["/ws?experiment_id=a", "/ws/experiments/%FF", "/ws/x", "/ws/experiments/a%2Fb"])
            )
        body = b"".join(self.part() for _ in range(chance.randint(0, 12)))
        if chance.random() < 0.3:
            body = self.damaged(body)
        return request + body

    def part(self):  # noqa: PLR0911 - one for each kind
        chance = self.random
        match chance.randint(0, 7):
            case 0:
                return frame(TEXT, command(str(chance.random())))
            case 1:
                return b"".join(
                    fragments(self.text(), chance.randint(1, 40), between=[frame(PING)] * chance.randint(0, 1))
                )
            case 2:
                return frame(chance.choice(OPCODES), chance.randbytes(chance.choice([0, 1, 125, 126, 300])))
            case 3:
                return frame(TEXT, self.text(), fin=chance.random() < 0.7, rsv=chance.choice([0] * 9 + [4]))
            case 4:
                return close(
                    chance.choice([1000, 1001, 1005, 4999, 5000, chance.randint(0, 65535)]),
                    chance.randbytes(chance.randint(0, 4)),
                )
            case 5:
                size = chance.choice([0, 1, 2**16, 2**31, 2**63 - 1, 2**64 - 1])
                return frame(TEXT, b"{", size=size, length=64)
            case _:
                return frame(TEXT, self.text())

    def text(self):
        """A command, or what looks like one."""
        chance = self.random
        if chance.random() < 0.1:
            return b"[" * chance.randint(1, 20_000)
        if chance.random() < 0.1:
            return chance.randbytes(chance.randint(0, 200))
        found = {name: chance.choice(VALUES) for name in chance.sample(NAMES, chance.randint(0, 5))}
        found["action"] = chance.choice(WORDS)
        text = json.dumps(found).encode()
        return self.damaged(text) if chance.random() < 0.1 else text

    def damaged(self, data):
        """Some bytes changed, cut out or put in."""
        chance, found = self.random, bytearray(data)
        for _ in range(chance.randint(1, 4)):
            place = chance.randrange(len(found) + 1)
            match chance.randint(0, 2):
                case 0 if place < len(found):
                    found[place] ^= 1 << chance.randint(0, 7)
                case 1:
                    del found[place : place + chance.randint(1, 20)]
                case _:
                    found[place:place] = chance.randbytes(chance.randint(1, 8))
        return bytes(found)


async def attack(port, seed):
    """Be one client; the code that the server closed with, if it upgraded and said one."""
    fuzzer = Fuzzer(seed)
    data, chance = fuzzer.bytes_of_a_client(), fuzzer.random
    peer = await Peer.connect(port, b"")
    # Half-closing a connection that the server has ended already is an OSError of no other kind.
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        await peer.write(data, chance.choice([0, 0, 1, 7, 100]) if len(data) < 5000 else 0)
        if chance.random() < 0.2:
            return peer.abandon()
        if chance.random() < 0.5:
            peer.writer.write_eof()
        head = await asyncio.wait_for(peer.reader.readuntil(b"\r\n\r\n"), 2)
        if not head.startswith(b"HTTP/1.1 101 "):
            assert b"500" != head[9:12], (seed, head)
            return peer.abandon()
        while True:
            opcode, payload = await peer.read(1)
            if opcode == CLOSE:
                code = struct.unpack(">H", payload[:2])[0] if payload else 0
                # What the peer said itself is repeated (RFC 6455, 5.5.1).
                assert code == 0 or code in CLOSE_CODES or code >= 3000 or code in (1003, 1008, 1010, 1013, 1014), (
                    seed,
                    code,
                )
                return peer.abandon()
            if opcode == TEXT and payload != b"pong":
                assert json.loads(payload)["type"], seed
    return peer.abandon()


async def bystand(port, done, headers):
    """Be a client that does nothing wrong, all the time; how often it was answered."""
    peer, count = await Peer.connect(port, handshake(**headers)), 0
    await peer.reader.readuntil(b"\r\n\r\n")
    while not done.is_set():
        await peer.write(frame(TEXT, command(str(count))))
        while True:
            opcode, payload = await peer.read(20)
            if opcode == TEXT and json.loads(payload)["type"] == "pong":
                break
        assert str(count) == json.loads(payload)["id"]
        count += 1
        await asyncio.sleep(0.05)
    peer.abandon()
    return count


def resident(gateway):
    """KiB of memory, and open files."""
    folder = Path(f"/proc/{gateway.process.pid}")
    return int((folder / "statm").read_text().split()[1]) * 4, len(os.listdir(folder / "fd"))  # noqa: PTH208


async def storm(gateway, seeds, headers, together=20):
    queue, done = list(seeds), asyncio.Event()

    async def work():
        while queue:
            await attack(gateway.port, queue.pop())

    calm = asyncio.create_task(bystand(gateway.port, done, headers))
    await asyncio.gather(*(work() for _ in range(together)))
    done.set()
    assert await calm > 0


async def settled(gateway):
    """Wait until nobody is connected any more."""
    deadline = time.monotonic() + 20
    while gateway.metric("loopcast_gateway_connections") != 0:
        assert time.monotonic() < deadline, "connections stay that nobody has"
        await asyncio.sleep(0.2)
    await asyncio.sleep(1)


@pytest.mark.parametrize("asked", [False, True], ids=["anybody", "tokens"])
@pytest.mark.parametrize("count", [150, pytest.param(MANY, marks=[pytest.mark.slow, pytest.mark.timeout(3000)])])
async def test_anything_at_all(start_lonely, count, asked):
    """After clients that send anything, the gateway is what it was: nobody there, no file open, no memory gone."""
    gateway = start_lonely(
        ping_seconds=1, commands_per_second=0, **({"jwt_secret": SECRET, "auth_seconds": 2} if asked else {})
    )
    headers = {}
    if asked:
        token = make_token(SECRET, subscribe=("*",), now=time.time(), ttl=3600)
        headers = {"Authorization": f"Bearer {token}"}
    seed = int(os.environ.get("LOOPCAST_TEST_SEED", "20261121"))
    await storm(gateway, range(seed, seed + 60), headers)
    await settled(gateway)
    memory, files = resident(gateway)

    await storm(gateway, range(seed + 60, seed + 60 + count), headers)

    await settled(gateway)
    after, left = resident(gateway)
    assert files == left
    assert after < memory + 24 * 1024, "at most 24 MiB more, whatever the number of clients"
