"""Loopcast: live events of agent loops. What an agent's process needs is here; services import the modules."""

from __future__ import annotations

from loopcast.sdk import LoopcastTransport, Transport

__all__ = ["LoopcastTransport", "Transport"]
