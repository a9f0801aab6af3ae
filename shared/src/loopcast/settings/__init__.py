"""
Every setting of every service, with its default and its meaning: the only list of them.

Settings come from `LOOPCAST_*` variables. A bad value stops the start with one line that names the variable; a name
that nothing here knows is warned of, with the nearest one that something does. `docs/configuration.md` is written
from this package: a module for each service, `base` for what they share.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from typing import TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from loopcast.errors import ConfigurationError
from loopcast.settings.base import ServiceSettings, is_loopback
from loopcast.settings.environment import FILE, PREFIX, is_injected, shown
from loopcast.settings.gateway import GatewaySettings
from loopcast.settings.otel_exporter import OtelExporterSettings
from loopcast.settings.producer import ProducerSettings
from loopcast.settings.public import PublicSettings
from loopcast.settings.recorder import PLACES, RecorderSettings
from loopcast.settings.webhook_forwarder import WebhookForwarderSettings

__all__ = [
    "PLACES",
    "PREFIX",
    "SERVICES",
    "GatewaySettings",
    "OtelExporterSettings",
    "ProducerSettings",
    "PublicSettings",
    "RecorderSettings",
    "ServiceSettings",
    "WebhookForwarderSettings",
    "is_injected",
    "is_loopback",
    "load",
    "login_is_in_files",
    "unknown_names",
    "wrong_settings",
]

_NOT_OF_SERVICES = {
    "LOOPCAST_URL",
    "LOOPCAST_EXPERIMENT",
    "LOOPCAST_TOKEN",
    "LOOPCAST_SPOOL_DIR",
    "LOOPCAST_SPOOL_MAX_BYTES",
    "LOOPCAST_SPOOL_FULL",
    "LOOPCAST_GATEWAY_URL",
}
"""Read by the SDK and the command line, so legal beside a service."""

SERVICES: dict[str, type[ServiceSettings]] = {
    "producer": ProducerSettings,
    "gateway": GatewaySettings,
    "otel-exporter": OtelExporterSettings,
    "webhook-forwarder": WebhookForwarderSettings,
    "recorder": RecorderSettings,
}

S = TypeVar("S", bound=ServiceSettings)


def load(settings: type[S]) -> S:
    """
    Read `settings` from the environment.

    Raises:
        ConfigurationError: a value is wrong; the sentence names each variable and says what is.
    """
    try:
        return settings()
    except ValidationError as error:
        raise ConfigurationError("; ".join(map(_sentence, error.errors(include_url=False)))) from None


def _sentence(wrong: ErrorDetails) -> str:
    message = wrong["msg"].removeprefix("Value error, ")
    if not wrong["loc"]:
        # It is about several settings: the input is all of them, secrets among them.
        return message
    name = str(wrong["loc"][0])
    return f"{PREFIX}{name.upper()}={shown(name, wrong['input'])}: {message}"


def wrong_settings() -> list[str]:
    """A sentence for each variable that some service would not start with."""
    wrong = set()
    for settings in SERVICES.values():
        try:
            load(settings)
        except ConfigurationError as error:
            wrong.update(str(error).split("; "))
    return sorted(wrong)


def login_is_in_files() -> bool:
    """Whether the broker's URL, or a login beside it, is in a file, which may have another one later."""
    return any(PREFIX + name + FILE in os.environ for name in ("AMQP_URL", "AMQP_USERNAME", "AMQP_PASSWORD"))


def unknown_names(environ: Mapping[str, str] | None = None) -> dict[str, str | None]:
    """`LOOPCAST_*` names that nothing knows, each with the nearest one that something does."""
    settings = {PREFIX + name.upper() for s in SERVICES.values() for name in s.model_fields}
    known = _NOT_OF_SERVICES | settings | {name + FILE for name in settings}
    found: dict[str, str | None] = {}
    for name, value in (os.environ if environ is None else environ).items():
        if name.startswith(PREFIX) and name not in known and not is_injected(name, value) and "_TEST_" not in name:
            # Without what all of them begin with, which would make any two names alike.
            near = difflib.get_close_matches(name[len(PREFIX) :], sorted(other[len(PREFIX) :] for other in known), n=1)
            found[name] = PREFIX + near[0] if near else None
    return found
