"""From what a client shows to what it may do: the one place where a service asks."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from loopcast import metrics as names
from loopcast.auth.api_keys import ApiKeys, is_api_key, read_api_keys
from loopcast.auth.grants import ANYBODY, Grants
from loopcast.auth.jwks import Jwks
from loopcast.auth.keys import KeyRing, VerificationKey
from loopcast.errors import ConfigurationError, InvalidToken, KeysUnavailable
from loopcast.metrics import Metrics
from loopcast.settings import PublicSettings

if TYPE_CHECKING:
    from loopcast.auth.tokens import Rules

__all__ = ["Authenticator"]

log = structlog.get_logger(__name__)

LOOK_SECONDS = 2.0
"""How often the file of API keys is looked at."""

_REMEMBERED = 4096


class Authenticator:
    """
    Checks tokens and API keys by a service's settings.

    Raises:
        ConfigurationError: the file of API keys cannot be read.
    """

    def __init__(self, settings: PublicSettings, metrics: Metrics, *, clock: Callable[[], float] = time.time) -> None:
        self.asks = settings.guarded
        """Whether there is anything that a client could show."""
        self.required = settings.guarded and not settings.allow_anonymous
        """Whether a client that shows nothing is refused."""
        self._clock = clock
        self._metrics = metrics
        # At the start, not at the first token; and not at all where nothing is asked for.
        self._rules = _rules(settings) if self.asks else None
        self._ring = KeyRing.of_secrets(settings.jwt_secrets)
        self._verified: OrderedDict[str, Grants] = OrderedDict()
        self._path = settings.api_keys_file
        self._seen = _signature(self._path)
        self._api_keys = ApiKeys({}) if self._path is None else _read(self._path)
        self._jwks = self._make_jwks(settings) if settings.jwks_url else None

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep keys fresh until left."""
        async with contextlib.AsyncExitStack() as stack:
            if self._jwks is not None:
                await stack.enter_async_context(self._jwks.running())
            task = asyncio.create_task(self._watch())
            try:
                yield
            finally:
                task.cancel()
                await asyncio.wait([task])

    def check(self, credential: str | None) -> Grants:
        """
        What `credential`, a token or an API key, permits now; None is a client that shows nothing.

        Raises:
            InvalidToken: nothing. Where its `reason` is `unknown_key`, :meth:`authenticate` may find the key.
        """
        try:
            return self._check(credential)
        except InvalidToken as error:
            self._metrics.counter(names.AUTH_FAILURES, reason=error.reason).inc()
            raise

    async def authenticate(self, credential: str | None) -> Grants:
        """
        Check as :meth:`check` does, but with newer keys where the known ones do not verify it.

        Raises:
            InvalidToken: it permits nothing.
            KeysUnavailable: that cannot be said now, because the keys could not be fetched yet.
        """
        if self.may_learn(credential):
            assert self._jwks is not None
            await self._jwks.refresh()
            if not self._jwks.known:
                with contextlib.suppress(InvalidToken):
                    return self._check(credential)
                raise KeysUnavailable("The keys that verify tokens cannot be had now (LOOPCAST_JWKS_URL): try again.")
        return self.check(credential)

    def may_learn(self, credential: str | None) -> bool:
        """Whether `credential` is unknown only for want of a key that may be published by now."""
        if self._jwks is None or credential is None or is_api_key(credential):
            return False
        try:
            self._check(credential)
        except InvalidToken as error:
            return error.reason in {"unknown_key", "signature"}
        return False

    def revoked(self, grants: Grants) -> bool:
        """Whether the API key that gave `grants` is no longer in the file, or permits something else now."""
        return grants.key is not None and not self._api_keys.has(grants)

    def _check(self, credential: str | None) -> Grants:
        if not self.asks or (credential is None and not self.required):
            return ANYBODY
        if credential is None:
            raise InvalidToken("A token is needed: send `Authorization: Bearer <token>`.", reason="missing")
        now = self._clock()
        if is_api_key(credential):
            return self._api_keys.check(credential, now=now)
        known = self._verified.get(credential)
        if known is not None and known.expires is not None and now < known.expires:
            return known
        grants = self._verify(credential, now)
        self._verified[credential] = grants
        if len(self._verified) > _REMEMBERED:
            self._verified.popitem(last=False)
        return grants

    def _verify(self, token: str, now: float) -> Grants:
        from loopcast.auth.tokens import verify

        assert self._rules is not None
        return verify(token, self._ring, self._rules, now=now)

    def _make_jwks(self, settings: PublicSettings) -> Jwks:
        def fetched(good: bool) -> None:
            self._metrics.counter(names.AUTH_JWKS, result="taken" if good else "failed").inc()

        return Jwks(
            settings.jwks_url,
            changed=self._take_keys,
            fetched=fetched,
            refresh_seconds=settings.jwks_refresh_seconds,
            least_seconds=settings.jwks_least_seconds,
        )

    def _take_keys(self, keys: tuple[VerificationKey, ...]) -> None:
        self._ring = KeyRing(self._ring.secrets, keys)
        # A key that was withdrawn must verify nothing any more, what it once verified included.
        self._verified.clear()

    async def _watch(self) -> None:
        while self._path is not None:
            await asyncio.sleep(LOOK_SECONDS)
            seen = await asyncio.to_thread(_signature, self._path)
            if seen == self._seen:
                continue
            self._seen = seen
            try:
                self._api_keys = await asyncio.to_thread(_read, self._path)
            except ConfigurationError as error:
                log.warning("api_keys_not_read", reason=str(error), hint="the old keys stay")
                self._metrics.counter(names.AUTH_API_KEYS, result="refused").inc()
            else:
                log.info("api_keys_read", keys=len(self._api_keys.names))
                self._metrics.counter(names.AUTH_API_KEYS, result="taken").inc()


def _rules(settings: PublicSettings) -> Rules:
    """What is asked of tokens. With it comes cryptography, a good part of a start."""
    from loopcast.auth.tokens import Rules

    return Rules(
        audience=settings.jwt_audience,
        issuer=settings.jwt_issuer,
        leeway=settings.jwt_leeway_seconds,
        publish_claim=settings.jwt_publish_claim,
        subscribe_claim=settings.jwt_subscribe_claim,
    )


def _signature(path: Path | None) -> tuple[int, int, int] | None:
    """What changes when a file does, also when a symbolic link on the way does (Kubernetes)."""
    try:
        found = path.stat() if path is not None else None
    except OSError:
        return None
    return None if found is None else (found.st_ino, found.st_mtime_ns, found.st_size)


def _read(path: Path) -> ApiKeys:
    try:
        return read_api_keys(path.read_text(encoding="utf-8"), path=str(path))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigurationError(f"The file of API keys {path} cannot be read: {reason}.") from None
