"""The process's environment, as settings read it: without what Kubernetes puts there."""

from __future__ import annotations

import re
from collections.abc import Mapping

from pydantic_settings import EnvSettingsSource

__all__ = ["PREFIX", "Environment", "is_injected"]

PREFIX = "LOOPCAST_"

# What Kubernetes puts into pods (https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables).
_INJECTED = re.compile(r"LOOPCAST_(.+_)?(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT_[0-9]+_(TCP|UDP)(_.+)?)\Z")


class Environment(EnvSettingsSource):
    """The environment without what Kubernetes injects."""

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return {k: v for k, v in super()._load_env_vars().items() if not is_injected(k.upper(), v)}


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
