"""The way out: addresses, TLS, and receivers that mean harm."""

import asyncio
import contextlib
import socket
import time

import pytest

from loopcast_webhook_forwarder.answers import Answer, Fault
from loopcast_webhook_forwarder.egress import MAX_ANSWER_BYTES, Egress, tls_context

HEAD = b"HTTP/1.1 200 OK\r\n"


@contextlib.asynccontextmanager
async def serving(behave):
    """A raw server on the loopback: `behave(reader, writer)` after the request's head came."""
    seen, tasks = [], set()

    async def handle(reader, writer):
        tasks.add(asyncio.current_task())
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                seen.append(await reader.readuntil(b"\r\n\r\n"))
                await behave(reader, writer)
                await writer.drain()
                writer.write_eof()
        finally:
            writer.transport.abort() if asyncio.current_task().cancelling() else writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], seen
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)


async def post(url, *, timeout=1.0, allow_private=True, body=b"[]", authorities=None):
    egress = Egress(allow_private=allow_private, timeout=timeout, tls=tls_context(authorities), agent="loopcast-test")
    began = time.monotonic()
    async with egress:
        outcome = await egress.post(url, body, {}, now=time.time())
    return outcome, time.monotonic() - began


async def test_an_endpoint_that_never_answers_costs_its_timeout():
    """A connection that is taken and left alone ends."""

    async def silent(reader, writer):
        await asyncio.sleep(30)

    async with serving(silent) as (port, _):
        outcome, seconds = await post(f"http://127.0.0.1:{port}/", timeout=0.5)

    assert outcome == Fault(reason="no answer within 0.5 s")
    assert seconds < 5


async def test_a_head_that_drips_costs_the_same():
    """The time is for the whole, not for each byte."""

    async def drip(reader, writer):
        for byte in HEAD * 100:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.1)

    async with serving(drip) as (port, _):
        outcome, seconds = await post(f"http://127.0.0.1:{port}/", timeout=0.6)

    assert outcome == Fault(reason="no answer within 0.6 s")
    assert seconds < 5


async def test_a_body_that_drips_is_not_waited_for(monkeypatch):
    """The status is known, so the event is delivered; the rest is not read for long."""
    monkeypatch.setattr("loopcast_webhook_forwarder.egress.BODY_SECONDS", 1)

    async def drip(reader, writer):
        writer.write(HEAD + b"Content-Length: 1000\r\n\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(1)

    async with serving(drip) as (port, _):
        outcome, seconds = await post(f"http://127.0.0.1:{port}/")

    assert isinstance(outcome, Answer)
    assert outcome.status == 200
    assert seconds < 10


async def test_an_endless_body_is_read_to_its_bound():
    """10 GB of answer cost 64 KiB."""
    sent = 0

    async def flood(reader, writer):
        nonlocal sent
        writer.write(HEAD + b"Content-Length: 10000000000\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            sent += 65536
            await writer.drain()

    async with serving(flood) as (port, _):
        outcome, _ = await post(f"http://127.0.0.1:{port}/")

    assert len(outcome.body) == MAX_ANSWER_BYTES
    assert sent < 32 * 1024 * 1024


@pytest.mark.parametrize("junk", [b"X: " + b"y" * 200_000, b"X: y\r\n" * 100_000])
async def test_a_flood_of_headers_is_no_answer(junk):
    """Heads are bounded in lines and in length."""

    async def flood(reader, writer):
        writer.write(HEAD + junk + b"\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(5)

    async with serving(flood) as (port, _):
        outcome, _ = await post(f"http://127.0.0.1:{port}/")

    assert isinstance(outcome, Fault)


async def test_what_is_no_http_is_a_fault_in_words():
    """Another protocol's greeting is no success."""

    async def greet(reader, writer):
        writer.write(b"220 mail.example ESMTP\r\n")
        await writer.drain()

    async with serving(greet) as (port, _):
        outcome, _ = await post(f"http://127.0.0.1:{port}/")

    assert isinstance(outcome, Fault)


async def test_a_receiver_that_reads_nothing_is_not_waited_for():
    """Sending has the same bound as waiting."""

    async def deaf(reader, writer):
        reader._transport.pause_reading()
        await asyncio.sleep(30)

    async with serving(deaf) as (port, _):
        outcome, seconds = await post(f"http://127.0.0.1:{port}/", timeout=0.5, body=b"x" * 50_000_000)

    assert outcome == Fault(reason="no answer within 0.5 s")
    assert seconds < 5


async def test_a_redirect_is_an_answer_and_not_followed():
    """Whatever it points to, nothing is sent there."""

    async def redirect(reader, writer):
        writer.write(b"HTTP/1.1 307 Go\r\nLocation: http://169.254.169.254/latest/\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    async with serving(redirect) as (port, seen):
        outcome, _ = await post(f"http://127.0.0.1:{port}/")

    assert outcome.status == 307
    assert len(seen) == 1


async def test_a_kept_connection_that_was_closed_is_no_failure():
    """The second call finds the connection closed and makes another."""

    async def once(reader, writer):
        writer.write(HEAD + b"Content-Length: 0\r\n\r\n")
        await writer.drain()

    async with serving(once) as (port, seen):
        egress = Egress(allow_private=True, timeout=2, tls=tls_context(None), agent="x")
        async with egress:
            outcomes = [await egress.post(f"http://127.0.0.1:{port}/", b"", {}, now=0) for _ in range(3)]

    assert [o.status for o in outcomes] == [200, 200, 200]
    assert len(seen) == 3


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "127.1", "2130706433", "0x7f000001", "[::ffff:127.0.0.1]", "0.0.0.0"]
)
async def test_no_spelling_of_a_private_address_is_connected_to(host):
    """Literal, by name, as an odd number or mapped: refused before a byte is sent, by a sentence."""

    async def answer(reader, writer):
        writer.write(HEAD + b"Content-Length: 0\r\n\r\n")

    async with serving(answer) as (port, seen):
        outcome, _ = await post(f"http://{host}:{port}/", allow_private=False)

    assert isinstance(outcome, Fault)
    assert outcome.mendable_by_people_only
    assert "address" in outcome.reason
    assert seen == []


async def test_a_name_that_turns_inside_is_refused_at_the_second_call(monkeypatch):
    """What is connected to is what was checked: a name server that answers anew each time reaches nothing."""
    answers = iter(["93.184.216.34", "127.0.0.1"])
    asked = []

    def resolve(host, port, **_):
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), port))]

    async def answer(reader, writer):
        writer.write(HEAD + b"Content-Length: 0\r\n\r\n")

    async with serving(answer) as (port, seen):
        monkeypatch.setattr("loopcast_webhook_forwarder.resolving.socket.getaddrinfo", resolve)
        outcomes = [(await post(f"http://rebind.example:{port}/", allow_private=False, timeout=0.5))[0] for _ in "ab"]

    assert asked == ["rebind.example"] * 2
    assert not outcomes[0].mendable_by_people_only
    assert outcomes[1].mendable_by_people_only
    assert "rebind.example" in outcomes[1].reason
    assert seen == []


async def test_the_metadata_address_is_refused_with_permission_too():
    """`allow_private` is for one's own cluster, not for the cloud's secrets."""
    outcome, _ = await post("http://169.254.169.254/latest/meta-data/")

    assert outcome.mendable_by_people_only


async def test_slow_names_of_many_endpoints_hold_up_nobody(monkeypatch):
    """Forty names whose servers do not answer leave a healthy endpoint as quick as it was."""
    real = socket.getaddrinfo

    def resolve(host, port, **options):
        if host.startswith("slow"):
            time.sleep(3)
            raise socket.gaierror(socket.EAI_AGAIN, "try again")
        return real(host, port, **options)

    async def answer(reader, writer):
        writer.write(HEAD + b"Content-Length: 0\r\n\r\n")
        await writer.drain()

    monkeypatch.setattr("loopcast_webhook_forwarder.resolving.socket.getaddrinfo", resolve)
    async with serving(answer) as (port, _):
        slow = [asyncio.create_task(post(f"http://slow{n}.example/", timeout=1)) for n in range(40)]
        await asyncio.sleep(0.1)
        outcome, seconds = await post(f"http://localhost:{port}/")
        results = await asyncio.gather(*slow)

    assert outcome.status == 200
    assert seconds < 1
    assert all(isinstance(o, Fault) for o, _ in results)


async def test_a_name_without_an_address_is_a_fault_that_heals():
    """DNS comes back by itself."""
    outcome, _ = await post("http://no-such-host.invalid/", timeout=5)

    assert isinstance(outcome, Fault)
    assert not outcome.mendable_by_people_only
