"""
JSON Schemas of what the producer takes (JSON Schema 2020-12, as OpenAPI 3.1 has it): exactly what is not refused.

Two rules are in words only, because a schema cannot say them: ids have 255 bytes of UTF-8, not characters, and nothing
nests deeper than readers can parse.
"""

from __future__ import annotations

from loopcast.routing import MAX_EXPERIMENT_BYTES, MAX_TYPE_BYTES
from loopcast_producer.bodies import Shape

__all__ = ["BODIES", "EXAMPLES", "HEARTBEAT", "ID", "RUN", "TRACEPARENT", "Schema"]

Schema = dict[str, object]

_TEXT = r"^[^\x00-\x1f\x7f-\x9f]+$"
_TYPE = r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$"

RUN: Schema = {"type": "string", "minLength": 1, "maxLength": MAX_EXPERIMENT_BYTES, "pattern": _TEXT}
"""A run id; an event's id keeps the same rule."""
ID: Schema = {**RUN, "not": {"const": "~"}}
"""An experiment id."""
TRACEPARENT: Schema = {"type": "string", "pattern": "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"}

_NAME: Schema = {"type": "string", "maxLength": MAX_TYPE_BYTES, "pattern": _TYPE}
_LOOP_EVENT: Schema = {
    "type": "object",
    "description": "Any object. Its type is `event`, else `type`, else `message`; `ts` is its time.",
    "properties": {
        "event": {"anyOf": [_NAME, {"type": ["number", "boolean", "null", "object", "array"]}, {"const": ""}]},
        "type": {"anyOf": [_NAME, {"type": ["number", "boolean", "null", "object", "array"]}, {"const": ""}]},
    },
    "additionalProperties": True,
}
_ANY_EVENT: Schema = {
    "type": "object",
    "description": "Any object. Its `experiment_id` says where it belongs; what breaks the grammar is made to fit.",
    "additionalProperties": True,
}
_CLOUDEVENT: Schema = {
    "type": "object",
    "description": "A CloudEvent 1.0 in structured mode, with JSON data.",
    "required": ["specversion", "id", "source", "type"],
    "properties": {
        "specversion": {"const": "1.0"},
        "id": RUN,
        "source": {"type": "string", "minLength": 1},
        "type": _NAME,
        "subject": {"type": "string"},
        "time": {"type": "string", "format": "date-time"},
        "experimentid": ID,
        "runid": RUN,
        "parentrunid": {"type": "string"},
        "attempt": {"type": "integer", "minimum": 0, "maximum": 2**31 - 1},
        "emitter": {"type": "string", "pattern": "^[0-9a-f]{16}$"},
        "sequence": {"type": "string", "pattern": "^0{2}[0-9]{18}$"},
        "recordedtime": {"type": "string", "format": "date-time"},
        "traceparent": {"type": "string"},
        "tracestate": {"type": "string"},
        "data": {},
        "data_base64": False,
    },
    "propertyNames": {"pattern": "^([a-z0-9]+|data_base64)$"},
    "additionalProperties": {"type": ["string", "integer", "boolean", "null"]},
}


def _array(of: Schema) -> Schema:
    """Of any items: one that is no event refuses itself and nothing else."""
    return {"type": "array", "items": {"anyOf": [of, {}]}}


BODIES: dict[bool, dict[Shape, Schema]] = {
    named: {
        Shape.JSON: {"anyOf": [event, _array(event)]},
        Shape.NDJSON: {"type": "string", "description": "An event in each line; a stream of any length."},
        Shape.CLOUDEVENT: _CLOUDEVENT,
        Shape.CLOUDEVENTS: _array(_CLOUDEVENT),
    }
    for named, event in ((True, _LOOP_EVENT), (False, _ANY_EVENT))
}
"""What a body may be, by whether the address names the experiment, and by content type."""

_EXAMPLE = {
    "specversion": "1.0",
    "id": "0192f0c1-0000-7000-8000-000000000001",
    "source": "/experiments/exp-42/runs/r1",
    "type": "loop_start",
    "experimentid": "exp-42",
    "runid": "r1",
    "data": {"event": "loop_start", "loop": "tune"},
}

EXAMPLES: dict[Shape, object] = {
    Shape.JSON: {"event": "state_enter", "ts": "2026-11-20T17:38:28Z", "state": "draft", "iteration": 1},
    Shape.NDJSON: '{"event":"loop_start","loop":"tune"}\n{"event":"state_enter","state":"draft"}\n',
    Shape.CLOUDEVENT: _EXAMPLE,
    Shape.CLOUDEVENTS: [_EXAMPLE],
}

HEARTBEAT: Schema = {
    "required": False,
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "properties": {
                    "pid": {"type": "integer", "minimum": 0, "maximum": 2**31, "description": "Of the run's process."},
                    "host": {"type": "string", "description": "Where that is."},
                    "emitter": {"type": "string", "description": "Who numbers the run's events."},
                },
            },
            "example": {"pid": 4711, "host": "worker-3", "emitter": "0123456789abcdef"},
        }
    },
}
"""The body of a heartbeat."""
