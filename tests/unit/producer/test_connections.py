"""What a client may cost without sending a whole request, with uvicorn around it."""

import asyncio
import contextlib
import json
import socket

import pytest
import uvicorn

from loopcast import patience
from loopcast_producer import connections as module
from loopcast_producer.connections import Connections


async def app(scope, receive, send):
    """Answers with what it got."""
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body, more = body + message["body"], message["more_body"]
    await send({"type": "http.response.start", "status": 202, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


async def until(condition):
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come to pass")


@pytest.fixture
async def server(monkeypatch):
    """A server that loses patience quickly: its port and its open connections."""
    monkeypatch.setattr(patience, "GRACE_SECONDS", 0.4)
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.02)
    connections = Connections()
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        config = uvicorn.Config(app, http=connections, lifespan="off", log_config=None, proxy_headers=False)
        running = uvicorn.Server(config)
        running.capture_signals = contextlib.nullcontext
        task = asyncio.create_task(running.serve(sockets=[sock]))
        async with connections.watched():
            await until(lambda: running.started)
            yield sock.getsockname()[1], connections.open
        running.should_exit = True
        await task


@contextlib.asynccontextmanager
async def client(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def refusal(reader):
    answer = await asyncio.wait_for(reader.read(), 10)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"connection: close" in head
    assert b"content-length: %d" % len(body) in head
    assert f"HTTP/1.1 {json.loads(body)['status']} {json.loads(body)['title']}".encode() == head.partition(b"\r\n")[0]
    return json.loads(body)


HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n"


@pytest.mark.parametrize("sent", [b"", b"POST / HT", HEAD[:-2], HEAD, HEAD + b"half"])
async def test_a_request_that_does_not_come_is_given_up(server, sent):
    """Wherever a client stops, it is told so and its connection is closed."""
    port, open_ = server
    async with client(port) as (reader, writer):
        writer.write(sent)
        problem = await refusal(reader)

    assert (408, "urn:loopcast:problem:too-slow") == (problem["status"], problem["type"])
    await until(lambda: not open_)


@pytest.mark.parametrize("sent", [HEAD[:-4], HEAD, HEAD + b"half"])
async def test_a_request_behind_another_is_given_up_too(server, sent):
    """What begins in the same piece as the end of the request before is waited for no longer than any other."""
    port, open_ = server
    async with client(port) as (reader, writer):
        writer.write(HEAD + b"0123456789" + sent)
        await asyncio.wait_for(reader.readuntil(b"0123456789"), 10)
        (connection,) = open_
        assert connection._in_head or connection.is_arriving
        problem = await refusal(reader)

    assert (408, "urn:loopcast:problem:too-slow") == (problem["status"], problem["type"])
    await until(lambda: not open_)


async def test_a_trickle_is_given_up(server):
    """A byte now and then holds no connection for long."""
    port, _ = server
    async with client(port) as (reader, writer):
        writer.write(HEAD.replace(b"10", b"9999"))

        async def trickle():
            while True:
                writer.write(b"x")
                await asyncio.sleep(0.02)

        task = asyncio.create_task(trickle())
        problem = await refusal(reader)
        task.cancel()

    assert 408 == problem["status"]


async def test_a_client_that_falls_silent_is_given_up(server, monkeypatch):
    """However much came quickly, and however long it may take by that: nobody is there any more."""
    monkeypatch.setattr(module, "SILENT_SECONDS", 0.3)
    port, open_ = server
    async with client(port) as (reader, writer):
        writer.write(HEAD.replace(b"10", b"99999") + b"x" * 50_000)
        problem = await refusal(reader)

    assert (408, "urn:loopcast:problem:too-slow") == (problem["status"], problem["type"])
    assert "nothing more of it came" in problem["detail"]
    await until(lambda: not open_)


async def test_a_client_that_is_not_read_is_not_silent(server, monkeypatch):
    """While its answer is made, or its body is not read, it is not the client that is waited for."""
    monkeypatch.setattr(module, "SILENT_SECONDS", 0.1)
    monkeypatch.setattr(patience, "GRACE_SECONDS", 30.0)
    port, open_ = server
    async with client(port) as (reader, writer):
        writer.write(HEAD.replace(b"10", b"20") + b"0123456789")
        await until(lambda: any(connection.is_arriving for connection in open_))
        (connection,) = open_
        connection.flow.pause_reading()
        await asyncio.sleep(0.4)
        writer.write(b"0123456789")
        connection.flow.resume_reading()
        answer = await asyncio.wait_for(reader.readuntil(b"0123456789" * 2), 10)

    assert b"HTTP/1.1 202" == answer[:12]


async def test_what_comes_quickly_enough_is_waited_for(server, monkeypatch):
    """A long body that keeps its rate is taken, however long it takes."""
    monkeypatch.setattr(patience, "LEAST_RATE", 100)
    port, _ = server
    async with client(port) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 600\r\n\r\n")
        for _ in range(60):
            writer.write(b"0123456789")
            await asyncio.sleep(0.02)
        answer = await asyncio.wait_for(reader.readuntil(b"0123456789" * 60), 10)

    assert b"HTTP/1.1 202" == answer[:12]


async def test_an_idle_connection_between_requests_is_left_alone(server):
    """Keeping a connection open for the next request costs nothing and ends nothing."""
    port, open_ = server
    async with client(port) as (reader, writer):
        for _ in range(2):
            writer.write(HEAD + b"0123456789")
            assert b"202" in await asyncio.wait_for(reader.readuntil(b"0123456789"), 10)
            await asyncio.sleep(0.6)
        assert 1 == len(open_)


async def test_a_header_without_end_is_refused(server, monkeypatch):
    """Header fields are bounded; a body may be longer than they are."""
    monkeypatch.setattr(module, "MAX_HEAD_BYTES", 1000)
    port, _ = server
    async with client(port) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\n")
        with contextlib.suppress(OSError):
            for n in range(100):
                writer.write(b"X-%d: %s\r\n" % (n, b"y" * 40))
                await writer.drain()
        problem = await refusal(reader)
    async with client(port) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n" + b"z" * 5000)
        assert b"HTTP/1.1 202" == (await asyncio.wait_for(reader.readuntil(b"z" * 5000), 10))[:12]

    assert (431, "urn:loopcast:problem:head-too-large") == (problem["status"], problem["type"])


async def test_an_answer_leaves_in_one_piece(server):
    """Head and body of an answer are one write."""
    port, open_ = server
    written = []
    async with client(port) as (reader, writer):
        await until(lambda: open_)
        (connection,) = open_
        real = connection.transport

        class Recording:
            def write(self, data):
                written.append(data)
                real.write(data)

            def __getattr__(self, name):
                return getattr(real, name)

        connection.transport = Recording()
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        await asyncio.wait_for(reader.readuntil(b"100 Continue\r\n\r\n"), 10)
        writer.write(b"ok")
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\nok"), 10)

    assert 2 == len(written)
    assert written[1].startswith(b"HTTP/1.1 202")
    assert written[1].endswith(b"\r\n\r\nok")
