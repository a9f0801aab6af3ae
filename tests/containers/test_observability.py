"""Prometheus beside the stack: it scrapes every service and the broker, and takes the alerts and the dashboard."""

import json
import os
import subprocess

import httpx
import pytest
from containers import ROOT, free_port, until

from loopcast.settings import SERVICES

JOBS = {*SERVICES, "rabbitmq", "rabbitmq-queues"}
DASHBOARD = ROOT / "deploy/kubernetes/components/monitoring/dashboard.json"
RABBITMQS = {
    "rabbitmq_identity_info",
    "rabbitmq_alarms_memory_used_watermark",
    "rabbitmq_alarms_free_disk_space_watermark",
    "rabbitmq_disk_space_available_bytes",
    "rabbitmq_disk_space_available_limit_bytes",
    "rabbitmq_process_resident_memory_bytes",
    "rabbitmq_resident_memory_limit_bytes",
    "rabbitmq_global_messages_received_total",
    "rabbitmq_global_messages_confirmed_total",
    "rabbitmq_detailed_queue_messages",
}
"""What alerts and dashboard ask of RabbitMQ (tests/manifests/test_monitoring.py)."""


@pytest.fixture(scope="module")
def prometheus(stack):
    """A Prometheus as `compose.observability.yaml` has it, in the stack's network; its address."""
    image = os.environ.get("LOOPCAST_TEST_PROMETHEUS_IMAGE", "prom/prometheus:v3.1.0")
    if subprocess.run(["docker", "image", "inspect", image], capture_output=True).returncode != 0:
        pytest.skip(f"needs the image {image}: docker pull it, or name another in LOOPCAST_TEST_PROMETHEUS_IMAGE")
    port = free_port()
    stack.environment |= {"PROMETHEUS_IMAGE": image, "PROMETHEUS_PORT": str(port)}
    stack.files = ("compose.yaml", "compose.observability.yaml")
    stack.compose("up", "--detach", "--no-deps", "prometheus")
    url = f"http://127.0.0.1:{port}/api/v1"
    until(lambda: reachable(url), why=lambda: stack.logs("prometheus"))
    return url


def reachable(url):
    try:
        return httpx.get(f"{url}/status/buildinfo", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def asked(url, path, **query):
    return httpx.get(f"{url}/{path}", params=query, timeout=30).raise_for_status().json()["data"]


def test_everything_is_scraped(prometheus):
    """Each service and the broker answer under the name that alerts know them by."""

    def up():
        targets = asked(prometheus, "targets")["activeTargets"]
        return {target["labels"]["job"] for target in targets if target["health"] == "up"}

    until(lambda: JOBS == up(), 60, why=lambda: json.dumps(asked(prometheus, "targets"), indent=1)[-3000:])


def test_the_alerts_are_evaluated(prometheus):
    """Prometheus understands every rule, and none fires on a system that is well."""

    def rules():
        return [rule for group in asked(prometheus, "rules")["groups"] for rule in group["rules"]]

    until(lambda: all(rule["health"] == "ok" for rule in rules()), 60, why=lambda: str(rules()))

    assert len(rules()) > 20
    assert [] == [rule["name"] for rule in rules() if rule["state"] == "firing"]


def test_the_dashboards_queries_are_answered(prometheus):
    """Each panel's query is one that Prometheus takes, and those about what always is there have a value."""
    panels = {p["title"]: p for p in json.loads(DASHBOARD.read_text())["panels"] if p["type"] != "row"}
    answers = {
        title: [asked(prometheus, "query", query=t["expr"].replace("$__rate_interval", "1m")) for t in panel["targets"]]
        for title, panel in panels.items()
    }

    for title in ("Viewers", "Memory", "Connections to RabbitMQ", "Disk left"):
        assert (title, True) == (title, all(answer["result"] for answer in answers[title]))


def test_rabbitmqs_metrics_are_called_so(prometheus):
    """What alerts ask of RabbitMQ is what RabbitMQ 4 serves."""
    until(lambda: RABBITMQS <= set(asked(prometheus, "label/__name__/values")), 60)
    (node,) = asked(prometheus, "query", query="count by (rabbitmq_node) (rabbitmq_identity_info)")["result"]
    assert {"rabbitmq_node": "rabbit@broker"} == node["metric"]


def test_lag_is_known_in_seconds(prometheus):
    """How far behind the exporter and each sink of the recorder are; on a quiet system not at all."""
    for metric in ("loopcast_otel_lag_seconds", "loopcast_recorder_lag_seconds"):

        def found(query=metric):
            return asked(prometheus, "query", query=query)["result"]

        until(
            lambda ask=found: [float(one["value"][1]) < 15 for one in ask()] == [True],
            90,
            why=lambda name=metric, ask=found: f"{name}: {ask()}",
        )


def test_a_service_that_is_gone_is_noticed(stack, prometheus):
    """Its container is ended, so nobody scrapes it any more; the alert begins to wait, and is over afterwards."""

    def alert():
        (rule,) = [
            rule
            for group in asked(prometheus, "rules")["groups"]
            for rule in group["rules"]
            if rule["name"] == "LoopcastServiceGone"
        ]
        return rule["state"], [found["labels"]["job"] for found in rule["alerts"]]

    stack.compose("stop", "recorder")
    until(lambda: alert() == ("pending", ["recorder"]), 90, why=lambda: str(alert()))
    stack.compose("start", "recorder")
    until(lambda: alert() == ("inactive", []), 90, why=lambda: str(alert()))
