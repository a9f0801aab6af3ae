"""
The counts of a partition as an OTLP metrics request: cumulative, under the partition's own identity.

A partition's stream of points goes on whichever replica sends it (same resource, same start time), so a failover is no
reset. The sums are read from a state that is checkpointed already.
"""

from __future__ import annotations

from collections.abc import Mapping

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.metrics.v1 import metrics_pb2 as pb

from loopcast_otel_exporter import semconv as names
from loopcast_otel_exporter.encoding import key_values, resource
from loopcast_otel_exporter.measure import DEFINITIONS, OVERFLOW, SECONDS, Histogram, Instrument, Measurements, Series
from loopcast_otel_exporter.signals import Scalar

__all__ = ["metrics_request"]

_CUMULATIVE = pb.AGGREGATION_TEMPORALITY_CUMULATIVE
_NANOSECONDS = 1_000_000_000


def metrics_request(attributes: Mapping[str, Scalar], measurements: Measurements, now: int) -> bytes:
    """The request at the time `now`, in nanoseconds."""
    request = ExportMetricsServiceRequest()
    of_resource = request.resource_metrics.add(resource=resource(attributes))
    scope = of_resource.scope_metrics.add(schema_url=names.SCHEMA_URL)
    scope.scope.name, scope.scope.version = names.SCOPE, names.VERSION
    made: dict[str, pb.Metric] = {}

    def metric(key: Series) -> pb.Metric:
        if key[0] not in made:
            made[key[0]] = _describe(scope.metrics.add(), DEFINITIONS[key[0]])
        return made[key[0]]

    start = measurements.started
    for key, value in measurements.sums.items():
        points = metric(key).sum.data_points
        points.add(attributes=_labels(key), start_time_unix_nano=start, time_unix_nano=now, as_int=value)
    for key, histogram in measurements.histograms.items():
        _add_histogram(metric(key), key, histogram, start, now)
    return request.SerializeToString(deterministic=True)


def _describe(metric: pb.Metric, instrument: Instrument) -> pb.Metric:
    metric.name, metric.unit, metric.description = instrument.name, instrument.unit, instrument.description
    if instrument.kind == "histogram":
        metric.histogram.aggregation_temporality = _CUMULATIVE
    else:
        metric.sum.aggregation_temporality = _CUMULATIVE
        metric.sum.is_monotonic = instrument.kind == "counter"
    return metric


def _add_histogram(metric: pb.Metric, key: Series, histogram: Histogram, start: int, now: int) -> None:
    point = metric.histogram.data_points.add(
        attributes=_labels(key),
        start_time_unix_nano=start,
        time_unix_nano=now,
        count=sum(histogram.counts),
        sum=histogram.total / _NANOSECONDS,
        bucket_counts=histogram.counts,
        explicit_bounds=SECONDS,
    )
    if (exemplar := histogram.exemplar) is not None:
        point.exemplars.add(
            trace_id=exemplar.trace_id,
            span_id=exemplar.span_id,
            as_double=exemplar.value,
            time_unix_nano=exemplar.time,
        )


def _labels(key: Series) -> list[KeyValue]:
    if key[1:] == (OVERFLOW,):
        return key_values({OVERFLOW: True})
    labels = zip(DEFINITIONS[key[0]].labels, key[1:], strict=True)
    return key_values({name: value for name, value in labels if value or name != names.ERROR_TYPE})
