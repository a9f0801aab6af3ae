"""The bytes are those that the official library writes for the same messages."""

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.logs.v1 import logs_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

from loopcast_otel_exporter.encoding import encode_log, encode_span, request_of, traces_head
from loopcast_otel_exporter.signals import Link, LogRecord, Span, SpanEvent

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
SCALARS = TEXT | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False)
ATTRIBUTES = st.dictionaries(TEXT.filter(bool), SCALARS, max_size=6)
TIMES = st.integers(1, 2**63 - 1)
IDS = st.binary(min_size=8, max_size=8)
TRACES = st.binary(min_size=16, max_size=16)
UIDS = TRACES.map(bytes.hex)

SPANS = st.builds(
    Span, trace_id=TRACES, span_id=IDS, parent_id=IDS | st.just(b""), name=TEXT, start=TIMES, end=TIMES,
    attributes=ATTRIBUTES, events=st.lists(st.builds(SpanEvent, TEXT, TIMES, ATTRIBUTES), max_size=3),
    dropped_events=st.integers(0, 2**31), links=st.lists(st.builds(Link, TRACES, IDS, TEXT, TEXT), max_size=2),
    error=st.none() | TEXT,
)  # fmt: skip
RECORDS = st.builds(
    LogRecord, trace_id=TRACES | st.just(b""), span_id=IDS | st.just(b""), time=TIMES, observed=TIMES, uid=UIDS,
    event_name=TEXT, severity=st.sampled_from(["INFO", "WARN", "ERROR"]), body=st.none() | TEXT, attributes=ATTRIBUTES,
)  # fmt: skip


def plain(attributes):
    """KeyValues as a dict."""
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in attributes}


@given(SPANS)
def test_a_span_is_what_the_library_writes(span):
    """Read by the library, every field is there, and written again it is the same bytes."""
    raw = encode_span(span)
    read = trace_pb2.Span.FromString(raw)

    assert raw == read.SerializeToString(deterministic=True)
    assert (span.trace_id, span.span_id, span.parent_id) == (read.trace_id, read.span_id, read.parent_span_id)
    assert (span.name, span.start, span.end) == (read.name, read.start_time_unix_nano, read.end_time_unix_nano)
    assert span.attributes == plain(read.attributes)
    assert [(e.name, e.time, e.attributes) for e in span.events] == [
        (e.name, e.time_unix_nano, plain(e.attributes)) for e in read.events
    ]
    assert [(k.trace_id, k.span_id, k.trace_state, {"loop.link": k.relation}) for k in span.links] == [
        (k.trace_id, k.span_id, k.trace_state, plain(k.attributes)) for k in read.links
    ]
    assert ((2, span.error) if span.error is not None else (0, "")) == (read.status.code, read.status.message)
    assert (1, 1, span.dropped_events) == (read.kind, read.flags, read.dropped_events_count)


@given(RECORDS)
def test_a_record_is_what_the_library_writes(record):
    """The same of log records."""
    raw = encode_log(record)
    read = logs_pb2.LogRecord.FromString(raw)

    assert raw == read.SerializeToString(deterministic=True)
    assert (record.trace_id, record.span_id, record.event_name) == (read.trace_id, read.span_id, read.event_name)
    assert (record.time, record.observed) == (read.time_unix_nano, read.observed_time_unix_nano)
    assert {**record.attributes, "log.record.uid": record.uid} == plain(read.attributes)
    assert (record.body is not None) == read.HasField("body")
    assert (record.body or "", record.severity) == (read.body.string_value, read.severity_text)


@given(st.lists(SPANS, max_size=4))
def test_a_request_joins_encoded_spans(spans):
    """The resource and scope around them are the same for every request."""
    raw = request_of(traces_head({"service.name": "loopcast"}), [encode_span(span) for span in spans])
    [resource] = ExportTraceServiceRequest.FromString(raw).resource_spans
    [scope] = resource.scope_spans

    assert {"service.name": "loopcast"} == plain(resource.resource.attributes)
    assert [span.span_id for span in spans] == [span.span_id for span in scope.spans]
    assert ("loopcast.otel-exporter", "https://opentelemetry.io/schemas/gen-ai/1.42.0") == (
        scope.scope.name, scope.schema_url,
    )  # fmt: skip


def test_equal_values_of_different_types_stay_apart():
    """1, 1.0 and True are equal in Python and three attributes in OTLP."""
    for value, kind in ((1, "int_value"), (1.0, "double_value"), (True, "bool_value"), (1, "int_value")):
        raw = encode_span(
            Span(trace_id=b"t" * 16, span_id=b"s" * 8, parent_id=b"", name="n", start=1, end=2, attributes={"a": value})
        )
        assert kind == trace_pb2.Span.FromString(raw).attributes[0].value.WhichOneof("value")
