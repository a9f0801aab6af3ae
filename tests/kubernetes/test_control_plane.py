"""
The manifests on a real control plane: admission, defaults, controllers and the scheduler, with no container behind.

Runs where `LOOPCAST_TEST_KUBERNETES` names a folder with Kubernetes' programs, or is `build`: then Go makes them, once.
Needs etcd, kubectl and openssl. Of the operators the one that makes RabbitMQ's pods is there; of the others, their
definitions.
"""

import os
import shutil
from collections import Counter

import pytest
from kube import ZONES, Kubernetes, programs
from manifests import FOLDER, OVERLAYS, crd_files, of_kind, render, selected

from loopcast.settings import SERVICES

pytestmark = [
    pytest.mark.skipif(not os.environ.get("LOOPCAST_TEST_KUBERNETES"), reason="LOOPCAST_TEST_KUBERNETES names none"),
    pytest.mark.timeout(1500),
]


# The server says it of every headless Service: it looks at the default that it has filled in itself.
UNAVOIDABLE = "Warning: spec.SessionAffinity is ignored for headless services"


@pytest.fixture(scope="module")
def kubernetes():
    """A control plane that knows the operators' kinds."""
    for tool in ("etcd", "kubectl", "openssl"):
        if shutil.which(tool) is None:
            pytest.skip(f"needs {tool}")
    with Kubernetes(programs()) as made:
        for file in crd_files():
            made.run("create", "--validate=false", "-f", str(file))
        made.run("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        yield made


@pytest.fixture(scope="module")
def production(kubernetes):
    """The overlay `production`, applied; all pods run."""
    kubernetes.add_volumes(1)
    apply(kubernetes, "production")
    kubernetes.until(
        lambda: ready(kubernetes) == wanted(kubernetes), why=lambda: kubernetes.run("get", "all,events", "-A")
    )
    yield kubernetes
    kubernetes.run("delete", "namespace", "loopcast", "--wait=true", "--timeout=60s")


def apply(kubernetes, overlay, *more):
    """What somebody types who installs it; what was done to each object. A warning of the server is a fault."""
    said = kubernetes.run("apply", "-k", str(FOLDER / f"overlays/{overlay}"), "--validate=strict", *more, check=False)
    warnings = [line for line in said.splitlines() if line.startswith("Warning:") and line != UNAVOIDABLE]
    done = [line for line in said.splitlines() if not line.startswith("Warning:")]
    assert [] == warnings, said
    assert [] == [
        line for line in done if " created" not in line and " configured" not in line and " unchanged" not in line
    ]
    return done


def pods(kubernetes, service):
    return kubernetes.get("pods", "--selector", f"app.kubernetes.io/name=loopcast-{service}")


def running(kubernetes, service):
    return [pod for pod in pods(kubernetes, service) if pod["status"]["phase"] == "Running"]


def ready(kubernetes):
    return {service: len(running(kubernetes, service)) for service in SERVICES}


def wanted(kubernetes):
    """How many pods each service has by its manifests, where an autoscaler has one its least."""
    objects = render("overlays/production")
    least = {
        s["spec"]["scaleTargetRef"]["name"]: s["spec"]["minReplicas"]
        for s in of_kind(objects, "HorizontalPodAutoscaler")
    }
    workloads = of_kind(objects, "Deployment", "StatefulSet")
    return {
        w["metadata"]["name"].removeprefix("loopcast-"): least.get(w["metadata"]["name"], w["spec"].get("replicas"))
        for w in workloads
    }


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_server_takes_every_object(kubernetes, overlay):
    """Strictly and without a warning, the restricted profile of the namespace included; nothing of it is kept."""
    kubernetes.run("apply", "-f", str(FOLDER / f"overlays/{overlay}/namespace.yaml"))

    assert len(render(f"overlays/{overlay}")) == len(apply(kubernetes, overlay, "--dry-run=server"))


def test_pods_are_let_in_and_run(production):
    """Each service has its pods, and where an autoscaler owns them its least: the namespace takes restricted ones."""
    assert {"gateway": 3, "producer": 2, "otel-exporter": 2, "webhook-forwarder": 2, "recorder": 1} == ready(production)


def test_a_pod_that_may_more_is_not_let_in(production):
    """The same namespace refuses a container that may become root."""
    (pod, *_) = pods(production, "producer")
    spec = {**pod["spec"], "nodeName": None, "volumes": [], "containers": [{"name": "x", "image": "x"}]}
    loose = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "loose", "namespace": "loopcast"}, "spec": spec}

    said = production.run("create", "-f", "-", given=loose, check=False)

    assert 'violates PodSecurity "restricted' in said


@pytest.mark.parametrize("service", ["producer", "gateway", "otel-exporter", "webhook-forwarder"])
def test_pods_are_spread(production, service):
    """No two on one node, and as many zones as there are pods to be in them."""
    nodes = [pod["spec"]["nodeName"] for pod in running(production, service)]
    zones = {ZONES[int(node.rpartition("-")[2]) % len(ZONES)] for node in nodes}

    assert (len(nodes), min(len(nodes), len(ZONES))) == (len(set(nodes)), len(zones))


@pytest.mark.parametrize("service", list(SERVICES))
def test_a_budget_knows_its_pods(production, service):
    """It counts them all, and lets one go."""
    status = production.get("poddisruptionbudget", f"loopcast-{service}")["status"]

    assert (len(running(production, service)), 1) == (status["expectedPods"], status["disruptionsAllowed"])


def test_one_pod_is_evicted_and_the_next_waits(production):
    """Two evictions at once, as two nodes that are emptied: the second is refused for now."""
    answers = Counter()
    for pod in running(production, "gateway")[:2]:
        place = {"name": pod["metadata"]["name"], "namespace": "loopcast"}
        path = f"/api/v1/namespaces/loopcast/pods/{place['name']}/eviction"
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": place}
        said = production.run("create", "--raw", path, "-f", "-", given=eviction, check=False)
        answers["refused" if "disruption budget" in said else "evicted"] += 1
    production.until(lambda: ready(production)["gateway"] == 3)

    assert {"evicted": 1, "refused": 1} == answers


def test_an_apply_leaves_the_autoscalers_number_alone(production):
    """What the autoscaler made of it stays when somebody rolls out a change."""
    production.run("--namespace", "loopcast", "scale", "deployment/loopcast-gateway", "--replicas=5")
    apply(production, "production")

    assert 5 == production.get("deployment", "loopcast-gateway")["spec"]["replicas"]


def test_a_changed_setting_rolls_the_pods_and_no_pod_is_missing(production, tmp_path):
    """Another config map is another name, so that pods are replaced, one more than before at a time."""
    before = {pod["metadata"]["name"] for pod in running(production, "producer")}
    here = "../" * len(tmp_path.parts[1:]) + str(FOLDER)[1:]
    change = "{name: loopcast-producer, namespace: loopcast, behavior: merge, literals: [LOOPCAST_LOG_LEVEL=debug]}"
    (tmp_path / "kustomization.yaml").write_text(
        f"resources: [{here}/overlays/production]\nconfigMapGenerator:\n  - {change}\n"
    )

    production.run("apply", "-k", str(tmp_path))
    least = []

    def rolled():
        names = {pod["metadata"]["name"] for pod in running(production, "producer")}
        least.append(len(names))
        return names.isdisjoint(before) and len(names) == 2

    production.until(rolled)

    assert 2 <= min(least)


@pytest.fixture(scope="module")
def brokers(production):
    """RabbitMQ's pods, as its operator makes them of ours."""
    if not (programs() / "cluster-operator").exists():
        pytest.skip("needs the program cluster-operator beside Kubernetes'")
    production.add_volumes(3)
    production.operate()

    def made():
        found = production.get("pods", "--selector", "app.kubernetes.io/name=loopcast-broker")
        return len([pod for pod in found if pod["status"]["phase"] == "Running"]) == 3 and found

    return production.until(made, why=lambda: production.run("get", "all,pvc,events", "-A"))


def test_the_operators_pods_are_let_in_and_spread(brokers):
    """The restricted namespace takes RabbitMQ's pods, one a node and one a zone."""
    nodes = [pod["spec"]["nodeName"] for pod in brokers]
    zones = {ZONES[int(node.rpartition("-")[2]) % len(ZONES)] for node in nodes}

    assert (3, 3) == (len(set(nodes)), len(zones))


def test_what_selects_the_brokers_pods_finds_them(brokers, production):
    """The budget lets one of three go; policies and the monitor know the pods by labels and ports that they have."""
    budget = production.get("poddisruptionbudget", "loopcast-broker")
    labels, ports = brokers[0]["metadata"]["labels"], brokers[0]["spec"]["containers"][0]["ports"]
    policy = production.get("networkpolicy", "loopcast-broker")["spec"]
    monitor = production.get("podmonitor", "loopcast-broker")["spec"]
    opened = {port["port"] for rule in policy["ingress"] for port in rule["ports"]}

    assert (3, 1) == (budget["status"]["expectedPods"], budget["status"]["disruptionsAllowed"])
    assert selected(policy["podSelector"], labels)
    assert selected(monitor["selector"], labels)
    assert {"prometheus"} <= {port["name"] for port in ports}
    assert {
        port["containerPort"] for port in ports if port["name"] in {"amqp", "management", "prometheus", "epmd"}
    } <= opened


def test_the_operator_configures_the_cluster(brokers, production):
    """What the manifest says of partitions and disk reaches the configuration that RabbitMQ reads."""
    text = "".join(production.get("configmap", "loopcast-broker-server-conf")["data"].values())

    for line in ("pause_minority", "disk_free_limit.absolute", "queue_leader_locator"):
        assert line in text
