"""
Standard Webhooks 1.0.0 signatures (https://github.com/standard-webhooks/standard-webhooks/blob/main/spec): pure.

What is signed is `<id>.<timestamp>.<body>`, the body as the exact bytes that are sent. With several keys each signs,
newest first, so that a receiver that knows any of them verifies the call: that is how keys are rotated.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable, Sequence

from loopcast.errors import ConfigurationError

__all__ = ["Key", "call_id", "sign"]

PREFIX = "whsec_"
MIN_BYTES, MAX_BYTES = 24, 64
"""The specification's bounds for a symmetric secret."""


class Key:
    """A symmetric key. Nothing that prints it shows it."""

    __slots__ = ("_raw",)

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    @classmethod
    def parse(cls, text: str) -> Key:
        """
        Read `whsec_` and base64, as it stands in a secret's file.

        Raises:
            ConfigurationError: it is not that; the sentence shows nothing of it.
        """
        text = text.strip()
        try:
            raw = base64.b64decode(text.removeprefix(PREFIX), validate=True)
        except (binascii.Error, ValueError):
            raw = b""
        if not text.startswith(PREFIX) or not MIN_BYTES <= len(raw) <= MAX_BYTES:
            raise ConfigurationError(
                f"a signing secret is {PREFIX} and the base64 of {MIN_BYTES} to {MAX_BYTES} random bytes; "
                f"make one with: echo {PREFIX}$(openssl rand -base64 32)"
            )
        return cls(raw)

    def signature(self, content: bytes) -> str:
        """The signature of `content`, with its version."""
        return "v1," + base64.b64encode(hmac.digest(self._raw, content, "sha256")).decode("ascii")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Key) and hmac.compare_digest(self._raw, other._raw)

    def __hash__(self) -> int:
        return hash(self._raw)

    def __repr__(self) -> str:
        return "Key(***)"


def call_id(ids: Sequence[str]) -> str:
    """
    The `webhook-id` of a call that carries the events `ids`.

    A function of the events alone: a retry of the same events has the same id, by whichever replica, and a receiver
    that drops repeats by `webhook-id` never drops other events with them. It has no dot, which the signature needs.
    """
    digest = hashlib.sha256("\n".join(ids).encode("utf-8", "surrogatepass")).digest()
    return "msg_" + base64.b32encode(digest[:20]).decode("ascii").lower()


def sign(keys: Iterable[Key], *, id: str, timestamp: int, body: bytes) -> dict[str, str]:  # noqa: A002 - the spec's word
    """The headers of a call made at the Unix second `timestamp`; without keys, id and timestamp only."""
    headers = {"webhook-id": id, "webhook-timestamp": str(timestamp)}
    content = b"".join((f"{id}.{timestamp}.".encode("ascii"), body))
    signatures = " ".join(key.signature(content) for key in keys)
    if signatures:
        headers["webhook-signature"] = signatures
    return headers
