"""
Posting to one endpoint: one request at a time, every phase bounded, nothing trusted.

The address that is connected to is one that was checked; TLS is verified; redirects, proxies of the environment,
cookies and decompression are off; heads are bounded in lines and length, bodies are read to 64 KiB and for a few
seconds and then the connection is closed.
"""

from __future__ import annotations

import asyncio
import functools
import io
import ssl
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

import aiohttp
from yarl import URL

from loopcast.errors import ConfigurationError
from loopcast_webhook_forwarder.answers import Answer, Fault
from loopcast_webhook_forwarder.resolving import AddressRefused, GuardedResolver
from loopcast_webhook_forwarder.retry import parse_retry_after

__all__ = ["MAX_ANSWER_BYTES", "Egress", "tls_context"]

MAX_ANSWER_BYTES = 65536
CONNECT_SECONDS = 5.0
"""For the name, the connection and TLS, each."""
BODY_SECONDS = 5.0
"""For an answer's body, whose status is known by then."""
KEEP_ALIVE_SECONDS = 15.0
MAX_AT_ONCE = 1024 * 1024
"""From here on aiohttp warns of bodies that are written at once."""
MAX_HEAD_LINE = 8190
MAX_HEAD_LINES = 128


@functools.lru_cache(maxsize=1024)
def tls_context(authorities: str | None) -> ssl.SSLContext:
    """
    Verify certificates, by the system's authorities or by those given as PEM; TLS 1.2 at least.

    One for all who trust the same: reading the system's authorities takes 20 ms, in which nothing else runs, and the
    endpoints are read every few seconds.

    Raises:
        ConfigurationError: the text holds no certificate.
    """
    try:
        context = ssl.create_default_context(cadata=authorities)
    except (ssl.SSLError, ValueError) as error:
        raise ConfigurationError(f"ca_file: it holds no certificates in PEM form: {error}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


class Egress:
    """The way out to one endpoint."""

    def __init__(self, *, allow_private: bool, timeout: float, tls: ssl.SSLContext, agent: str) -> None:
        self._timeout = timeout
        self._tls = tls
        self._agent = agent
        self._resolver = GuardedResolver(allow_private=allow_private)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(
            resolver=self._resolver,
            socket_factory=self._resolver.make_socket,  # type: ignore[arg-type]
            use_dns_cache=False,
            ssl=self._tls,
            limit=2,
            keepalive_timeout=KEEP_ALIVE_SECONDS,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=min(CONNECT_SECONDS, self._timeout)),
            headers={"User-Agent": self._agent, "Accept": "*/*", "Accept-Encoding": "identity"},
            auto_decompress=False,
            trust_env=False,
            read_bufsize=MAX_ANSWER_BYTES,
            max_line_size=MAX_HEAD_LINE,
            max_field_size=MAX_HEAD_LINE,
            max_headers=MAX_HEAD_LINES,
        )
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def post(self, url: str, body: bytes, headers: Mapping[str, str], *, now: float) -> Answer | Fault:
        """Post once, and say what came of it. `now` is the Unix time, for a `Retry-After` that is a date."""
        try:
            async with asyncio.timeout(self._timeout) as deadline:
                return await self._post_once_more(url, body, headers, now, deadline)
        except TimeoutError:
            return Fault(reason=f"no answer within {self._timeout:g} s")

    async def _post_once_more(
        self, url: str, body: bytes, headers: Mapping[str, str], now: float, deadline: asyncio.Timeout
    ) -> Answer | Fault:
        for last in (False, True):
            try:
                return await self._post(url, body, headers, now, deadline)
            except (aiohttp.ClientError, AddressRefused, TimeoutError, OSError, ValueError) as error:
                if isinstance(error, TimeoutError) and deadline.expired():
                    raise
                # A kept connection that the endpoint closed meanwhile looks like a failure and is none.
                if last or not _is_stale(error):
                    return _fault(error)
        raise AssertionError("the second try is the last")

    async def _post(
        self, url: str, body: bytes, headers: Mapping[str, str], now: float, deadline: asyncio.Timeout
    ) -> Answer:
        assert self._session is not None
        response = await self._session.post(
            URL(url, encoded=True), data=_payload(body), headers=headers, allow_redirects=False
        )
        try:
            # The status is known and counts: how the body comes can make it neither better nor worse.
            deadline.reschedule(None)
            read = await _beginning(response)
        finally:
            response.release() if response.content.at_eof() else response.close()
        return Answer(
            status=response.status, body=read, retry_after=parse_retry_after(response.headers.get("Retry-After"), now)
        )


def _payload(body: bytes) -> bytes | io.BytesIO:
    """Written at once while it is small; in parts where writing it at once would hold up the other endpoints."""
    return body if len(body) < MAX_AT_ONCE else io.BytesIO(body)


async def _beginning(response: aiohttp.ClientResponse) -> bytes:
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while size < MAX_ANSWER_BYTES and (part := await response.content.readany()):
                parts.append(part)
                size += len(part)
    except (TimeoutError, aiohttp.ClientError, OSError):
        pass
    return b"".join(parts)[:MAX_ANSWER_BYTES]


def _is_stale(error: Exception) -> bool:
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ServerTimeoutError):
        return False
    return isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError)


def _no_connection(error: OSError) -> str:
    if words := error.strerror or str(error):
        return f"no connection: {words}"
    # asyncio's own error, for an end of the stream before TLS was agreed upon.
    return "TLS: the server ended the handshake without a word; it must speak TLS 1.2 or newer"


_SENTENCES: tuple[tuple[type[Exception], Callable[[Any], str]], ...] = (
    (aiohttp.ClientConnectorDNSError, lambda e: f"the name {e.host} has no address"),
    (aiohttp.ClientConnectorCertificateError, lambda e: f"TLS: {e.certificate_error}"),
    (aiohttp.ClientConnectorSSLError, lambda e: f"TLS: {e.os_error}"),
    (aiohttp.ConnectionTimeoutError, lambda _: "no connection in time"),
    (aiohttp.ServerTimeoutError, lambda _: "no answer in time"),
    (aiohttp.ClientConnectorError, lambda e: _no_connection(e.os_error)),
    (aiohttp.ServerDisconnectedError, lambda _: "the connection was closed without an answer"),
    (aiohttp.ClientResponseError, lambda e: f"no HTTP came back: {e.message[:200]!r}"),
)
"""The first kind that fits says it."""


def _fault(error: Exception) -> Fault:
    if isinstance(error, AddressRefused | aiohttp.InvalidURL):
        return Fault(reason=str(error), mendable_by_people_only=True)
    for kind, sentence in _SENTENCES:
        if isinstance(error, kind):
            return Fault(reason=sentence(error))
    return Fault(reason=f"{type(error).__name__}: {str(error)[:200]}")
