"""
Whether a WebSocket handshake is taken: path, page, protocol, room. Decided before the upgrade. Pure.

The WebSocket part of a handshake (key, version) is the WebSocket library's to judge; this is ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote, urlsplit

from loopcast.errors import InvalidExperiment
from loopcast.origins import Origins
from loopcast.routing import ANYWHERE, NOWHERE, check_experiment
from loopcast_gateway.dialects import DIALECTS

__all__ = ["PATH", "Admitted", "Capacity", "Refusal", "admit"]

PATH = "/ws"
_EXPERIMENT = "/ws/experiments/"
_MAX_FIELDS = 1000


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
    """Whether there is any, and how many subscriptions one connection may begin with."""

    connections: int
    limit: int
    draining: bool
    subscriptions: int = 128


def admit(
    target: str, headers: Mapping[str, str], offered: Sequence[str], *, origins: Origins, capacity: Capacity
) -> Admitted | Refusal:
    """Judge a handshake for `target` with `headers` (names in lower case) that offers these subprotocols."""
    refusal = _visitor(headers, origins) or _space(capacity)
    if refusal is not None:
        return refusal
    names = _experiments(target)
    if isinstance(names, Refusal):
        return names
    spoken = [name for name in offered if name]
    if spoken and not set(DIALECTS) & set(spoken):
        detail = f"Offer one of the WebSocket subprotocols {', '.join(DIALECTS)}, or none for PromptLooper's."
        return Refusal(400, "subprotocol", detail)
    if len(names) > capacity.subscriptions:
        detail = f"A connection may have {capacity.subscriptions} subscriptions, not {len(names)}."
        return Refusal(400, "experiment", detail)
    # PromptLooper's clients see everything unless they say what; others see nothing.
    return Admitted(names if names or spoken else (ANYWHERE,))


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


def _experiments(target: str) -> tuple[str, ...] | Refusal:
    """The experiments that the path and the query name, each once."""
    parts = urlsplit(target)
    encoded = parts.path.removeprefix(_EXPERIMENT)
    if parts.path != PATH and (encoded == parts.path or "/" in encoded):
        return Refusal(404, "path", f"WebSockets are at {PATH} and {_EXPERIMENT}<experiment id, percent-encoded>.")
    try:
        named = [] if parts.path == PATH else [unquote(encoded, errors="strict")]
        query = parse_qsl(parts.query, keep_blank_values=True, errors="strict", max_num_fields=_MAX_FIELDS)
    except ValueError as error:
        return Refusal(400, "experiment", f"The address cannot be read: {error}.")
    named += [value for name, value in query if name == "experiment_id"]
    for experiment in named:
        if (fault := _fault(experiment)) is not None:
            return Refusal(400, "experiment", fault)
    return tuple(dict.fromkeys(named))


def _fault(experiment: str) -> str | None:
    if experiment == NOWHERE:
        return "Events that name no experiment are seen by subscribers of * only."
    try:
        check_experiment(experiment)
    except InvalidExperiment as error:
        return f"The address names no experiment: {error}"
    return None
