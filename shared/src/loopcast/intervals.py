"""Times that both ends of a connection have to agree on. The standard library alone: the SDK has them too."""

from __future__ import annotations

__all__ = ["PULSE_SECONDS"]

PULSE_SECONDS = 30
"""How often an open run's process says that it lives; from it follows when a run is silent (:mod:`loopcast.pulse`)."""
