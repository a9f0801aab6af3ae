"""The exchange and the WebSockets as AsyncAPI 3.0: served at `/v1/asyncapi.json`, written to `docs/asyncapi.yaml`."""

from __future__ import annotations

from importlib.metadata import version

from loopcast.topology import CLOUDEVENT, EVENTS
from loopcast_gateway.protocol import COMMANDS, FRAMES, NDJSON_SUBPROTOCOL, SUBPROTOCOL
from loopcast_gateway.schemas import Schema, close_codes, components

__all__ = ["DESCRIPTION", "document"]

DESCRIPTION = "/v1/asyncapi.json"


def document() -> Schema:
    """The whole description."""
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Loopcast", "version": version("loopcast-gateway"), "description": _ABOUT},
        "defaultContentType": "application/json",
        "channels": {"exchange": _EXCHANGE, "socket": _socket(), "promptlooper": _PROMPTLOOPER},
        "operations": _operations(),
        "components": {"schemas": components(), "messages": _messages()},
        "x-close-codes": close_codes(),
    }


_ABOUT = (
    "Events of agent loops and experiments: in the broker, and at the gateway's WebSockets. What is promised stands in "
    "`docs/protocol.md`."
)

_EXCHANGE: Schema = {
    "address": "{experiment}.{type}",
    "description": "The topic exchange that everything is published to. The routing key is the experiment as one word "
    "(every byte outside [A-Za-z0-9_-] as %XX) and the type.",
    "parameters": {
        "experiment": {"description": "One word."},
        "type": {"description": "One word or several, with dots between them."},
    },
    "messages": {"CloudEvent": {"$ref": "#/components/messages/CloudEvent"}},
    "bindings": {
        "amqp": {"is": "routingKey", "exchange": {"name": EVENTS, "type": "topic", "durable": True, "vhost": "/"}}
    },
}

_PROMPTLOOPER: Schema = {
    "address": "/ws",
    "title": "PromptLooper's protocol",
    "description": "Without a subprotocol. A command that carries an id is answered by a frame of the other channel.",
    "messages": {
        "PromptLooperCommand": {"$ref": "#/components/messages/PromptLooperCommand"},
        "PromptLooperEvent": {"$ref": "#/components/messages/PromptLooperEvent"},
    },
    "bindings": {
        "ws": {
            "query": {
                "type": "object",
                "properties": {"experiment_id": {"type": "array", "items": {"type": "string"}}},
            }
        }
    },
}


def _socket() -> Schema:
    names = [kind.__name__ for kind in (*COMMANDS, *FRAMES)]
    return {
        "address": "/ws",
        "title": f"{SUBPROTOCOL} and {NDJSON_SUBPROTOCOL}",
        "description": "One JSON object a text message; with ndjson one or several, with line breaks between them. "
        "`/ws/experiments/{experiment}` is the same, with a subscription from the start.",
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
        "bindings": {
            "ws": {
                "method": "GET",
                "headers": {
                    "type": "object",
                    "properties": {"Sec-WebSocket-Protocol": {"enum": [SUBPROTOCOL, NDJSON_SUBPROTOCOL]}},
                },
            }
        },
    }


def _operations() -> Schema:
    def operation(action: str, channel: str, names: list[str], summary: str) -> Schema:
        return {
            "action": action,
            "channel": {"$ref": f"#/channels/{channel}"},
            "summary": summary,
            "messages": [{"$ref": f"#/channels/{channel}/messages/{name}"} for name in names],
        }

    commands, frames = [c.__name__ for c in COMMANDS], [f.__name__ for f in FRAMES]
    return {
        "publish": operation("send", "exchange", ["CloudEvent"], "The producer publishes each event once confirmed."),
        "command": operation("receive", "socket", commands, "What a client says."),
        "say": operation("send", "socket", frames, "What the gateway says."),
        "promptlooperCommand": operation("receive", "promptlooper", ["PromptLooperCommand"], "What a client says."),
        "promptlooperEvent": operation("send", "promptlooper", ["PromptLooperEvent"], "Every event, as it was sent."),
    }


def _messages() -> Schema:
    found: Schema = {
        "CloudEvent": {
            "contentType": CLOUDEVENT,
            "headers": _HEADERS,
            "payload": {"$ref": "#/components/schemas/CloudEvent"},
        }
    }
    for kind in (*COMMANDS, *FRAMES):
        summary = (kind.__doc__ or "").strip().split("\n")[0]
        payload = {"$ref": f"#/components/schemas/{kind.__name__}"}
        found[kind.__name__] = {"name": str(kind.__struct_config__.tag), "summary": summary, "payload": payload}
    for name in ("PromptLooperCommand", "PromptLooperEvent"):
        found[name] = {"payload": {"$ref": f"#/components/schemas/{name}"}}
    return found


_HEADERS: Schema = {
    "type": "object",
    "required": ["experiment", "run", "partition", "x-stream-filter-value"],
    "properties": {
        "experiment": {"type": "string", "description": "The true id."},
        "run": {"type": "string"},
        "partition": {"type": "integer", "minimum": 0},
        "attempt": {"type": "integer", "minimum": 1},
        "recorded": {"type": "integer", "description": "Microseconds since 1970."},
        "emitter": {"type": "string"},
        "sequence": {"type": "integer", "minimum": 0},
        "traceparent": {"type": "string"},
        "tracestate": {"type": "string"},
        "x-stream-filter-value": {"type": "string", "description": "The experiment's word of the routing key."},
    },
}
