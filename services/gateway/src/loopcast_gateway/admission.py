"""
Whether a WebSocket handshake is taken: path, page, protocol, room. Decided before the upgrade. Pure.

The WebSocket part of a handshake (key, version) is the WebSocket library's to judge; this is ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from loopcast.errors import InvalidExperiment
from loopcast.origins import Origins
from loopcast.routing import NOWHERE, check_experiment
from loopcast_gateway.dialects import DIALECTS

__all__ = ["PATH", "Admitted", "Capacity", "Refusal", "admit"]

PATH = "/ws"
_EXPERIMENT = "/ws/experiments/"


@dataclass(frozen=True, slots=True)
class Admitted:
    """The handshake goes on. `experiments`, which the address names, are followed from the start."""

    experiments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """The handshake is answered with this status and sentence; `reason` is the metric's label."""

    status: int
    reason: str
    detail: str
    retry_after: int = 0


@dataclass(frozen=True, slots=True)
class Capacity:
    """Whether there is any."""

    connections: int
    limit: int
    draining: bool


def admit(
    target: str, headers: Mapping[str, str], offered: Sequence[str], *, origins: Origins, capacity: Capacity
) -> Admitted | Refusal:
    """Judge a handshake for `target` with `headers` (names in lower case) that offers these subprotocols."""
    refusal = _visitor(headers, origins) or _space(capacity)
    if refusal is not None:
        return refusal
    path = _experiment(target)
    if isinstance(path, Admitted) and not set(DIALECTS) & set(offered):
        return Refusal(400, "subprotocol", f"Offer one of the WebSocket subprotocols {', '.join(DIALECTS)}.")
    return path


def _visitor(headers: Mapping[str, str], origins: Origins) -> Refusal | None:
    host, origin = headers.get("host"), headers.get("origin")
    if not origins.allows_host(host):
        return Refusal(403, "host", f"This service is not {host!r}: use its loopback address, or set LOOPCAST_HOST.")
    if not origins.allows_origin(origin, host):
        return Refusal(403, "origin", f"Pages of {origin!r} may not connect: add it to LOOPCAST_ALLOWED_ORIGINS.")
    return None


def _space(capacity: Capacity) -> Refusal | None:
    if capacity.draining:
        return Refusal(503, "draining", "This gateway is stopping: try another, or again in a moment.", 2)
    if capacity.connections >= capacity.limit:
        return Refusal(503, "limit", f"This gateway has its {capacity.limit} connections: try another, or later.", 5)
    return None


def _experiment(target: str) -> Admitted | Refusal:
    path = urlsplit(target).path
    if path == PATH:
        return Admitted(())
    encoded = path.removeprefix(_EXPERIMENT)
    if encoded == path or "/" in encoded:
        return Refusal(404, "path", f"WebSockets are at {PATH} and {_EXPERIMENT}<experiment id, percent-encoded>.")
    try:
        experiment = check_experiment(unquote(encoded, errors="strict"))
    except (InvalidExperiment, UnicodeDecodeError) as error:
        return Refusal(400, "experiment", f"The path names no experiment: {error}")
    if experiment == NOWHERE:
        return Refusal(400, "experiment", "Events that name no experiment are seen by subscribers of * only.")
    return Admitted((experiment,))
