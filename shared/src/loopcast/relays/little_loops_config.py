"""
What a little-loops configuration says of its transports, as the settings and endpoints that do the same here. Pure.

The source of the keys and their defaults is little-loops' `config/features.py`, `EventsConfig`; of the warnings, its
`wire_transports`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import NamedTuple

from loopcast.errors import ConfigurationError

__all__ = ["Translation", "translate"]

KNOWN = ("jsonl", "socket", "otel", "webhook", "sqlite")
_SECTIONS = {
    "socket": ("path", "max_clients"),
    "otel": ("endpoint", "service_name"),
    "webhook": ("url", "batch_ms", "headers"),
    "sqlite": ("path",),
    "bridge": ("port", "max_clients", "keepalive_s", "rescan_s", "history"),
}


class Translation(NamedTuple):
    """What a configuration comes to."""

    settings: dict[str, str]
    """`LOOPCAST_*` variables, for the services that they name."""
    endpoints: list[dict[str, object]]
    """Entries of the webhook-forwarder's file."""
    services: list[str]
    """The services that do what the transports did."""
    notes: list[str]
    """What is different, missing or was never read: a sentence each."""


def translate(config: Mapping[str, object]) -> Translation:
    """
    The `events` section of `.ll/ll-config.json`, translated.

    Raises:
        ConfigurationError: a value is of the wrong type; the sentence names it.
    """
    events = _section(config, "events")
    found = Translation({}, [], [], [])
    names = events.get("transports", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConfigurationError('events.transports: write a list of names, such as ["jsonl", "webhook"].')
    for name in dict.fromkeys(names):
        if name in KNOWN:
            _TRANSLATIONS[name](_section(events, name, "events."), found)
        else:
            found.notes.append(f"Unknown transport {name!r}: little-loops skips it, and so does this.")
    _note_the_rest(events, set(names), found)
    return found


def _jsonl(section: Mapping[str, object], found: Translation) -> None:
    del section
    found.settings["LOOPCAST_RECORDER_JSONL"] = ".ll/events"
    _serve(found, "recorder")
    found.notes.append("jsonl: a folder with a file for each experiment and day, instead of one .ll/events.jsonl.")


def _socket(section: Mapping[str, object], found: Translation) -> None:
    path = PurePosixPath(_text(section, "events.socket.path", "path", ".ll/events.sock"))
    # Relative to .ll, as little-loops resolves it.
    inside = path if path.is_absolute() or path.parts[:1] == (".ll",) else PurePosixPath(".ll") / path
    found.settings["LOOPCAST_RECORDER_SOCKET"] = str(inside)
    clients = section.get("max_clients")
    if clients is not None:
        found.settings["LOOPCAST_RECORDER_SOCKET_CLIENTS"] = str(_number(clients, "events.socket.max_clients"))
    _serve(found, "recorder")
    found.notes.append(f"socket: take `socket` out of events.transports, or both want {inside}.")


def _otel(section: Mapping[str, object], found: Translation) -> None:
    found.settings["LOOPCAST_OTLP_ENDPOINT"] = _text(
        section, "events.otel.endpoint", "endpoint", "http://localhost:4317"
    )
    found.settings["LOOPCAST_OTEL_SERVICE_NAME"] = _text(
        section, "events.otel.service_name", "service_name", "little-loops"
    )
    _serve(found, "otel-exporter")


def _webhook(section: Mapping[str, object], found: Translation) -> None:
    url = section.get("url")
    if url is None:
        found.notes.append("webhook: events.webhook.url is not set, so little-loops sends nothing, and so does this.")
        return
    headers = section.get("headers", {})
    if not isinstance(headers, dict):
        raise ConfigurationError("events.webhook.headers: write an object of names and values.")
    endpoint: dict[str, object] = {
        "name": "little-loops",
        "url": _text(section, "events.webhook.url", "url", ""),
        "bindings": ["#"],
        "format": "little-loops",
        "batch": {"max_ms": _number(section.get("batch_ms", 1000), "events.webhook.batch_ms")},
    }
    if headers:
        endpoint["headers"] = {str(name): str(value) for name, value in headers.items()}
    found.endpoints.append(endpoint)
    _serve(found, "webhook-forwarder")
    found.notes.append(
        "webhook: an address inside the network needs `allow_private: true` in its endpoint; "
        "answers other than 2xx are tried again instead of being taken for success."
    )


def _sqlite(section: Mapping[str, object], found: Translation) -> None:
    found.settings["LOOPCAST_RECORDER_SQLITE"] = ".ll/loopcast.db"
    _serve(found, "recorder")
    found.notes.append("sqlite: a database of its own; .ll/history.db is little-loops' and stays as it is.")
    if "path" in section:
        found.notes.append("sqlite: events.sqlite.path is never read by little-loops, and is not used here.")


_TRANSLATIONS = {"jsonl": _jsonl, "socket": _socket, "otel": _otel, "webhook": _webhook, "sqlite": _sqlite}


def _note_the_rest(events: Mapping[str, object], used: set[str], found: Translation) -> None:
    """Say what is configured and has no effect."""
    for name, value in events.items():
        if name == "transports":
            continue
        if name not in _SECTIONS:
            found.notes.append(f"Unknown section events.{name}: it is not used.")
            continue
        for key in value if isinstance(value, dict) else ():
            if key not in _SECTIONS[name]:
                found.notes.append(f"Unknown setting events.{name}.{key}: it is not used.")
        if name == "bridge":
            found.notes.append("bridge: what `ll-artifact serve` shows is the gateway's dashboard here.")
        elif name not in used:
            found.notes.append(f"events.{name} is configured and not in events.transports: it is not used.")


def _serve(found: Translation, service: str) -> None:
    if service not in found.services:
        found.services.append(service)


def _section(config: Mapping[str, object], name: str, before: str = "") -> Mapping[str, object]:
    section = config.get(name, {})
    if not isinstance(section, dict):
        raise ConfigurationError(f"{before}{name}: write an object.")
    return section


def _text(section: Mapping[str, object], named: str, key: str, default: str) -> str:
    value = section.get(key, default)
    if not isinstance(value, str) or not value:
        raise ConfigurationError(f"{named}: write text.")
    return value


def _number(value: object, named: str) -> int:
    if type(value) is not int or value < 0:
        raise ConfigurationError(f"{named}: write a number.")
    return value
