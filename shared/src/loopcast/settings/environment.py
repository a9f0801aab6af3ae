"""
The process's environment, as settings read it: without what Kubernetes puts there, and with what lies in files.

`LOOPCAST_X_FILE` names a file whose content is the value of `LOOPCAST_X`, so that a secret need not be in the
environment, which every child process and every dump of the process shows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from pydantic_settings import EnvSettingsSource

from loopcast.errors import ConfigurationError

__all__ = ["FILE", "PREFIX", "SECRETS", "Environment", "is_injected", "shown"]

PREFIX = "LOOPCAST_"
FILE = "_FILE"
"""What a setting's name ends with where a file has its value."""

SECRETS = (
    "amqp_url",
    "amqp_password",
    "jwt_secret",
    "jwt_previous_secret",
    "otlp_headers",
    "producer_redis_url",
    "recorder_postgres",
)
"""Settings that may hold a secret, which no message shows."""

# What Kubernetes puts into pods (https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables).
_INJECTED = re.compile(r"LOOPCAST_(.+_)?(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT_[0-9]+_(TCP|UDP)(_.+)?)\Z")


class Environment(EnvSettingsSource):
    """
    The environment without what Kubernetes injects.

    Raises:
        ConfigurationError: a file that a variable names cannot be read, or there is a value beside it.
    """

    def _load_env_vars(self) -> Mapping[str, str | None]:
        found = {k: v for k, v in super()._load_env_vars().items() if not is_injected(k.upper(), v)}
        for field in self.settings_cls.model_fields:
            name = (PREFIX + field).lower()
            if path := found.get(name + FILE.lower()):
                if found.get(name):
                    raise ConfigurationError(f"{name.upper()} and {name.upper()}{FILE} are both set: unset one.")
                found[name] = _content(name.upper() + FILE, path)
        return found


def _content(name: str, path: str) -> str:
    """Read the text of a file, without the newline that editors put at its end."""
    try:
        return Path(path).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{name}={path!r} cannot be read: {error}.") from None


def is_injected(name: str, value: str | None) -> bool:
    """Whether Kubernetes made this variable for a Service, and so did not mean us by it."""
    if _INJECTED.match(name):
        return True
    return (
        name.startswith(PREFIX)
        and name.endswith("_PORT")
        and bool(value)
        and str(value).startswith(("tcp://", "udp://"))
    )


def shown(name: str, value: object) -> str:
    """`value` of the setting `name` as a message may have it: without a secret."""
    if name not in SECRETS:
        return repr(value)
    if name == "amqp_url" and isinstance(value, str):
        return repr(re.sub(r"[^/]*@", "***@", value))
    return "(not shown)"
