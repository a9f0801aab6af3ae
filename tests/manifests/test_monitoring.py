"""Alerts and the dashboard ask only for metrics that exist, by labels that they have, and lead to a runbook."""

import json
import re

import promql_parser as promql
import pytest
import yaml
from manifests import FOLDER, ROOT

from loopcast.metrics import INVENTORY

FOLDER = FOLDER / "components/monitoring"
RULES = [
    rule
    for group in yaml.safe_load((FOLDER / "prometheusrule.yaml").read_text())["spec"]["groups"]
    for rule in group["rules"]
]
DASHBOARD = json.loads((FOLDER / "dashboard.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
RUNBOOKS = (ROOT / "docs/operations/runbooks.md").read_text()

OTHERS = {
    # Prometheus' own, and those of its client library in each of our processes.
    "up": set(),
    "process_cpu_seconds_total": set(),
    "process_resident_memory_bytes": set(),
    # RabbitMQ's (https://www.rabbitmq.com/docs/prometheus); a container test asks a broker for them.
    "rabbitmq_identity_info": {"rabbitmq_node"},
    "rabbitmq_alarms_memory_used_watermark": set(),
    "rabbitmq_alarms_free_disk_space_watermark": set(),
    "rabbitmq_disk_space_available_bytes": set(),
    "rabbitmq_disk_space_available_limit_bytes": set(),
    "rabbitmq_process_resident_memory_bytes": set(),
    "rabbitmq_resident_memory_limit_bytes": set(),
    "rabbitmq_global_messages_received_total": set(),
    "rabbitmq_global_messages_confirmed_total": set(),
    "rabbitmq_detailed_queue_messages": {"queue", "vhost"},
}
SCRAPED = {"job", "instance"}
"""Labels that scraping adds."""


def series():
    """The labels of every series that there is, by name."""
    found = dict(OTHERS)
    for definition in INVENTORY.values():
        labels = set(definition.labels)
        if definition.kind == "histogram":
            found |= {f"{definition.name}_{part}": labels for part in ("sum", "count")}
            found[f"{definition.name}_bucket"] = labels | {"le"}
        else:
            found[definition.name] = labels
    return found


def parsed(query):
    # The dashboard's own variable is an interval.
    return promql.parse(query.replace("$__rate_interval", "5m"))


def queries():
    yield from ((rule["alert"], rule["expr"]) for rule in RULES)
    yield from ((panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"])


@pytest.mark.parametrize(("title", "query"), list(queries()))
def test_a_query_names_only_what_exists(title, query):
    """A metric that was renamed cannot leave an alert behind that never fires."""
    known = series()
    # What it groups by are labels.
    bare = re.sub(r"\b(?:by|on)\s*\([^)]*\)", "", query)
    names = re.findall(r"\b((?:loopcast|rabbitmq|process)_\w+|up)\b(?=\s*[{\[)\s]|$)", bare)

    parsed(query)
    assert names
    assert set() == set(names) - set(known)
    for name, labels in re.findall(r"\b(\w+)\{([^}]*)\}", query):
        used = set(re.findall(r"(\w+)\s*[=!]", labels))
        assert (name, set()) == (name, used - known[name] - SCRAPED)


@pytest.mark.parametrize(("title", "query"), list(queries()))
def test_a_query_groups_by_labels_that_the_metrics_have(title, query):
    """Grouping by a label that is nowhere would make one series of many, unnoticed."""
    known = series()
    there = set().union(*(known[name] for name in known if re.search(rf"\b{name}\b", query))) | SCRAPED

    for labels in re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", query):
        assert set() == {label.strip() for label in labels.split(",")} - there


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_says_what_it_means_and_what_to_do(rule):
    """A severity, a sentence whose labels the query keeps, and a runbook with a section of its own."""
    page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    kept = SCRAPED | {label for group in re.findall(r"\bby\s*\(([^)]*)\)", rule["expr"]) for label in group.split(", ")}
    bare = not re.search(r"\b(sum|max|min|histogram_quantile)\b\s*(by|\()", rule["expr"])
    own = set().union(*(series()[n] for n in series() if re.search(rf"\b{n}\b", rule["expr"]))) if bare else set()
    used = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))

    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert set() == used - kept - own
    assert ("docs/operations/runbooks.md", rule["alert"].lower()) == (page, anchor)
    section = RUNBOOKS.partition(f"\n### {rule['alert']}\n")[2].partition("\n### ")[0]
    assert len(section.split()) > 20


def test_every_runbook_has_an_alert():
    """A section for an alert that is gone would be read by nobody."""
    assert [rule["alert"] for rule in RULES] == re.findall(r"^### (\w+)$", RUNBOOKS, re.MULTILINE)


def test_the_dashboard_can_be_imported():
    """Its panels ask the data source that whoever imports it chooses, have titles, and do not overlap."""
    taken = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert (panel["title"], set()) == (panel["title"], taken & cells)
        taken |= cells
    assert {"${source}"} == {panel["datasource"]["uid"] for panel in PANELS}
    assert len(DASHBOARD["panels"]) == len({panel["id"] for panel in DASHBOARD["panels"]})


def test_the_dashboard_shows_every_service():
    """Each service has a row of its own with metrics of its own."""
    text = json.dumps(DASHBOARD)

    for part in ("producer", "gateway", "otel", "webhook", "recorder"):
        assert f"loopcast_{part}_" in text
