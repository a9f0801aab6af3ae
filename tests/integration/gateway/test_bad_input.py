"""What a client may do wrong: each is answered with a code and a sentence, and nobody else notices."""

import asyncio
import json
import os
import struct

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus


def masked(opcode, payload, *, fin=True, size=None):
    """A client's frame (RFC 6455, 5.2) with a mask of zeros; `size` is what it claims to have."""
    size = len(payload) if size is None else size
    length = bytes([0x80 | size]) if size < 126 else bytes([0xFE]) + struct.pack(">H", size & 0xFFFF)
    if size > 0xFFFF:
        length = bytes([0xFF]) + struct.pack(">Q", size)
    return bytes([(0x80 if fin else 0) | opcode]) + length + bytes(4) + payload


HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: loopcast.v1.json\r\n\r\n"
)


@pytest.fixture
async def raw(gateway):
    """Opens connections whose bytes are the test's to choose, upgraded unless a request is given."""
    writers = []

    async def open_one(request=HANDSHAKE):
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writers.append(writer)
        writer.write(request)
        if request is HANDSHAKE:
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 101 "), head
        return reader, writer

    yield open_one
    for writer in writers:
        writer.close()


async def server_frame(reader):
    """The next frame from the server: its opcode and payload."""
    first, length = await asyncio.wait_for(reader.readexactly(2), 10)
    if length == 126:
        (length,) = struct.unpack(">H", await reader.readexactly(2))
    return first & 0x0F, await reader.readexactly(length)


async def closed_with(reader):
    """The code with which the server closes, after which nothing comes."""
    while True:
        opcode, payload = await server_frame(reader)
        if opcode == 8:
            assert b"" == await asyncio.wait_for(reader.read(), 10)
            return struct.unpack(">H", payload[:2])[0]


@pytest.fixture
async def bystander(gateway, feed, watch):
    """A viewer who must not notice: it has to get an event after whatever the test did."""
    async with feed() as log, watch(gateway) as viewer:
        await viewer.follow("exp-1")
        yield viewer
        await log.send("exp-1", {"n": 1})
        frame = await viewer.frame()
        assert {"n": 1} == frame["event"]["data"]


@pytest.mark.parametrize(
    ("command", "code", "word"),
    [
        ('{"id":7,"action":"explode"}', 104, "subscribe"),
        ('{"id":7}', 107, "action"),
        ('{"id":7,"action":["subscribe"]}', 107, "action"),
        ('{"id":7,"action":"subscribe"}', 107, "experiment_id"),
        ('{"id":7,"action":"subscribe","experiment_id":""}', 107, "empty"),
        ('{"id":7,"action":"subscribe","experiment_id":"a\\nb"}', 107, "control character"),
        (json.dumps({"id": 7, "action": "subscribe", "experiment_id": "ü" * 128}), 107, "256 bytes"),
        ('{"id":7,"action":"subscribe","experiment_id":"~"}', 107, "*"),
        ('{"id":7,"action":"subscribe","experiment_id":42}', 107, "experiment_id"),
        ('{"id":7,"action":"subscribe","experiment_id":"a","from":"yesterday"}', 107, "yesterday"),
        ('{"id":7,"action":"subscribe","experiment_id":"a","tags":["x"]}', 107, "tags"),
        ('{"id":7,"action":"subscribe","experiment_id":"a","resume":{"pos":1}}', 107, "resume"),
        ('{"id":7,"action":"unsubscribe","experiment_id":""}', 107, "empty"),
    ],
)
async def test_a_command_that_is_none_is_named(gateway, watch, command, code, word):
    """A command that cannot be carried out is answered under its id, with a sentence that names what is wrong."""
    async with watch(gateway) as viewer:
        await viewer.socket.send(command)
        answer = await viewer.frame()
        pong = await viewer.ask(action="ping")

    assert ("error", 7, code, False) == tuple(answer[key] for key in ("type", "id", "code", "temporary"))
    assert word in answer["message"]
    assert "pong" == pong["type"]


@pytest.mark.parametrize(
    "text", ["", " ", "x", "[]", "null", '"subscribe"', "{", '{"id":{}}', "[" * 60_000, '{"a":' * 12_000]
)
async def test_text_that_is_no_command_is_refused(gateway, watch, text):
    """Text that is no JSON object, or is nested as deep as a frame allows, is an error and nothing more."""
    async with watch(gateway) as viewer:
        await viewer.socket.send(text)
        answer = await viewer.frame()
        pong = await viewer.ask(action="ping")

    assert ("error", 107) == (answer["type"], answer["code"])
    assert "pong" == pong["type"]


async def test_nested_100_000_deep_is_too_big(gateway, watch, bystander):
    """A hundred thousand brackets are more than a command may have: 1009."""
    async with watch(gateway) as viewer:
        await viewer.socket.send("[" * 100_000)
        with pytest.raises(ConnectionClosed):
            await viewer.frame()

    assert 1009 == viewer.socket.close_code


async def test_a_binary_frame_is_refused(gateway, watch):
    """Bytes are no command, whatever they hold."""
    async with watch(gateway) as viewer:
        await viewer.socket.send(b'{"id":1,"action":"ping"}')
        answer = await viewer.frame()

    assert ("error", 107) == (answer["type"], answer["code"])


async def test_ten_errors_in_a_row_end_it(gateway, watch, bystander):
    """Who is refused ten times in a row is closed for good, and a good command in between starts the count anew."""
    async with watch(gateway) as viewer:
        for count in (9, 10):
            for _ in range(count):
                await viewer.socket.send("no")
                await viewer.frame()
            if count == 9:
                await viewer.ask(action="ping")
        with pytest.raises(ConnectionClosed):
            await viewer.frame()

    assert (4509, "too many errors") == (viewer.socket.close_code, viewer.socket.close_reason)


async def test_subscriptions_have_a_limit(start_gateway, watch):
    """A connection has at most so many subscriptions; one that is ended makes room."""
    gateway = start_gateway(max_subscriptions=2)
    async with watch(gateway) as viewer:
        answers = [await viewer.follow(name) for name in ("a", "b", "c", "a")]
        await viewer.ask(action="unsubscribe", experiment_id="a")
        answers.append(await viewer.follow("c"))

    assert ["subscribed", "subscribed", "error", "error", "subscribed"] == [a["type"] for a in answers]
    assert (106, 105) == (answers[2]["code"], answers[3]["code"])


async def test_half_a_frame_hurts_nobody(raw, bystander):
    """A connection that sends half a frame and goes, or stays, is its own trouble."""
    _, gone = await raw()
    gone.write(masked(1, b'{"action":"pi', size=20)[:-5])
    await gone.drain()
    gone.close()
    reader, writer = await raw()
    whole = masked(1, b'{"id":1,"action":"ping"}')
    for byte in whole:
        writer.write(bytes([byte]))
        await writer.drain()
    opcode, welcome = await server_frame(reader)
    pong = await server_frame(reader)

    assert (1, "welcome") == (opcode, json.loads(welcome)["type"])
    assert (1, {"type": "pong", "id": 1}) == (pong[0], json.loads(pong[1]))


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (masked(1, b"\xff\xfe"), 1007),
        (masked(3, b"x"), 1002),
        (b"\xf1\x81" + bytes(4) + b"x", 1002),
        (b"\x81\x01x", 1002),
        (masked(9, b"x" * 126), 1002),
        (masked(9, b"x", fin=False), 1002),
        (masked(0, b"x"), 1002),
        (masked(1, b"a", fin=False) + masked(1, b"b"), 1002),
        (masked(1, b"", size=2**40), 1009),
        (masked(1, b"x" * 60_000, fin=False) + masked(0, b"x" * 10_000), 1009),
        (masked(8, b"\x03"), 1002),
        (masked(8, struct.pack(">H", 999)), 1002),
    ],
    ids=["utf-8", "opcode", "reserved", "unmasked", "long-ping", "split-ping", "continued", "interleaved", "huge",
         "fragments", "short-close", "bad-close"],
)  # fmt: skip
async def test_bytes_that_are_no_websocket_are_closed(raw, bystander, data, code):
    """What breaks RFC 6455 is closed with the code that it has for that."""
    reader, writer = await raw()
    writer.write(data)

    assert code == await closed_with(reader)


async def test_noise_is_closed(raw, bystander):
    """Random bytes instead of frames end a connection, whatever they are."""
    for _ in range(20):
        reader, writer = await raw()
        writer.write(os.urandom(4096) + b"\xff" * 64)
        await asyncio.wait_for(reader.read(), 10)


async def test_fragments_and_pings_between_are_one_command(raw):
    """A command in fragments with a ping between them is read, and the ping is answered first."""
    reader, writer = await raw()
    writer.write(masked(1, b'{"id":1,', fin=False) + masked(9, b"hi") + masked(0, b'"action":"ping"}'))
    await server_frame(reader)
    found = sorted([await server_frame(reader), await server_frame(reader)])

    assert [(1, b'{"type":"pong","id":1}'), (10, b"hi")] == found


async def test_goodbye_is_answered(start_gateway, watch):
    """A close by the client is answered with its own code, and counted."""
    gateway = start_gateway()
    async with watch(gateway) as viewer:
        await viewer.socket.close(1001, "bye")

    assert 1001 == viewer.socket.close_code
    await asyncio.sleep(1.2)
    assert 1 == gateway.metric('loopcast_gateway_closes_total{code="1001"}')


@pytest.mark.parametrize(
    ("path", "options", "status", "word"),
    [
        ("/ws", {"origin": "https://evil.example"}, 403, "LOOPCAST_ALLOWED_ORIGINS"),
        ("/ws", {"origin": "null"}, 403, "LOOPCAST_ALLOWED_ORIGINS"),
        ("/ws?experiment_id=", {"subprotocols": None}, 400, "empty"),
        ("/ws", {"subprotocols": ["graphql-ws"]}, 400, "loopcast.v1.json"),
        ("/other", {}, 404, "/ws"),
        ("/ws/experiments/", {}, 400, "empty"),
        ("/ws/experiments/a%0Ab", {}, 400, "control character"),
        ("/ws/experiments/%FF", {}, 400, "cannot be read"),
        ("/ws/experiments/a/b", {}, 404, "percent-encoded"),
        ("/ws/experiments/" + "x" * 256, {}, 400, "256 bytes"),
    ],
)
async def test_a_handshake_is_refused_before_the_upgrade(gateway, path, options, status, word):
    """A page of elsewhere, a path that is none and a protocol that is not spoken get a status and a sentence."""
    with pytest.raises(InvalidStatus) as refused:
        await connect(gateway.ws.removesuffix("/ws") + path, **{"subprotocols": ["loopcast.v1.json"], **options})

    response = refused.value.response
    assert status == response.status_code
    assert "application/problem+json" == response.headers["Content-Type"]
    assert word in json.loads(response.body)["detail"]


async def test_pages_of_this_machine_may_connect(start_gateway, watch):
    """On loopback any loopback origin is let in, and one that the settings name."""
    gateway = start_gateway(allowed_origins="https://dash.example")
    for origin in ("http://localhost:3000", f"http://127.0.0.1:{gateway.port}", "https://dash.example"):
        async with watch(gateway, origin=origin) as viewer:
            assert "welcome" == viewer.welcome["type"]


async def test_another_name_for_this_address_is_refused(raw):
    """A request for another host is refused, so that no page can pass for this service by its own name."""
    request = b"GET %s HTTP/1.1\r\nHost: evil.example\r\n%sConnection: close, Upgrade\r\n\r\n"
    upgrade = (
        b"Upgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Protocol: loopcast.v1.json\r\nOrigin: http://evil.example\r\n"
    )
    for path, more in ((b"/ws", upgrade), (b"/v1/stats", b"")):
        reader, _ = await raw(request % (path, more))
        status = await asyncio.wait_for(reader.readline(), 10)

        assert b"HTTP/1.1 403 Forbidden" == status.strip()


async def test_connections_have_a_limit(start_gateway, watch):
    """Beyond the limit a handshake gets 503 and a time to come back; a viewer that leaves makes room."""
    gateway = start_gateway(max_connections=2)
    async with watch(gateway), watch(gateway) as second:
        with pytest.raises(InvalidStatus) as refused:
            await connect(gateway.ws, subprotocols=["loopcast.v1.json"])
        await second.socket.close()
        await asyncio.sleep(0.1)
        async with watch(gateway) as third:
            assert "welcome" == third.welcome["type"]

    assert 503 == refused.value.response.status_code
    assert 0 < int(refused.value.response.headers["Retry-After"])
