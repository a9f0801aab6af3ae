"""The composition root. For now the service starts, answers its probes and stops; it does no work of its own yet."""

from __future__ import annotations

from loopcast.lifecycle import Service, idle
from loopcast.settings import WebhookForwarderSettings, load

__all__ = ["build"]


def build() -> Service:
    """
    Make the service from the environment.

    Raises:
        ConfigurationError: a setting is wrong.
    """
    return idle("webhook-forwarder", load(WebhookForwarderSettings))
