"""A client that does not say what it wants is not waited for, and one that does is served as ever."""

import asyncio

import pytest
import uvicorn

from loopcast import patience


async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture
async def port(monkeypatch):
    """A server whose patience is short."""
    monkeypatch.setattr(patience, "HEAD_SECONDS", 0.3)
    server = uvicorn.Server(uvicorn.Config(app, port=0, lifespan="off", log_config=None, http=patience.Connection))
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    await task


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
