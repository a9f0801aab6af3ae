"""The public keys of an identity provider, fetched by its JWKS URL and kept fresh. The I/O of :mod:`.keys`."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from urllib.parse import urlsplit

import structlog

from loopcast.auth.keys import BadKeys, VerificationKey, read_jwks

__all__ = ["MAX_BYTES", "Jwks"]

log = structlog.get_logger(__name__)

MAX_BYTES = 1024 * 1024
TIMEOUT_SECONDS = 5.0

RETRY_SECONDS = 2.0
"""How long to wait for the next try while there have been no keys ever."""


class Jwks:
    """
    The keys at `url`, as they were when last fetched.

    They are fetched anew every `refresh_seconds`, and when a token names one that is unknown, but then at most every
    `least_seconds`: anybody can send such tokens. While the provider is away the old keys stay.

    Args:
        url: the key set's address, `https` (or `http`, where the way there is trusted).
        changed: called with the keys after each fetch that brought some.
        fetched: called with whether a fetch brought keys.
    """

    def __init__(
        self,
        url: str,
        *,
        changed: Callable[[tuple[VerificationKey, ...]], None],
        fetched: Callable[[bool], None],
        refresh_seconds: float,
        least_seconds: float,
    ) -> None:
        self._url = url
        self._changed = changed
        self._fetched = fetched
        self._refresh_seconds = refresh_seconds
        self._least_seconds = least_seconds
        self._last = float("-inf")
        self._under_way: asyncio.Task[None] | None = None
        self.known = False
        """Whether there were keys ever."""

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep the keys fresh until left. Does not wait for them."""
        task = asyncio.create_task(self._again_and_again())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def refresh(self) -> None:
        """Fetch the keys, or wait for the fetch that is under way; at once where the last was a moment ago."""
        if self._under_way is not None or time.monotonic() - self._last >= self._least_seconds:
            await self._fetch_once()

    async def _again_and_again(self) -> None:
        while True:
            await self._fetch_once()
            await asyncio.sleep(self._refresh_seconds if self.known else min(self._refresh_seconds, RETRY_SECONDS))

    async def _fetch_once(self) -> None:
        if self._under_way is None:
            self._last = time.monotonic()
            self._under_way = asyncio.create_task(self._fetch())
            self._under_way.add_done_callback(self._done)
        await asyncio.wait([self._under_way])

    async def _fetch(self) -> None:
        try:
            keys = read_jwks(await asyncio.to_thread(_get, self._url))
        except (OSError, BadKeys, http.client.HTTPException) as error:
            log.warning("jwks_not_fetched", url=_shown(self._url), reason=str(error) or repr(error), keeps=self.known)
            self._fetched(False)
            return
        self.known = True
        self._fetched(True)
        self._changed(keys)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._under_way = None
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("jwks_failed", exc_info=error)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Whoever can redirect could name other keys."""

    def redirect_request(self, *_: object) -> None:
        """Follow none."""
        return


_opener = urllib.request.build_opener(_NoRedirect)


def _get(url: str) -> bytes:
    request = urllib.request.Request(url, headers={"Accept": "application/json"})  # noqa: S310 - the settings check it
    with _opener.open(request, timeout=TIMEOUT_SECONDS) as response:
        body: bytes = response.read(MAX_BYTES + 1)
    if len(body) > MAX_BYTES:
        raise BadKeys(f"The key set has more than {MAX_BYTES} bytes.")
    return body


def _shown(url: str) -> str:
    """Without a password that somebody may have put into it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}{parts.path}"
