"""JSON Schemas (2020-12) of what the gateway takes and gives, made from the classes that are sent. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from loopcast.position import TOKEN_LENGTH
from loopcast_gateway.close_codes import CLOSE_CODES
from loopcast_gateway.protocol import COMMANDS, FRAMES

__all__ = ["CLOUDEVENT", "POSITION", "PROBLEM", "PROMPTLOOPER_COMMAND", "PROMPTLOOPER_EVENT", "Schema", "components"]

Schema = dict[str, Any]
REFERENCE = "#/components/schemas/{name}"

POSITION: Schema = {
    "type": "string",
    "pattern": f"^[0-9A-V]{{{TOKEN_LENGTH}}}$",
    "description": "A place in the log: opaque, and sortable within a partition.",
}

POSITIONS: Schema = {
    "type": "string",
    "pattern": f"^[0-9A-V]{{{TOKEN_LENGTH}}}(,[0-9A-V]{{{TOKEN_LENGTH}}})*$",
    "description": "A position; on `*` over several partitions those of each of which anything was seen.",
}

_TIME: Schema = {"type": "string", "format": "date-time"}

CLOUDEVENT: Schema = {
    "type": "object",
    "description": "A CloudEvent 1.0 in structured mode; `data` is the loop's own object, untouched.",
    "required": ["specversion", "id", "source", "type", "experimentid", "runid", "data"],
    "properties": {
        "specversion": {"const": "1.0"},
        "id": {"type": "string", "minLength": 1},
        "source": {"type": "string", "minLength": 1},
        "type": {"type": "string", "minLength": 1},
        "subject": {"type": "string"},
        "time": _TIME,
        "experimentid": {"type": "string", "minLength": 1},
        "runid": {"type": "string", "minLength": 1},
        "attempt": {"type": "integer", "minimum": 1},
        "parentrunid": {"type": "string"},
        "recordedtime": _TIME,
        "emitter": {"type": "string"},
        "sequence": {"type": "string", "pattern": "^[0-9]{1,20}$"},
        "traceparent": {"type": "string"},
        "tracestate": {"type": "string"},
        "data": {},
    },
}

PROBLEM: Schema = {
    "type": "object",
    "description": "Problem details (RFC 9457).",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What is wrong, and what to do."},
        "reason": {"type": "string", "enum": ["truncated", "epoch_changed", "unavailable"]},
        "earliest": {"$ref": REFERENCE.format(name="Earliest")},
        "recorder": {"type": "string", "description": "Where older events may be."},
    },
}

PROMPTLOOPER_COMMAND: Schema = {
    "type": "object",
    "required": ["action"],
    "properties": {
        "id": {"type": ["string", "integer", "null"]},
        "action": {"enum": ["subscribe", "unsubscribe", "replay", "stats", "ping"]},
        "experiment_id": {"type": ["string", "integer", "null"], "description": "Missing: everything."},
        "since_ts": {"type": ["number", "null"], "description": "Unix seconds, as `_ts` has them."},
        "limit": {"type": ["integer", "null"], "minimum": 0, "description": "The newest so many; 0 is none."},
    },
}

PROMPTLOOPER_EVENT: Schema = {
    "type": "object",
    "description": "The loop's own object, with three marks as its last members.",
    "required": ["_pos"],
    "properties": {
        "_ts": {"type": "number", "description": "When a producer took it: Unix seconds with microseconds."},
        "_seq": {"type": "integer", "minimum": 0, "description": "Its number among those of its emitter."},
        "_pos": POSITION,
    },
}


def components(types: Iterable[type] = ()) -> dict[str, Schema]:
    """Every schema by name: commands, frames, and `types` besides."""
    _, found = msgspec.json.schema_components(
        [*COMMANDS, *FRAMES, *types], ref_template=REFERENCE, schema_hook=_anything
    )
    schemas: dict[str, Schema] = dict(found)
    schemas["EventFrame"]["properties"]["event"] = {"$ref": REFERENCE.format(name="CloudEvent")}
    own = {"CloudEvent": CLOUDEVENT, "Position": POSITION, "Positions": POSITIONS, "Problem": PROBLEM}
    legacy = {"PromptLooperCommand": PROMPTLOOPER_COMMAND, "PromptLooperEvent": PROMPTLOOPER_EVENT}
    return {**schemas, **own, **legacy}


def _anything(kind: type) -> Schema:
    """What has no type of its own may be whatever JSON has."""
    if kind is object:
        return {"description": "Any JSON."}
    raise TypeError(f"{kind!r} has no JSON Schema: give it one in {__name__}.")


def close_codes() -> list[Schema]:
    """Every code that a WebSocket is closed with."""
    return [{"code": c.code, "reason": c.reason, "meaning": c.meaning} for c in CLOSE_CODES.values()]
