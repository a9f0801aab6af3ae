"""
Spans, log records and metrics as OTLP's protobuf messages (opentelemetry-proto 1.x, `opentelemetry/proto`).

Written directly: the bytes are a function of the values alone, and cost a third of what objects cost. Nothing in a
span's resource or scope tells which replica wrote it, because a backend that compares repeats compares those too
(Jaeger hashes them). Fields are written in one order, and OTLP has no maps, so the same span is the same bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.logs.v1 import logs_pb2 as logs
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1 import trace_pb2 as traces

from loopcast_otel_exporter import semconv as names
from loopcast_otel_exporter.protobuf import (
    any_value,
    attributes_field,
    delimited,
    fixed32,
    fixed64,
    string,
    varint_field,
)
from loopcast_otel_exporter.signals import Attributes, Link, LogRecord, Scalar, Span, SpanEvent

__all__ = ["encode_log", "encode_span", "key_values", "logs_head", "request_of", "traces_head"]

_SEVERITIES = {
    "INFO": varint_field(2, logs.SEVERITY_NUMBER_INFO) + string(3, "INFO"),
    "WARN": varint_field(2, logs.SEVERITY_NUMBER_WARN) + string(3, "WARN"),
    "ERROR": varint_field(2, logs.SEVERITY_NUMBER_ERROR) + string(3, "ERROR"),
}
_SAMPLED = 0x01
_INTERNAL = varint_field(6, traces.Span.SPAN_KIND_INTERNAL)
_ERROR = varint_field(3, traces.Status.STATUS_CODE_ERROR)
_SAMPLED_SPAN, _SAMPLED_LINK, _SAMPLED_RECORD = fixed32(16, _SAMPLED), fixed32(6, _SAMPLED), fixed32(8, _SAMPLED)
_SCOPE = InstrumentationScope(name=names.SCOPE, version=names.VERSION)
_LIST_FIELD = 2

# What stands in front of fields whose length is known: most of what a span has besides attributes.
_TRACE_ID, _SPAN_ID, _PARENT_ID = (delimited(n, bytes(size))[:2] for n, size in ((1, 16), (2, 8), (4, 8)))
_START, _END = fixed64(7, 1)[:1], fixed64(8, 1)[:1]
_LOG_TRACE_ID, _LOG_SPAN_ID = delimited(9, bytes(16))[:2], delimited(10, bytes(8))[:2]
_UID_SIZE = 32
_UID = attributes_field(6, {names.RECORD_UID: "0" * _UID_SIZE})[:-_UID_SIZE]
"""A record's own id is never seen twice, so nothing of it is worth remembering but this."""
_pack64 = struct.Struct("<Q").pack


def encode_span(span: Span) -> bytes:
    """One `Span` message (trace.proto), its fields in the order of their numbers."""
    parts = [
        _TRACE_ID,
        span.trace_id,
        _SPAN_ID,
        span.span_id,
        _PARENT_ID + span.parent_id if span.parent_id else b"",
        string(5, span.name),
        _INTERNAL,
        _START,
        _pack64(span.start),
        _END,
        _pack64(span.end),
        attributes_field(9, span.attributes),
        *[delimited(11, _event(event)) for event in span.events],
        varint_field(12, span.dropped_events),
        *[delimited(13, _link(link)) for link in span.links],
    ]
    if span.error is not None:
        parts.append(delimited(15, string(2, span.error) + _ERROR))
    parts.append(_SAMPLED_SPAN)
    return b"".join(parts)


def encode_log(record: LogRecord) -> bytes:
    """One `LogRecord` message (logs.proto)."""
    return b"".join(
        (
            fixed64(1, record.time),
            _SEVERITIES[record.severity],
            b"" if record.body is None else delimited(5, any_value(record.body)),
            attributes_field(6, record.attributes),
            _UID,
            record.uid.encode("ascii"),
            _SAMPLED_RECORD if record.trace_id else b"",
            _LOG_TRACE_ID + record.trace_id if record.trace_id else b"",
            _LOG_SPAN_ID + record.span_id if record.span_id else b"",
            fixed64(11, record.observed),
            string(12, record.event_name),
        )
    )


def _event(event: SpanEvent) -> bytes:
    return fixed64(1, event.time) + string(2, event.name) + attributes_field(3, event.attributes)


def _link(link: Link) -> bytes:
    attributes = attributes_field(4, {names.RELATION: link.relation})
    state = string(3, link.trace_state) if link.trace_state else b""
    return delimited(1, link.trace_id) + delimited(2, link.span_id) + state + attributes + _SAMPLED_LINK


def key_values(attributes: Attributes) -> list[KeyValue]:
    """Attributes in their order."""
    return [KeyValue(key=key, value=_value(value)) for key, value in attributes.items()]


def resource(attributes: Mapping[str, Scalar]) -> Resource:
    """What the signals are of: the same for every replica."""
    return Resource(attributes=key_values(attributes))


def traces_head(attributes: Mapping[str, Scalar]) -> tuple[bytes, bytes]:
    """What :func:`request_of` puts around spans: the resource, and the scope with the schema."""
    return delimited(1, resource(attributes).SerializeToString(deterministic=True)), _scope(traces.ScopeSpans())


def logs_head(attributes: Mapping[str, Scalar]) -> tuple[bytes, bytes]:
    """The same for log records."""
    return delimited(1, resource(attributes).SerializeToString(deterministic=True)), _scope(logs.ScopeLogs())


def request_of(head: tuple[bytes, bytes], items: Iterable[bytes]) -> bytes:
    """
    An export request of encoded spans or log records, whose messages nest alike, with the same field numbers.

    They nest as length-delimited fields, so encoded items are joined and not built again: a batch that is halved, or
    sent once more, costs nothing.
    """
    resource_field, scope_fields = head
    scoped = b"".join((scope_fields, *(delimited(_LIST_FIELD, item) for item in items)))
    return delimited(1, resource_field + delimited(_LIST_FIELD, scoped))


def _scope(message: traces.ScopeSpans | logs.ScopeLogs) -> bytes:
    message.scope.CopyFrom(_SCOPE)
    message.schema_url = names.SCHEMA_URL
    return message.SerializeToString(deterministic=True)


def _value(value: Scalar) -> AnyValue:
    if isinstance(value, str):
        return AnyValue(string_value=value)
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    return AnyValue(int_value=value) if isinstance(value, int) else AnyValue(double_value=value)
