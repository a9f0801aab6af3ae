"""
JSON Web Tokens: from a text to what it permits, and the making of one. Pure; PyJWT does the cryptography.

A token has the claims `publish` and `subscribe`, lists of experiment patterns, and `exp`; `nbf` counts, `aud` and `iss`
as the service's settings say (RFC 7519, 4.1). A token that names an audience is refused where none is set: it was made
for somebody else (4.1.3).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jwt

from loopcast.auth.grants import Grants
from loopcast.auth.keys import KeyRing
from loopcast.auth.patterns import BadPattern, Patterns
from loopcast.errors import InvalidToken

__all__ = ["ALGORITHMS", "MAX_TOKEN_BYTES", "Rules", "make_token", "verify"]

ALGORITHMS = ("HS256", "RS256", "ES256")
MAX_TOKEN_BYTES = 8192
"""Longer ones are not looked at."""

MAX_USER_LENGTH = 255


@dataclass(frozen=True, slots=True)
class Rules:
    """What a service asks of a token besides its signature."""

    audience: tuple[str, ...] = ()
    """One of these must be in `aud`."""
    issuer: tuple[str, ...] = ()
    """`iss` must be one of these; without any it is not looked at."""
    leeway: float = 30.0
    """Seconds by which two machines' clocks may differ."""
    publish_claim: str = "publish"
    subscribe_claim: str = "subscribe"


def verify(token: str, keys: KeyRing, rules: Rules, *, now: float) -> Grants:
    """
    What `token` permits at the Unix time `now`.

    Raises:
        InvalidToken: nothing. Its `reason` is `unknown_key` where newer keys may help.
    """
    algorithm, key_id = _header(token)
    candidates = keys.candidates(algorithm, key_id)
    if not candidates and algorithm == "HS256":
        raise InvalidToken("Tokens signed with a shared secret are not taken here.", reason="algorithm")
    if not candidates:
        raise InvalidToken("No key that is known here verifies this token.", reason="unknown_key")
    for position, key in enumerate(candidates, 1):
        try:
            claims = _decode(token, key.material, key.algorithm, rules)
        except jwt.InvalidSignatureError:
            if position == len(candidates):
                # A token that names no key may be signed with one that is newer than those that are known.
                reason = "unknown_key" if key_id is None and algorithm != "HS256" else "signature"
                raise InvalidToken("The token's signature is wrong.", reason=reason) from None
        else:
            break
    expires = _check_times(claims, rules.leeway, now)
    return Grants(
        user=_user(claims, token),
        publish=_patterns(claims, rules.publish_claim),
        subscribe=_patterns(claims, rules.subscribe_claim),
        expires=expires,
    )


def make_token(
    secret: str,
    *,
    publish: tuple[str, ...] = (),
    subscribe: tuple[str, ...] = (),
    now: float,
    ttl: float,
    subject: str | None = None,
    audience: str | None = None,
    issuer: str | None = None,
) -> str:
    """
    Sign a token with `secret` (HS256) that is good for `ttl` seconds.

    Raises:
        BadPattern: a pattern is none.
    """
    claims: dict[str, Any] = {"iat": int(now), "exp": int(now + ttl)}
    for name, patterns in (("publish", publish), ("subscribe", subscribe)):
        if patterns:
            claims[name] = list(Patterns.of(patterns, what=name).texts)
    claims |= {name: v for name, v in (("sub", subject), ("aud", audience), ("iss", issuer)) if v is not None}
    return jwt.encode(claims, secret.encode(), algorithm="HS256")


def _header(token: str) -> tuple[str, str | None]:
    if len(token) > MAX_TOKEN_BYTES or not token.isascii():
        raise InvalidToken("This is no token.", reason="malformed")
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise InvalidToken("This is no token.", reason="malformed") from None
    algorithm, key_id = header.get("alg"), header.get("kid")
    if algorithm not in ALGORITHMS or "crit" in header or "b64" in header:
        raise InvalidToken(f"Tokens are signed with one of {', '.join(ALGORITHMS)}.", reason="algorithm")
    return algorithm, key_id if isinstance(key_id, str) else None


def _decode(token: str, material: bytes | jwt.PyJWK, algorithm: str, rules: Rules) -> Mapping[str, Any]:
    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            material,
            algorithms=[algorithm],
            audience=list(rules.audience) or None,
            issuer=list(rules.issuer) or None,
            # Time is the caller's here, so that this stays pure.
            options={"verify_exp": False, "verify_nbf": False, "verify_iat": False, "require": ["exp"]},
        )
    except jwt.InvalidSignatureError:
        raise
    except jwt.InvalidAudienceError:
        raise InvalidToken("The token is for another audience (LOOPCAST_JWT_AUDIENCE).", reason="audience") from None
    except jwt.InvalidIssuerError:
        raise InvalidToken("The token is from another issuer (LOOPCAST_JWT_ISSUER).", reason="issuer") from None
    except jwt.MissingRequiredClaimError as error:
        raise InvalidToken(f"The token has no {error.claim!r}.", reason="claims") from None
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
        raise InvalidToken("This is no token.", reason="malformed") from None
    return claims


def _check_times(claims: Mapping[str, Any], leeway: float, now: float) -> float:
    expires, begins = _time(claims, "exp"), _time(claims, "nbf")
    assert expires is not None
    if now >= expires + leeway:
        raise InvalidToken("The token has expired: get a new one.", reason="expired")
    if begins is not None and now < begins - leeway:
        raise InvalidToken("The token is not good yet.", reason="early")
    return expires + leeway


def _time(claims: Mapping[str, Any], name: str) -> float | None:
    """A NumericDate (RFC 7519, 2)."""
    value = claims.get(name)
    if name not in claims:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e11 or math.isnan(value):
        raise InvalidToken(f"The token's {name!r} is no time.", reason="claims")
    return float(value)


def _user(claims: Mapping[str, Any], token: str) -> str:
    """Who it is: the subject, at its issuer; a token without one is itself somebody, by a hash that opens nothing."""
    subject, issuer = claims.get("sub"), claims.get("iss")
    if isinstance(subject, str) and subject:
        user = f"{issuer}#{subject}" if isinstance(issuer, str) else subject
        return user[:MAX_USER_LENGTH]
    return f"token:{hashlib.sha256(token.encode()).hexdigest()[:16]}"


def _patterns(claims: Mapping[str, Any], name: str) -> Patterns:
    try:
        return Patterns.of(claims.get(name, ()), what=f"The token's {name!r}")
    except BadPattern as error:
        raise InvalidToken(str(error), reason="claims") from None
