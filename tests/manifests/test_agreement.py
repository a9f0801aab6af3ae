"""What manifests say about the code is what the code says."""

import re

import pytest
import yaml
from manifests import (
    OVERLAYS,
    container_of,
    environment,
    generator,
    of_kind,
    pod_of,
    render,
    service_of,
    settings_of,
    workloads,
)

from loopcast.lifecycle import CLOSE_SECONDS
from loopcast.ops import METRICS_PATH, PROBES
from loopcast.settings import PREFIX, SERVICES
from loopcast.settings.environment import FILE
from loopcast.topology import Topology

CLOSINGS = 2 * (CLOSE_SECONDS + 2) + 5
"""The public port's, the ops port's, and what a service does in between."""


@pytest.fixture(params=OVERLAYS)
def objects(request):
    return render(f"overlays/{request.param}")


def test_variables_are_settings_of_the_service(objects):
    """Each is read by the service that it is given to, by its own name or by its file's."""
    for workload in workloads(objects):
        names = {name.removeprefix(PREFIX).lower() for name in environment(objects, workload)}
        fields = set(SERVICES[service_of(workload)].model_fields)
        known = fields | {name + FILE.lower() for name in fields}
        assert (service_of(workload), set()) == (service_of(workload), names - known)


def test_values_are_taken(objects):
    """A service would start with what it is given, and not refuse to serve."""
    for workload in workloads(objects):
        settings = settings_of(objects, workload)
        if not hasattr(settings, "check_exposure"):
            continue
        # The images listen on every address where nobody says otherwise.
        host = environment(objects, workload).get("LOOPCAST_HOST", "0.0.0.0")
        settings.model_copy(update={"host": host}).check_exposure()


def test_files_are_where_something_is_mounted(objects):
    """A variable that names a file names one under a volume of the pod's."""
    for workload in workloads(objects):
        mounts = [mount["mountPath"] for mount in container_of(workload)["volumeMounts"]]
        files = [v for n, v in environment(objects, workload).items() if n.endswith(FILE) and v]
        assert files
        assert [] == [file for file in files if not any(file.startswith(f"{mount}/") for mount in mounts)]


def test_ports_are_those_of_the_code(objects):
    """The ops port, and the public one where the pod offers it, are the settings' defaults."""
    for workload in workloads(objects):
        fields = SERVICES[service_of(workload)].model_fields
        ports = {port["name"]: port["containerPort"] for port in container_of(workload)["ports"]}
        expected = {"ops": fields["ops_port"].default}
        if "port" in fields and "LOOPCAST_HOST" not in environment(objects, workload):
            expected["http"] = fields["port"].default
        assert expected == ports


def test_probes_ask_what_the_service_answers(objects):
    """Liveness and readiness at their own paths; nothing that waits for RabbitMQ can end a pod."""
    live, ready, _ = PROBES
    for workload in workloads(objects):
        container = container_of(workload)
        asked = {kind: container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")}
        assert {
            "startup": {"path": live, "port": "ops"},
            "liveness": {"path": live, "port": "ops"},
            "readiness": {"path": ready, "port": "ops"},
        } == asked


def test_a_pod_has_longer_to_stop_than_it_takes(objects):
    """The grace period has room for the pause before SIGTERM, the drain, and the closing of both ports after it."""
    for workload in workloads(objects):
        pause = container_of(workload).get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        needed = pause + settings_of(objects, workload).drain_seconds + CLOSINGS
        assert needed <= pod_of(workload)["terminationGracePeriodSeconds"]
        # What load balancers send to leaves their lists before it stops taking connections.
        assert (service_of(workload) in {"producer", "gateway"}) == (pause >= 10)


def test_services_agree_on_the_log(objects):
    """All of them know the same partitions, and the broker is made with them."""
    settings = [settings_of(objects, workload) for workload in workloads(objects)]
    topologies = {repr(s.broker_topology) for s in settings}
    made = of_kind(objects, "RabbitmqCluster") != []

    assert 1 == len(topologies)
    assert {"verify" if made else "declare"} == {s.topology for s in settings}
    if made:
        assert resources(settings[0].broker_topology) == resources_of(objects)


def resources(topology):
    """What the code lists, as comparable tuples."""
    return sorted(
        [
            *(("Exchange", e.name, e.kind, dict(e.arguments)) for e in topology.exchanges),
            *(("Queue", q.name, q.kind, dict(q.arguments)) for q in topology.queues),
            *(("Binding", b.source, (b.destination, b.to, b.key), dict(b.arguments)) for b in topology.bindings),
        ],
        key=repr,
    )


def resources_of(objects):
    """What the topology operator is told, in the same shape; durable and never deleted by their own accord."""
    found = []
    for thing in of_kind(objects, "Exchange", "Queue", "Binding"):
        spec = thing["spec"]
        arguments = spec.get("arguments", {})
        if thing["kind"] == "Binding":
            to = (spec["destination"], spec["destinationType"], spec.get("routingKey", ""))
            found.append(("Binding", spec["source"], to, arguments))
        else:
            assert (True, False) == (spec["durable"], spec["autoDelete"])
            found.append((thing["kind"], spec["name"], spec["type"], arguments))
    return sorted(found, key=repr)


@pytest.mark.parametrize("partitions", [1, 2, 7])
def test_topology_resources_are_those_of_the_code_for_any_number_of_partitions(partitions):
    """What `generate.py` would write for more partitions is what the services of that setting look for."""
    written = tuple(yaml.safe_load_all(generator().topology(partitions)))

    assert resources(Topology(partitions=partitions)) == resources_of(written)
    assert len(written) == len({(thing["kind"], thing["metadata"]["name"]) for thing in written})
    assert all(re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", thing["metadata"]["name"]) for thing in written)


def test_the_log_outlives_its_resource():
    """Deleting the resource of a stream must not delete the stream."""
    queues = of_kind(render("base/broker"), "Queue")

    assert {"retain"} == {queue["spec"]["deletionPolicy"] for queue in queues}


def test_each_service_has_a_user_of_its_own():
    """A service's pods mount the login that the operator makes for its user, and no other."""
    broker = render("base/broker")
    users = {user["metadata"]["name"] for user in of_kind(broker, "User")}
    permissions = {p["spec"]["userReference"]["name"]: p["spec"]["permissions"] for p in of_kind(broker, "Permission")}

    assert users == set(permissions) == {f"loopcast-{name}" for name in SERVICES}
    for workload in workloads(render("overlays/production")):
        volumes = {v["name"]: v["secret"]["secretName"] for v in pod_of(workload)["volumes"] if "secret" in v}
        assert f"{workload['metadata']['name']}-user-credentials" == volumes["broker"]


def test_what_is_scraped_is_the_ops_port():
    """The pod monitor asks every service, at the path where the metrics are."""
    monitors = {m["metadata"]["name"]: m["spec"] for m in of_kind(render("overlays/production"), "PodMonitor")}
    (endpoint,) = monitors["loopcast"]["podMetricsEndpoints"]

    assert ("ops", METRICS_PATH) == (endpoint["port"], endpoint["path"])
