"""
Write the manifests that come out of the code, and the copies that another tool wants in another shape.

* `base/broker/topology.yaml`: what `loopcast.topology` lists, as resources of the messaging-topology-operator.
* `deploy/compose/prometheus/rules.yaml`: the rules of `components/monitoring`, without Kubernetes around them.

`make docs` runs it; a test fails while a file and its source differ.
"""

from __future__ import annotations

from pathlib import Path

import yaml

from loopcast.topology import Binding, Exchange, Queue, Topology

FOLDER = Path(__file__).parent
CLUSTER = "loopcast-broker"
API = "rabbitmq.com/v1beta1"
PARTITIONS = 1
MADE = "# Written by deploy/kubernetes/generate.py; edit {source}.\n"


def topology(partitions: int = PARTITIONS) -> str:
    """The exchanges, the log and their bindings as resources."""
    made = Topology(partitions=partitions)
    resources = [
        *map(_exchange, made.exchanges),
        *map(_queue, made.queues),
        *(_binding(binding, number) for number, binding in enumerate(made.bindings)),
    ]
    return MADE.format(source="loopcast.topology") + "---\n".join(map(_dump, resources))


def rules() -> str:
    """The alerts as Prometheus reads them."""
    with (FOLDER / "components/monitoring/prometheusrule.yaml").open(encoding="utf-8") as file:
        spec = yaml.safe_load(file)["spec"]
    return MADE.format(source="deploy/kubernetes/components/monitoring/prometheusrule.yaml") + _dump(spec)


PAGES = {
    FOLDER / "base/broker/topology.yaml": topology,
    FOLDER.parent / "compose/prometheus/rules.yaml": rules,
}


def _resource(kind: str, name: str, spec: dict[str, object]) -> dict[str, object]:
    return {
        "apiVersion": API,
        "kind": kind,
        "metadata": {"name": f"{kind.lower()}-{name}".replace(".", "-")},
        "spec": {**spec, "rabbitmqClusterReference": {"name": CLUSTER}},
    }


def _exchange(exchange: Exchange) -> dict[str, object]:
    spec: dict[str, object] = {"name": exchange.name, "type": exchange.kind, "durable": True, "autoDelete": False}
    if exchange.arguments:
        spec["arguments"] = dict(exchange.arguments)
    return _resource("Exchange", exchange.name, spec)


def _queue(queue: Queue) -> dict[str, object]:
    spec: dict[str, object] = {"name": queue.name, "type": queue.kind, "durable": True, "autoDelete": False}
    if queue.arguments:
        spec["arguments"] = dict(queue.arguments)
    # A resource that is deleted by mistake must not take the log with it.
    return _resource("Queue", queue.name, {**spec, "deletionPolicy": "retain"})


def _binding(binding: Binding, number: int) -> dict[str, object]:
    spec: dict[str, object] = {
        "source": binding.source,
        "destination": binding.destination,
        "destinationType": binding.to,
    }
    if binding.key:
        spec["routingKey"] = binding.key
    if binding.arguments:
        spec["arguments"] = dict(binding.arguments)
    return _resource("Binding", f"{binding.destination}-{number}", spec)


def _dump(value: object) -> str:
    return yaml.safe_dump(value, sort_keys=False, width=120, allow_unicode=True)


if __name__ == "__main__":
    for path, write in PAGES.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(write(), encoding="utf-8")
        print(path.relative_to(FOLDER.parents[1]))
