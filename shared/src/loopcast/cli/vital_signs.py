"""
What a service's own metrics tell the doctor: what fails behind a port that answers. Pure.

A backend, an endpoint or a disk that is away keeps no service from being ready, since nothing is lost meanwhile; so the
probes say nothing of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from loopcast import metrics
from loopcast.cli.findings import Finding, Verdict
from loopcast.metrics import BUILD, Definition
from loopcast.settings import PLACES

__all__ = ["examine_metrics"]

LATE_SECONDS = 60.0
"""A lag above which somebody wants to know why."""


@dataclass(frozen=True, slots=True)
class _Sign:
    """A gauge that should not be above `bound`; the sentences have its labels, its `value` and a sink's `place`."""

    metric: Definition
    bound: float
    verdict: Verdict
    found: str
    do: str
    labels: tuple[tuple[str, str], ...] = ()
    """Which samples it is about; all of them where none are named."""


_SIGNS = (
    _Sign(
        metrics.RECORDER_FAILING,
        0,
        "broken",
        "The sink {sink} does not take what it is given; the log keeps it meanwhile.",
        "Its log says why (sink_failing): a full disk, a folder that is not there, a database that is away. "
        "{place} says where it keeps events.",
    ),
    _Sign(
        metrics.RECORDER_LAG,
        LATE_SECONDS,
        "unsure",
        "The sink {sink} is {value:.0f} s behind the log.",
        "Wait if it is catching up; else docs/sizing.md says what one takes.",
    ),
    _Sign(
        metrics.OTEL_LAG,
        LATE_SECONDS,
        "unsure",
        "The OTLP backend lacks what came {value:.0f} s ago and later; nothing is lost while the log has it.",
        "Does a backend answer at LOOPCAST_OTLP_ENDPOINT? Its log says what came back (backend_away).",
    ),
    _Sign(
        metrics.WEBHOOK_FAILING,
        0,
        "unsure",
        "The endpoint {endpoint} has failed for {value:.0f} s; its events wait.",
        "`loopcast webhooks list` shows what came back last.",
    ),
    _Sign(
        metrics.WEBHOOK_PHASE,
        0,
        "broken",
        "The endpoint {endpoint} is in no file, and its queue is still there: what it is bound to goes on filling it.",
        "Put it back into the file, or `loopcast webhooks drop {endpoint}` deletes it with the events in it.",
        labels=(("phase", "removed"),),
    ),
    _Sign(
        metrics.WEBHOOK_DEAD,
        0,
        "unsure",
        "The endpoint {endpoint} has {value:.0f} dead letters.",
        "`loopcast webhooks dead {endpoint}` shows why, `loopcast webhooks replay {endpoint}` sends them again.",
    ),
)


def examine_metrics(text: str) -> tuple[str, list[Finding]]:
    """
    The name of the service whose `/metrics` answered `text`, and what is wrong with it.

    Raises:
        ValueError: it is no service of Loopcast's, or no metrics at all.
    """
    families = {family.name: family.samples for family in text_string_to_metric_families(text)}
    service = next((sample.labels["service"] for sample in families.get(BUILD.name, [])), None)
    if service is None:
        raise ValueError("there are no metrics of a service of Loopcast's")
    findings = []
    for sign in _SIGNS:
        for labels, value in _worst(families.get(sign.metric.name, [])).items():
            if value > sign.bound and set(sign.labels) <= set(labels):
                place = PLACES.get(dict(labels).get("sink", ""), "A setting of the recorder's")
                words = {**dict(labels), "value": value, "place": place}
                findings.append(Finding(service, sign.verdict, sign.found.format(**words), sign.do.format(**words)))
    return service, findings


def _worst(samples: Iterable[Sample]) -> dict[tuple[tuple[str, str], ...], float]:
    """The highest value of all partitions, by the other labels."""
    worst: dict[tuple[tuple[str, str], ...], float] = {}
    for sample in samples:
        labels = tuple((name, value) for name, value in sample.labels.items() if name != "partition")
        worst[labels] = max(worst.get(labels, sample.value), sample.value)
    return worst
