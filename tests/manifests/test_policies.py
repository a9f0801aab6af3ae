"""What every manifest promises, whatever the schema would let pass."""

import re

import pytest
from manifests import (
    OVERLAYS,
    container_of,
    environment,
    labels_of,
    of_kind,
    pod_of,
    render,
    selected,
    service_of,
    workloads,
)

from loopcast.settings import SERVICES

SCALED = {"producer", "gateway"}
HARDENED = [name for name in OVERLAYS if name != "local"]


@pytest.fixture(params=OVERLAYS)
def overlay(request):
    return request.param


@pytest.fixture
def objects(overlay):
    return render(f"overlays/{overlay}")


def test_every_service_is_deployed(objects):
    """An overlay has each service once."""
    assert sorted(SERVICES) == sorted(map(service_of, workloads(objects)))


def test_everything_is_in_one_namespace(objects):
    """Nothing lands where it was not meant to; the namespace lets only restricted pods in."""
    (namespace,) = of_kind(objects, "Namespace")

    assert {"loopcast"} == {o["metadata"]["namespace"] for o in objects if o["kind"] != "Namespace"}
    assert "restricted" == namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]


def test_pods_are_restricted(objects):
    """The restricted profile of the Pod Security Standards, and a file system that is read only."""
    for workload in workloads(objects, ours=False):
        pod, container = pod_of(workload), container_of(workload)
        context = container["securityContext"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert {"type": "RuntimeDefault"} == pod["securityContext"]["seccompProfile"]
        assert context["allowPrivilegeEscalation"] is False
        assert {"drop": ["ALL"]} == context["capabilities"]
        assert {"hostNetwork", "hostPID", "hostIPC"}.isdisjoint(pod)
        assert [] == [v for v in pod["volumes"] if "hostPath" in v]
    for workload in workloads(objects):
        assert 10001 == pod_of(workload)["securityContext"]["runAsUser"]
        assert container_of(workload)["securityContext"]["readOnlyRootFilesystem"] is True


@pytest.mark.parametrize("overlay", HARDENED)
def test_the_operators_pods_are_restricted_too(objects):
    """RabbitMQ's operator leaves it to us, up to 2.16: without this no pod of it is let in."""
    (cluster,) = of_kind(objects, "RabbitmqCluster")
    pod = cluster["spec"]["override"]["statefulSet"]["spec"]["template"]["spec"]
    boxes = {box["name"]: box["securityContext"] for box in [*pod["initContainers"], *pod["containers"]]}

    assert {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}} == pod["securityContext"]
    confined = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    assert {"setup-container": confined, "rabbitmq": confined} == boxes


def test_pods_ask_kubernetes_nothing(objects):
    """No token of the cluster's is mounted, and no Service becomes a variable."""
    accounts = {a["metadata"]["name"]: a for a in of_kind(objects, "ServiceAccount")}
    for workload in workloads(objects):
        pod = pod_of(workload)
        assert workload["metadata"]["name"] == pod["serviceAccountName"]
        assert accounts[pod["serviceAccountName"]]["automountServiceAccountToken"] is False
    for workload in workloads(objects, ours=False):
        assert pod_of(workload)["automountServiceAccountToken"] is False
        assert pod_of(workload)["enableServiceLinks"] is False


def test_memory_is_limited_and_cpu_is_not(objects):
    """A limit of memory protects the node; one of CPU would only make events late."""
    for workload in workloads(objects, ours=False):
        resources = container_of(workload)["resources"]
        assert {"cpu", "memory"} == set(resources["requests"])
        assert ["memory"] == list(resources["limits"])


def test_images_are_pinned(overlay, objects):
    """No image is whatever its tag means today, but on a laptop, where it was built a moment ago."""
    tags = {container_of(w)["image"].rpartition(":")[2] for w in workloads(objects, ours=overlay == "local")}

    assert tags == {"latest"} if overlay == "local" else all(re.match(r"\d+\.\d+", tag) for tag in tags)


def test_disruption_budgets_match_their_pods(objects):
    """A budget selects exactly the pods of its service, or of the broker: without a selector it would match nothing."""
    for workload in workloads(objects):
        budgets = [
            b["metadata"]["name"]
            for b in of_kind(objects, "PodDisruptionBudget")
            if b["spec"].get("selector") and selected(b["spec"]["selector"], labels_of(workload))
        ]
        assert [workload["metadata"]["name"]] == budgets
    for cluster in of_kind(objects, "RabbitmqCluster"):
        # All that the operator says of its pods by labels that nobody else's have.
        (budget,) = [
            b["spec"]
            for b in of_kind(objects, "PodDisruptionBudget")
            if selected(b["spec"]["selector"], {"app.kubernetes.io/name": cluster["metadata"]["name"]})
        ]
        assert cluster["spec"]["replicas"] - budget["maxUnavailable"] > cluster["spec"]["replicas"] / 2


def cores(quantity):
    """A quantity of processors, as a number."""
    return float(quantity.removesuffix("m")) / 1000 if quantity.endswith("m") else float(quantity)


@pytest.mark.parametrize("overlay", HARDENED)
def test_what_is_scaled_can_become_that_busy(objects):
    """A process uses one core and no more: an autoscaler that waits for more than most of it waits for ever."""
    requests = {w["metadata"]["name"]: container_of(w)["resources"]["requests"]["cpu"] for w in workloads(objects)}
    for scaler in of_kind(objects, "HorizontalPodAutoscaler"):
        (cpu,) = [m["resource"] for m in scaler["spec"]["metrics"] if m["type"] == "Resource"]
        waits_for = (
            cores(requests[scaler["spec"]["scaleTargetRef"]["name"]]) * cpu["target"]["averageUtilization"] / 100
        )
        assert 0.3 < waits_for <= 0.75


def test_services_reach_their_pods(objects):
    """A Service selects one workload's pods, and each of its ports is a port of theirs."""
    every = workloads(objects, ours=False)
    for service in of_kind(objects, "Service"):
        (workload,) = [w for w in every if selected({"matchLabels": service["spec"]["selector"]}, labels_of(w))]
        ports = {port["name"] for port in container_of(workload)["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports


def test_replicas_spread_and_are_replaced_one_by_one(objects):
    """Over zones and nodes, by generation of pods; a new one is there before an old one goes."""
    for workload in of_kind(objects, "Deployment"):
        spread = pod_of(workload)["topologySpreadConstraints"]
        assert {"topology.kubernetes.io/zone", "kubernetes.io/hostname"} == {s["topologyKey"] for s in spread}
        for constraint in spread:
            assert selected(constraint["labelSelector"], labels_of(workload))
            assert ["pod-template-hash"] == constraint["matchLabelKeys"]
        assert {"maxSurge": 1, "maxUnavailable": 0} == workload["spec"]["strategy"]["rollingUpdate"]


@pytest.mark.parametrize("overlay", HARDENED)
def test_what_is_scaled_has_no_number_of_replicas(objects):
    """An apply must not set back what the autoscaler decided, and the autoscaler has what it aims at."""
    scaled = {
        s["spec"]["scaleTargetRef"]["name"].removeprefix("loopcast-"): s["spec"]
        for s in of_kind(objects, "HorizontalPodAutoscaler")
    }

    assert set(scaled) == SCALED
    assert set(scaled) == {service_of(w) for w in workloads(objects) if "replicas" not in w["spec"]}
    for scaler in scaled.values():
        assert 2 <= scaler["minReplicas"] < scaler["maxReplicas"]


@pytest.mark.parametrize("overlay", HARDENED)
def test_no_secret_is_written_down(objects):
    """Secrets come from the operators, and from whoever runs it; none is in the repository or the environment."""
    assert [] == of_kind(objects, "Secret")
    for workload in workloads(objects):
        assert "env" not in container_of(workload)


@pytest.mark.parametrize("overlay", HARDENED)
def test_nobody_is_served_unasked(objects):
    """What others reach asks for tokens; what asks for none is reached from its own pod alone."""
    for workload in workloads(objects):
        settings = SERVICES[service_of(workload)]
        values = environment(objects, workload)
        assert "LOOPCAST_ALLOW_ANONYMOUS" not in values
        if "port" in settings.model_fields and "LOOPCAST_HOST" not in values:
            assert "LOOPCAST_JWT_SECRET_FILE" in values


@pytest.mark.parametrize("overlay", HARDENED)
def test_every_pod_is_behind_network_policies(objects):
    """Whatever is not said is refused, in both directions."""
    deny = next(p for p in of_kind(objects, "NetworkPolicy") if p["metadata"]["name"] == "loopcast-default-deny")

    assert {"Ingress", "Egress"} == set(deny["spec"]["policyTypes"])
    assert {"ingress", "egress"}.isdisjoint(deny["spec"])
    for workload in workloads(objects):
        assert selected(deny["spec"]["podSelector"], labels_of(workload))


@pytest.mark.parametrize("overlay", HARDENED)
def test_every_service_may_send_its_own_telemetry(objects):
    """What is sent to a collector is let out to the namespace where collectors are, and to no other."""
    (policy,) = [p["spec"] for p in of_kind(objects, "NetworkPolicy") if p["metadata"]["name"] == "loopcast-telemetry"]
    (rule,) = policy["egress"]

    assert sorted(SERVICES) == sorted(
        service_of(w) for w in workloads(objects) if selected(policy["podSelector"], labels_of(w))
    )
    assert [{"port": 4317}, {"port": 4318}] == rule["ports"]
    exporter = next(w for w in workloads(objects) if service_of(w) == "otel-exporter")
    (to,) = rule["to"]
    namespace = to["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
    host, port = re.fullmatch(
        r"http://([^/:]+):(\d+)", environment(objects, exporter)["LOOPCAST_OTLP_ENDPOINT"]
    ).groups()
    assert (host.split(".")[1], {"port": int(port)}) == (namespace, rule["ports"][0])


@pytest.mark.parametrize("overlay", HARDENED)
def test_network_policies_name_what_exists(objects):
    """Each selects a pod of ours (the broker's are the operator's), and lets in by ports that it has."""
    for policy in of_kind(objects, "NetworkPolicy"):
        selector = policy["spec"]["podSelector"]
        matched = [w for w in workloads(objects) if selected(selector, labels_of(w))]
        assert matched or selector == {"matchLabels": {"app.kubernetes.io/name": "loopcast-broker"}}
        named = {p["port"] for rule in policy["spec"].get("ingress", []) for p in rule.get("ports", [])}
        for workload in matched:
            assert {n for n in named if isinstance(n, str)} <= {p["name"] for p in container_of(workload)["ports"]}


@pytest.mark.parametrize("overlay", HARDENED)
def test_the_public_services_alone_are_reached_from_outside(objects):
    """A Service with a cluster address exists for the producer and the gateway only."""
    public = {s["metadata"]["name"] for s in of_kind(objects, "Service") if s["spec"].get("clusterIP") != "None"}

    assert {"loopcast-producer", "loopcast-gateway"} == public
