"""A client that does not say what it wants is not waited for, and one that does is served as ever."""

import asyncio
import socket

import pytest
import uvicorn

from loopcast import patience

ended = []
"""Streams of the application that came to their end."""


async def app(scope, receive, send):
    if scope["path"] == "/stream":
        await stream(send, pieces=int(scope["query_string"]))
        return
    body = b"x" * int(scope["query_string"]) if scope["query_string"] else b"ok"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


async def stream(send, pieces):
    """As many pieces as are taken."""
    try:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(pieces):
            await send({"type": "http.response.body", "body": b"x" * 10_000, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    finally:
        ended.append(pieces)


@pytest.fixture
async def server(monkeypatch):
    """A server whose patience is short."""
    monkeypatch.setattr(patience, "HEAD_SECONDS", 0.3)
    server = uvicorn.Server(
        uvicorn.Config(app, port=0, lifespan="off", log_config=None, http=patience.Connection, ws="none")
    )
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)
    yield server
    server.should_exit = True
    await task


@pytest.fixture
def port(server):
    """Where it listens."""
    return server.servers[0].sockets[0].getsockname()[1]


async def answer(port, *parts, pause=0.0):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for part in parts:
        writer.write(part)
        await asyncio.sleep(pause)
    async with asyncio.timeout(5):
        found = await reader.read()
    writer.close()
    return found


HEAD = b"GET / HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize("parts", [(), (b"G",), (HEAD,), (HEAD + b"Connection: keep-alive\r\n\r\n", HEAD)])
async def test_a_head_that_does_not_end(port, parts):
    """Nothing, a byte, half a head or half a second one: 408, and the connection is closed."""
    found = await answer(port, *parts, pause=0.05)

    assert b"408" in found
    assert (b"200 OK" in found) is (len(parts) == 2)


async def test_a_websocket_where_there_is_none_is_an_answer_and_no_advice(port, caplog):
    """A viewer that took another port for the gateway's is told so; the log does not ask for a library."""
    wanted = b"Connection: Upgrade, close\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    found = await answer(port, HEAD + wanted + b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", pause=0.05)

    assert b"200 OK" in found
    assert [] == caplog.records


async def test_a_byte_now_and_then_is_no_head(port):
    """Sending a little all the time buys no more time."""
    assert b"408" in await answer(port, HEAD, *[b"a: b\r\n"] * 5, pause=0.1)


async def test_a_head_without_end_is_refused(port):
    """Header fields over the limit are answered with 431 at once."""
    assert b"431" in await answer(port, HEAD, *[b"a: " + b"b" * 8000 + b"\r\n"] * 10)


async def test_a_request_is_answered_and_the_next_one_too(port):
    """On a connection that is kept, each request has its own time."""
    request = HEAD + b"\r\n"
    found = await answer(port, request, request, HEAD + b"Connection: close\r\n\r\n", pause=0.2)

    assert 3 == found.count(b"200 OK")
    assert b"408" not in found


async def test_a_client_that_never_listens_is_not_listened_to(server, port):
    """Of requests that are sent ahead, those of one read are kept and no more, until the answers before were taken."""
    request = b"GET /?10000 HTTP/1.1\r\nHost: x\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request * 9999 + request.replace(b"Host: x", b"Connection: close"))
    async with asyncio.timeout(5):
        while not any(each.flow.write_paused for each in server.server_state.connections):  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.01)
    (connection,) = server.server_state.connections
    await asyncio.sleep(0.2)
    ahead, unread = len(connection.pipeline), connection.transport.get_write_buffer_size()
    answered = server.server_state.total_requests
    async with asyncio.timeout(30):
        found = (await reader.read()).count(b"200 OK")
    writer.close()

    assert 0 < ahead < 9000
    assert unread < 200_000
    assert answered < 2000
    assert 10_000 == found


def asked(port, path):
    """A client that asked and does not read; what the network holds for it is little."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", port))
    sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    return sock


async def until(condition):
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("path", ["/?9000000", "/stream?900"])
async def test_a_client_that_reads_no_answer_is_let_go(server, port, monkeypatch, path):
    """One answer or one that is made while it is read: the connection ends, and what made the answer with it."""
    monkeypatch.setattr(patience, "GRACE_SECONDS", 0.3)
    monkeypatch.setattr(patience, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(patience, "MOST_SECONDS", 0.5)
    ended.clear()
    with asked(port, path):
        await until(lambda: server.server_state.connections)
        await until(lambda: not server.server_state.connections)
        await until(lambda: not server.server_state.tasks)

    assert ([900] if "stream" in path else []) == ended


async def test_a_client_that_reads_slowly_is_waited_for(server, port, monkeypatch):
    """One that keeps its rate reads to the end, however long that takes."""
    monkeypatch.setattr(patience, "GRACE_SECONDS", 0.3)
    monkeypatch.setattr(patience, "LOOK_SECONDS", 0.05)
    loop, got = asyncio.get_running_loop(), 0
    with asked(port, "/stream?400") as sock:
        sock.setblocking(False)
        while got < 4_000_000 and (piece := await loop.sock_recv(sock, 100_000)):
            got += len(piece)
            await asyncio.sleep(0.002)

    assert got > 4_000_000


def test_patience_is_for_what_is_read():
    """A grace, then the least rate of what was taken; not for ever, however much that was; anew when all was read."""
    unread = patience.Unread()
    rate, grace, most = patience.LEAST_RATE, patience.GRACE_SECONDS, patience.MOST_SECONDS

    assert not unread.is_overdue(100 * rate, 0, written=100 * rate)
    # 50 seconds' worth is taken, though as much is written meanwhile.
    assert not unread.is_overdue(100 * rate, 10, written=150 * rate)
    assert not unread.is_overdue(100 * rate, grace + 50, written=150 * rate)
    assert unread.is_overdue(100 * rate, grace + 51, written=150 * rate)
    # However fast it was.
    assert not unread.is_overdue(1, 100, written=10**9 * rate)
    assert not unread.is_overdue(1, 100 + most, written=10**9 * rate)
    assert unread.is_overdue(1, 101 + most, written=10**9 * rate)
    # All was read; what the network took ahead of the next answer is not read yet.
    assert not unread.is_overdue(0, 1000, written=10**9 * rate)
    assert not unread.is_overdue(1, 1001, written=(10**9 + 20) * rate)
    assert not unread.is_overdue(1, 1001 + grace + 19, written=(10**9 + 20) * rate)
    assert unread.is_overdue(1, 1001 + grace + 21, written=(10**9 + 20) * rate)
