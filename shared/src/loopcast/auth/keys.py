"""
The keys that tokens are verified with, each bound to one algorithm. Pure.

A token's header says which algorithm it was signed with, and whoever forges one writes that header: an RSA public key
taken for an HMAC secret would let anybody sign (RFC 8725, 2.1 and 3.1). So a key is found by algorithm and id, and
verifies by the algorithm that it was loaded for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    import jwt

__all__ = ["MAX_KEYS", "MIN_SECRET_BYTES", "BadKeys", "KeyRing", "VerificationKey", "read_jwks"]

MIN_SECRET_BYTES = 32
"""HS256 needs a secret as long as its hash (RFC 7518, 3.2)."""

MAX_KEYS = 100
"""Keys that are taken from one set."""

MIN_RSA_BITS = 2048
"""RFC 7518, 3.3."""

_ALGORITHM = {("RSA", None): "RS256", ("EC", "P-256"): "ES256"}
"""By `kty` and, where there is one, `crv`. Symmetric keys have no place in a set that is public."""


class BadKeys(ValueError):
    """A key set is none; the sentence says why."""


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A key and the one algorithm that it verifies."""

    algorithm: str
    id: str | None
    material: bytes | jwt.PyJWK = field(repr=False)


@dataclass(frozen=True, slots=True)
class KeyRing:
    """All keys of a service: shared secrets, and the public keys of a set."""

    secrets: tuple[VerificationKey, ...] = ()
    public: tuple[VerificationKey, ...] = ()

    @classmethod
    def of_secrets(cls, secrets: Sequence[str]) -> KeyRing:
        """The ring with these secrets."""
        return cls(tuple(VerificationKey("HS256", None, secret.encode()) for secret in secrets))

    def candidates(self, algorithm: str, key_id: str | None) -> list[VerificationKey]:
        """The keys that a token which names these may have been signed with; none if it names an unknown one."""
        if algorithm == "HS256":
            return list(self.secrets)
        fitting = [key for key in self.public if key.algorithm == algorithm]
        return fitting if key_id is None else [key for key in fitting if key.id == key_id]


def read_jwks(document: bytes) -> tuple[VerificationKey, ...]:
    """
    The usable keys of a JSON Web Key Set (RFC 7517, 5); what is for other uses or algorithms is left out.

    Raises:
        BadKeys: it is no key set, or has no key that could verify RS256 or ES256.
    """
    try:
        found = msgspec.json.decode(document)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadKeys(f"The key set is not JSON: {error}.") from None
    entries = found.get("keys") if isinstance(found, dict) else None
    if not isinstance(entries, list):
        raise BadKeys('The key set has no list "keys" (RFC 7517, 5).')
    keys = [key for entry in entries[:MAX_KEYS] if isinstance(entry, dict) and (key := _read(entry)) is not None]
    if not keys:
        raise BadKeys(f"None of the {len(entries)} keys of the set verifies RS256 (2048 bits or more) or ES256.")
    return tuple(keys)


def _read(entry: Mapping[str, object]) -> VerificationKey | None:
    # With them comes all of cryptography, which a service that checks no tokens starts without.
    import jwt
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    kind, key_id = entry.get("kty"), entry.get("kid")
    algorithm = _ALGORITHM.get((str(kind), str(entry.get("crv")) if kind == "EC" else None))
    operations = entry.get("key_ops")
    if (
        algorithm is None
        or entry.get("alg", algorithm) != algorithm
        or entry.get("use", "sig") != "sig"
        or (isinstance(operations, list) and "verify" not in operations)
        or not isinstance(key_id, str | None)
        or "d" in entry
    ):
        return None
    try:
        key = jwt.PyJWK(dict(entry), algorithm=algorithm)
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None
    if isinstance(key.key, RSAPublicKey) and key.key.key_size < MIN_RSA_BITS:
        return None
    return VerificationKey(algorithm, key_id, key)
