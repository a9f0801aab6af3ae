"""
Messages that other programs publish, read as events: CloudEvents in either mode, plain JSON, or whatever it is. Pure.

Nobody hears a refusal here, so nothing is refused: what cannot be understood is an event of type `message` with the
body as its text, or in base64. The same message gives the same event whoever reads it, so an id is derived from the
message where it has none.

Two things a stranger may not say. The experiment is the one of the routing key, because the broker's topic permissions
guard the key and nothing guards the body. And the number of an emitter is not taken over, because it could make readers
drop the events of others as repeats; a stranger's event is known by its id.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from urllib.parse import unquote_to_bytes

import msgspec

from loopcast.broker.interface import Delivery
from loopcast.errors import InvalidEvent
from loopcast.events import DEFAULT_TYPE, Event, event_type, format_time, normalize_time, one_line, source_of
from loopcast.routing import NOWHERE, check_experiment, coerce_type, experiment_word
from loopcast.trace_context import context_of

__all__ = ["understand"]

MAX_TEXT = 1024
"""Longer attributes are not taken over."""

PREFIXES = ("ce-", "cloudevents_", "cloudevents:")
"""
What binary mode puts before an attribute's name: the AMQP 0-9-1 custom of Knative, and the AMQP 1.0 binding's two
(https://github.com/cloudevents/spec/blob/main/cloudevents/bindings/amqp-protocol-binding.md, 3.1.3).
"""

_KNOWN = {"specversion", "data", "data_base64", "extra"} | {f.encode_name for f in msgspec.structs.fields(Event)}
_NAME = re.compile(r"[a-z0-9]{1,64}\Z")
_LATEST = 4102444800  # 2100: what is later is milliseconds, or noise

_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encode = msgspec.json.Encoder().encode

Attributes = dict[str, str | int | bool]


def understand(delivery: Delivery) -> Event:
    """The event in a stranger's message. Never raises."""
    attributes, data, members = _read(delivery)
    experiment = _experiment(delivery, attributes, members)
    source = _text(attributes, "source")
    run = _identifier(attributes.get("runid", delivery.headers.get("run")))
    run = run or source_run(experiment, source or "amqp")
    extra = _extra(attributes)
    own = context_of(attributes)
    context = own if own.parent is not None else context_of(delivery.headers)
    return Event(
        id=_id(delivery, attributes),
        source=source or source_of(experiment, run),
        type=_type(delivery, attributes, members),
        subject=_text(attributes, "subject"),
        time=_time(delivery, attributes, members),
        experiment=experiment,
        run=run,
        parent_run=_identifier(attributes.get("parentrunid")),
        recorded_time=_recorded(delivery),
        traceparent=context.parent,
        tracestate=context.state,
        extra=extra,
        data=data,
    )


def source_run(experiment: str, source: str) -> str:
    """The run of events that name none: the same for all of a source."""
    raw = f"{experiment}\0{source}".encode("utf-8", "surrogatepass")
    return "src-" + base64.b32encode(hashlib.sha256(raw).digest()).decode("ascii").lower()[:26]


def _read(delivery: Delivery) -> tuple[Attributes, msgspec.Raw, Mapping[str, object]]:
    """The attributes, the data as one line of JSON that is an object, and that object's own scalar members."""
    attributes = _binary(delivery)
    members = _members(delivery.body)
    if attributes is None and members is not None and _scalar(members.get("specversion")) == "1.0":
        scalars = {name: _scalar(raw) for name, raw in members.items() if name not in ("data", "data_base64")}
        attributes = {name: value for name, value in scalars.items() if value is not None}
        data = _structured_data(members)
    else:
        data = _wrapped(delivery.body) if members is None else one_line(msgspec.Raw(delivery.body))
    own = _members(bytes(data)) or {}
    return attributes or {}, data, {name: _scalar(own[name]) for name in _TOLD if name in own}


_TOLD = ("event", "type", "ts", "experiment_id")
"""What an agent loop's own object says of itself."""


def _binary(delivery: Delivery) -> Attributes | None:
    found: Attributes = {}
    for name, value in delivery.headers.items():
        lower = name.lower()
        prefix = next((p for p in PREFIXES if lower.startswith(p)), None)
        if prefix is not None and value is not None:
            found[lower[len(prefix) :]] = value
    return found if "specversion" in found else None


def _structured_data(members: Mapping[str, msgspec.Raw]) -> msgspec.Raw:
    if "data_base64" in members:
        return msgspec.Raw(b'{"base64":' + bytes(members["data_base64"]) + b"}")
    raw = bytes(members.get("data", b"null"))
    return one_line(msgspec.Raw(raw if raw[:1] == b"{" else b'{"value":' + raw + b"}"))


def _wrapped(body: bytes) -> msgspec.Raw:
    try:
        return msgspec.Raw(_encode({"text": body.decode()}))
    except UnicodeDecodeError:
        return msgspec.Raw(_encode({"base64": base64.b64encode(body).decode("ascii")}))


def _members(body: bytes) -> dict[str, msgspec.Raw] | None:
    """The members of a JSON object; None where `body` is no such thing."""
    try:
        body.decode()
        return _object.decode(body)
    except (UnicodeDecodeError, msgspec.MsgspecError, RecursionError):
        return None


def _scalar(raw: msgspec.Raw | None) -> str | int | bool | None:
    try:
        value = None if raw is None else msgspec.json.decode(raw)
    except (msgspec.MsgspecError, RecursionError):
        return None
    return value if isinstance(value, str | int) else None


def _experiment(delivery: Delivery, attributes: Attributes, members: Mapping[str, object]) -> str:
    word, dot, _ = delivery.routing_key.partition(".")
    claims = (attributes.get("experimentid"), delivery.headers.get("experiment"), members.get("experiment_id"))
    for claim in filter(None, map(_identifier, claims)):
        if not dot or experiment_word(claim) == word:
            return claim
    try:
        return check_experiment(unquote_to_bytes(word).decode()) if dot and word != NOWHERE else NOWHERE
    except (UnicodeDecodeError, InvalidEvent):
        return NOWHERE


def _identifier(value: object) -> str | None:
    """A number is its text: PromptLooper's experiments are numbered."""
    if not isinstance(value, str | int) or isinstance(value, bool):
        return None
    try:
        return check_experiment(str(value))
    except InvalidEvent:
        return None


def _id(delivery: Delivery, attributes: Attributes) -> str:
    claim = _identifier(attributes.get("id")) or _identifier(delivery.message_id)
    if claim is not None:
        return claim
    place = f"{delivery.routing_key}\0{delivery.timestamp}\0{delivery.offset}\0".encode()
    return "stray-" + base64.b32encode(hashlib.sha256(place + delivery.body).digest()).decode("ascii").lower()[:32]


def _type(delivery: Delivery, attributes: Attributes, members: Mapping[str, object]) -> str:
    claim = _text(attributes, "type") or delivery.type or event_type(members)
    return coerce_type(claim) or DEFAULT_TYPE


def _time(delivery: Delivery, attributes: Attributes, members: Mapping[str, object]) -> str | None:
    return normalize_time(attributes.get("time")) or normalize_time(members.get("ts")) or _recorded(delivery)


def _recorded(delivery: Delivery) -> str | None:
    """When a stranger's message was published is all that is known of when it was recorded."""
    return format_time(delivery.timestamp * 1_000_000) if 0 < delivery.timestamp < _LATEST else None


def _text(values: Mapping[str, object], name: str) -> str | None:
    value = values.get(name)
    return value if isinstance(value, str) and 0 < len(value) <= MAX_TEXT else None


def _extra(attributes: Attributes) -> msgspec.Raw | msgspec.UnsetType:
    """What this version does not know passes through."""
    unknown = [(n, v) for n, v in attributes.items() if n not in _KNOWN and _NAME.match(n)]
    if not unknown:
        return msgspec.UNSET
    return msgspec.Raw(b",".join(_encode(name) + b":" + _encode(value) for name, value in unknown))
