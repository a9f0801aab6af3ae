"""
API keys: long random texts, of which a file has the hashes and what each permits. Pure.

A key has 256 random bits, so one round of SHA-256 hides it: there is nothing to guess, and slow hashes are for what
people choose themselves. A key is found by its hash, which tells nobody how much of a wrong one was right.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import secrets
import tomllib
from collections.abc import Mapping
from typing import Annotated

import msgspec

from loopcast.auth.grants import Grants, Rate
from loopcast.auth.patterns import BadPattern, Patterns
from loopcast.errors import ConfigurationError, InvalidToken

__all__ = ["PREFIX", "ApiKeys", "entry_of", "is_api_key", "make_key", "read_api_keys"]

PREFIX = "lck_"
"""What every key begins with, so that scanners for leaked secrets know one."""

_Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,62}\Z")]
_Sha256 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
_Above0 = Annotated[float, msgspec.Meta(gt=0, le=1e9)]


class _Entry(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    name: _Name
    sha256: _Sha256
    publish: list[str] = msgspec.field(default_factory=list)
    subscribe: list[str] = msgspec.field(default_factory=list)
    rate: _Above0 | None = None
    burst: _Above0 | None = None
    expires: Annotated[dt.datetime, msgspec.Meta(tz=True)] | None = None


class _File(msgspec.Struct, forbid_unknown_fields=True):
    key: list[_Entry] = msgspec.field(default_factory=list)


class ApiKeys:
    """The keys of one file, by hash."""

    def __init__(self, grants: Mapping[str, Grants]) -> None:
        self._grants = dict(grants)
        self.names = frozenset(g.key for g in self._grants.values() if g.key is not None)

    def has(self, grants: Grants) -> bool:
        """Whether a key of this file gives exactly `grants`."""
        return grants in self._grants.values()

    def check(self, key: str, *, now: float) -> Grants:
        """
        What `key` permits at the Unix time `now`.

        Raises:
            InvalidToken: nothing.
        """
        found = self._grants.get(_hash(key))
        if found is None:
            raise InvalidToken("This API key is not known here.", reason="unknown_key")
        if found.expires is not None and now >= found.expires:
            raise InvalidToken("The API key has expired: get a new one.", reason="expired")
        return found


def is_api_key(credential: str) -> bool:
    """Whether it looks like one, and not like a token."""
    return credential.startswith(PREFIX)


def make_key() -> str:
    """Make a new key: the only time that anybody sees it."""
    return PREFIX + secrets.token_urlsafe(32)


def entry_of(
    key: str, name: str, *, publish: tuple[str, ...] = (), subscribe: tuple[str, ...] = (), rate: float | None = None
) -> str:
    """
    What to put into the file for `key`.

    Raises:
        BadPattern: a pattern is none.
    """
    lines = ["[[key]]", f"name = {_quoted(name)}", f'sha256 = "{_hash(key)}"']
    for what, patterns in (("publish", publish), ("subscribe", subscribe)):
        if patterns:
            listed = ", ".join(map(_quoted, Patterns.of(patterns, what=what).texts))
            lines.append(f"{what} = [{listed}]")
    if rate is not None:
        lines.append(f"rate = {rate:g}")
    return "\n".join(lines) + "\n"


def read_api_keys(text: str, *, path: str) -> ApiKeys:
    """
    Read a file of keys (TOML); `path` is for the sentence of the error.

    Raises:
        ConfigurationError: it is none; the sentence says where and why.
    """
    try:
        entries = msgspec.convert(tomllib.loads(text), _File).key
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ConfigurationError(f"{path}: {error}.") from None
    grants: dict[str, Grants] = {}
    names: set[str] = set()
    for entry in entries:
        if entry.sha256 in grants or entry.name in names:
            raise ConfigurationError(f"{path}: there are two keys {entry.name!r}, or two with its hash.")
        names.add(entry.name)
        try:
            grants[entry.sha256] = _grants(entry)
        except BadPattern as error:
            raise ConfigurationError(f"{path}: key {entry.name!r}: {error}") from None
    return ApiKeys(grants)


def _grants(entry: _Entry) -> Grants:
    rate = None if entry.rate is None else Rate.of(entry.rate, entry.burst)
    return Grants(
        user=f"key:{entry.name}",
        publish=Patterns.of(entry.publish, what="publish"),
        subscribe=Patterns.of(entry.subscribe, what="subscribe"),
        expires=None if entry.expires is None else entry.expires.timestamp(),
        key=entry.name,
        rate=rate,
    )


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def _quoted(text: str) -> str:
    """A TOML basic string, which JSON's are (https://toml.io/en/v1.0.0#string), but for DEL."""
    return json.dumps(text).replace("\x7f", "\\u007f")
