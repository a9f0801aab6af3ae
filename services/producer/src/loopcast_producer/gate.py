"""Who may send what, and how much: asked once for each request, before its body is read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from loopcast.auth import Authenticator, Bucket, Buckets, Grants, bearer
from loopcast.errors import InvalidToken, KeysUnavailable, NotPermitted
from loopcast.events import Event
from loopcast.origins import Origins
from loopcast_producer.problems import (
    Refusal,
    keys_unavailable,
    not_permitted,
    not_this_service,
    page_not_allowed,
    too_many_requests,
    unauthorized,
)
from loopcast_producer.remembered import remembered

__all__ = ["Gate", "Visitor"]

Headers = Sequence[tuple[bytes, bytes]]


class Visitor:
    """Who sends a request, and what that permits."""

    __slots__ = ("_bucket", "_clock", "_grants", "_grants_now")

    def __init__(
        self,
        grants: Grants,
        bucket: Bucket | None,
        clock: Callable[[], float],
        grants_now: Callable[[], Grants] | None = None,
    ) -> None:
        self._grants = grants
        self._bucket = bucket
        self._clock = clock
        self._grants_now = grants_now

    def may_send_to(self, experiment: str) -> None:
        """
        Check an experiment that the address names.

        Raises:
            Refusal: 403.
        """
        if not self._grants.publish.permit(experiment):
            raise not_permitted(_sentence(experiment))

    def check(self, event: Event) -> Event:
        """
        Check an event that names its experiment itself; the event.

        Raises:
            NotPermitted: it may not be sent.
        """
        if not self._grants.publish.permit(event.experiment):
            raise NotPermitted(_sentence(event.experiment))
        return event

    def may_go_on(self, experiment: str | None) -> None:
        """
        Check, in the middle of a stream to `experiment`, that what was shown still permits it.

        A stream may be open for longer than a token is good, or its key in the file.

        Raises:
            Refusal: 401, 403, 429.
        """
        if self._grants_now is not None:
            try:
                self._grants = self._grants_now()
            except InvalidToken as error:
                raise unauthorized(error) from None
            if experiment is not None:
                self.may_send_to(experiment)
        self.may_send_now()

    def may_send_now(self) -> None:
        """
        Check that it has not sent too much.

        Raises:
            Refusal: 429.
        """
        if self._bucket is not None and (wait := self._bucket.wait(self._clock())) > 0:
            raise too_many_requests(wait)

    def sends(self, events: int) -> None:
        """Count events against the rate."""
        if self._bucket is not None:
            self._bucket.take(events, self._clock())


class Gate:
    """
    Asks who it is by `Authorization`, and which page it is of by `Host` and `Origin`.

    Args:
        authenticator: knows tokens and keys.
        origins: the pages and names that may be used.
        buckets: what each user may still send.
        clock: seconds that only go forward.
    """

    def __init__(
        self, authenticator: Authenticator, origins: Origins, buckets: Buckets, clock: Callable[[], float]
    ) -> None:
        self._authenticator = authenticator
        self._buckets = buckets
        self._clock = clock
        self._anybody = None if authenticator.asks else Visitor(authenticator.check(None), None, clock)

        @remembered
        def refusal(page: tuple[str, str | None]) -> Callable[[], Refusal] | None:
            host, origin = page
            if not origins.allows_host(host):
                return lambda: not_this_service(host)
            if not origins.allows_origin(origin, host):
                return lambda: page_not_allowed(origin or "")
            return None

        self._refusal = refusal

    async def admit(self, headers: Headers) -> Visitor:
        """
        Who sends a request with these header fields (names in lower case).

        Raises:
            Refusal: 401, 403, 429, or 503 where the keys to verify a token with are not known yet.
        """
        self.check_page(headers)
        if self._anybody is not None:
            return self._anybody
        try:
            token = bearer(v.decode("latin-1") for n, v in headers if n == b"authorization")
            grants = await self._authenticator.authenticate(token)
        except InvalidToken as error:
            raise unauthorized(error) from None
        except KeysUnavailable as error:
            raise keys_unavailable(error) from None
        bucket = self._buckets.of(grants.user, grants.rate, self._clock()) if grants.user else None
        visitor = Visitor(grants, bucket, self._clock, partial(self._authenticator.check, token))
        visitor.may_send_now()
        return visitor

    def check_page(self, headers: Headers) -> str:
        """
        Check which page sends, if one does; its origin, or nothing.

        Raises:
            Refusal: 403.
        """
        host, origin = "", None
        for name, value in headers:
            if name == b"host":
                host = value.decode("latin-1")
            elif name == b"origin":
                origin = value.decode("latin-1")
        if (refusal := self._refusal((host, origin))) is not None:
            raise refusal()
        return origin or ""


def _sentence(experiment: str) -> str:
    return f"The token does not permit to send to {experiment[:100]!r}: its publish patterns do not match."
