"""
Where the broker is and how to log in, from an AMQP URL.

https://www.rabbitmq.com/docs/uri-spec and https://www.rabbitmq.com/docs/uri-query-parameters say what it may have.
One thing differs from the specification: an empty path is the vhost `/`, as every client for Python has it, where the
specification tells `amqp://host` (the default vhost) from `amqp://host/` (a vhost without a name).
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from loopcast.amqp.connection import Login
from loopcast.errors import ConfigurationError

__all__ = ["Target", "Tls", "parse_url"]

HEARTBEAT_SECONDS = 10
CONNECT_SECONDS = 10
_PORTS = {"amqp": 5672, "amqps": 5671}
_MECHANISMS = {"plain": False, "external": True}
_VERIFY = {"verify_peer": True, "verify_none": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """How to know the broker, and what to show it. Without `cacertfile`, the system's authorities are trusted."""

    server_name: str
    cacertfile: str | None = None
    certfile: str | None = None
    keyfile: str | None = None
    verify: bool = True

    def context(self) -> ssl.SSLContext:
        """
        Read the files; they are read at every connection, so that renewed certificates are used.

        Raises:
            ConfigurationError: a file cannot be read.
        """
        try:
            context = ssl.create_default_context(cafile=self.cacertfile)
            if self.certfile is not None:
                context.load_cert_chain(self.certfile, self.keyfile)
        except OSError as error:
            raise ConfigurationError(f"A certificate or key that the AMQP URL names cannot be read: {error}.") from None
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A broker to connect to."""

    host: str
    port: int
    login: Login
    tls: Tls | None = None
    connect_timeout: float = CONNECT_SECONDS

    def __str__(self) -> str:
        """Without the password: this is for sentences."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def parse_url(url: str, *, name: str) -> Target:
    """
    Read an AMQP URL; `name` is what the broker's listings show.

    Raises:
        ConfigurationError: it is none, or a parameter has a value that it cannot have.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ConfigurationError(f"The AMQP URL cannot be read: {error}.") from None
    if parts.scheme not in _PORTS:
        raise ConfigurationError("Write the AMQP URL as amqp://user:password@host:5672/vhost, or amqps:// for TLS.")
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    host = unquote(parts.hostname or "localhost")
    return Target(
        host=host,
        port=port or _PORTS[parts.scheme],
        login=_login(parts, query, name),
        tls=_tls(query, host) if parts.scheme == "amqps" else None,
        connect_timeout=_number(query, "connection_timeout", CONNECT_SECONDS * 1000, range(1, 3_600_001)) / 1000,
    )


def _login(parts: SplitResult, query: Mapping[str, str], name: str) -> Login:
    return Login(
        user="guest" if parts.username is None else unquote(parts.username),
        password="guest" if parts.password is None else unquote(parts.password),
        vhost=unquote(parts.path[1:]) or "/",
        name=name,
        heartbeat=_number(query, "heartbeat", HEARTBEAT_SECONDS, range(65536)),
        external=_choice(query, "auth_mechanism", "plain", _MECHANISMS),
    )


def _tls(query: Mapping[str, str], host: str) -> Tls:
    return Tls(
        server_name=query.get("server_name_indication") or host,
        cacertfile=query.get("cacertfile"),
        certfile=query.get("certfile"),
        keyfile=query.get("keyfile"),
        verify=_choice(query, "verify", "verify_peer", _VERIFY),
    )


def _number(query: Mapping[str, str], parameter: str, default: int, allowed: range) -> int:
    value = query.get(parameter)
    if value is None:
        return default
    if not (value.isascii() and value.isdigit() and int(value) in allowed):
        raise ConfigurationError(
            f"{parameter} in the AMQP URL must be a whole number from {allowed[0]} to {allowed[-1]}, not {value!r}."
        )
    return int(value)


def _choice(query: Mapping[str, str], parameter: str, default: str, choices: Mapping[str, bool]) -> bool:
    value = query.get(parameter, default)
    if value not in choices:
        raise ConfigurationError(f"{parameter} in the AMQP URL must be {' or '.join(choices)}, not {value!r}.")
    return choices[value]
