"""The metrics inventory: names that Prometheus likes, and labels whose number is bounded."""

import pytest

from loopcast import metrics
from loopcast.metrics import INVENTORY, Metrics


@pytest.mark.parametrize("definition", INVENTORY.values(), ids=INVENTORY)
def test_names_follow_prometheus(definition):
    """Every name has the prefix, counters end in _total, durations in _seconds, and help is a sentence."""
    assert definition.name.startswith("loopcast_")
    assert definition.name.endswith("_total") == (definition.kind == "counter")
    assert definition.kind != "histogram" or definition.name.endswith("_seconds")
    assert definition.help.endswith(".")


def test_no_label_is_an_experiment():
    """The number of experiments has no bound, so no label may hold one."""
    labels = {label for definition in INVENTORY.values() for label in definition.labels}

    assert not {"experiment", "experiment_id", "run", "run_id", "endpoint_url"} & labels


def test_what_is_counted_is_scraped():
    """A counter, a gauge and a histogram come out under their names."""
    made = Metrics("producer", "1.2.3")
    made.counter(metrics.PRODUCER_EVENTS, status="accepted").inc(3)
    made.gauge(metrics.PRODUCER_BLOCKED).set(1)
    made.histogram(metrics.PRODUCER_CONFIRM_SECONDS).observe(0.003)

    text = made.render().decode()

    assert 'loopcast_producer_events_total{status="accepted"} 3.0' in text
    assert "loopcast_producer_blocked 1.0" in text
    assert 'loopcast_producer_confirm_seconds_bucket{le="0.005"} 1.0' in text
    assert 'loopcast_build_info{service="producer",version="1.2.3"} 1.0' in text


def test_what_is_removed_is_scraped_no_more():
    """A level of something that is gone goes with it, its neighbour stays, and to remove it again is harmless."""
    made = Metrics("webhook-forwarder", "1")
    for endpoint in ("old", "ci"):
        made.gauge(metrics.WEBHOOK_FAILING, endpoint=endpoint).set(2000)
    for _ in range(2):
        made.remove(metrics.WEBHOOK_FAILING, endpoint="old")
    made.remove(metrics.WEBHOOK_DEAD, endpoint="old")

    lines = [line for line in made.render().decode().splitlines() if line.startswith("loopcast_webhook")]
    assert ['loopcast_webhook_failing_seconds{endpoint="ci"} 2000.0'] == lines
