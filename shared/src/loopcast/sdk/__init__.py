"""
What an agent's process needs: hand over an event in microseconds and forget it.

Only the standard library and msgspec; the modules behind :mod:`~loopcast.sdk.transport` are imported when a transport
is made, so that importing costs an agent's start next to nothing.
"""

from __future__ import annotations

from loopcast.sdk.transport import LoopcastTransport, Transport

__all__ = ["LoopcastTransport", "Transport"]
