"""Components that no overlay has: what an overlay of one's own may add is as good as what is there."""

from urllib.parse import urlsplit

import kubernetes_validate
import pytest
from manifests import (
    FOLDER,
    ROOT,
    container_of,
    environment,
    labels_of,
    of_kind,
    pod_of,
    render,
    selected,
    service_of,
    settings_of,
    workloads,
)

from loopcast.settings import SERVICES
from loopcast.settings.environment import FILE


@pytest.fixture
def added(tmp_path):
    """Renders production with one more component, as somebody's overlay would have it."""

    def render_with(*components):
        here = "../" * len(tmp_path.parts[1:]) + str(FOLDER)[1:]
        lines = [f"resources: [{here}/overlays/production]", "components:"]
        lines += [f"  - {here}/components/{component}" for component in components]
        (tmp_path / "kustomization.yaml").write_text("\n".join(lines) + "\n")
        return render(tmp_path)

    return render_with


def test_viewers_can_be_what_gateways_are_scaled_by(added):
    """The autoscaler then looks at both, and takes the larger number."""
    scalers = {s["metadata"]["name"]: s for s in of_kind(added("autoscaling-connections"), "HorizontalPodAutoscaler")}

    kubernetes_validate.validate(scalers["loopcast-gateway"], "1.30", strict=True)
    assert ["Resource", "Pods"] == [m["type"] for m in scalers["loopcast-gateway"]["spec"]["metrics"]]


def test_the_guides_overlay_is_what_it_says(tmp_path):
    """The `kustomization.yaml` that deploy/README.md gives renders: their images, their endpoints, their backend."""
    guide = (ROOT / "deploy/README.md").read_text().partition("```yaml\n")[2].partition("```")[0]
    here = "../" * len(tmp_path.parts[1:]) + str(ROOT)[1:]
    (tmp_path / "kustomization.yaml").write_text(guide.replace("../deploy", f"{here}/deploy"))
    (tmp_path / "endpoints.yaml").write_text("endpoints: [{name: ci, url: https://ci.example.com, bindings: ['#']}]\n")

    objects = render(tmp_path)
    images = {service_of(w): container_of(w)["image"] for w in workloads(objects)}
    (webhooks,) = [o for o in of_kind(objects, "ConfigMap") if o["metadata"]["name"] == "loopcast-webhooks"]
    exporter = next(w for w in workloads(objects) if service_of(w) == "otel-exporter")

    for thing in objects:
        if not thing["apiVersion"].startswith(("rabbitmq.com/", "monitoring.coreos.com/")):
            kubernetes_validate.validate(thing, "1.30", strict=True)
    assert {service: f"registry.example.com/loopcast-{service}:0.1.0" for service in SERVICES} == images
    assert "ci.example.com" in webhooks["data"]["endpoints.yaml"]
    assert "http://tempo.observability:4317" == environment(objects, exporter)["LOOPCAST_OTLP_ENDPOINT"]
    assert 20 in {s["spec"]["maxReplicas"] for s in of_kind(objects, "HorizontalPodAutoscaler")}


@pytest.mark.parametrize(
    ("component", "service", "setting", "url"),
    [
        ("redis", "producer", "producer_redis_url", "redis://u:p@redis.cache:6379"),
        ("postgresql", "recorder", "recorder_postgres", "postgresql://u:p@db.databases:5432/loopcast"),
    ],
)
def test_a_service_reaches_what_else_it_uses(added, component, service, setting, url):
    """Where that is, and the password, lie in a Secret that is mounted; the network lets that service out, no other."""
    objects = added(component)
    (workload,) = [w for w in workloads(objects) if service_of(w) == service]
    (config,) = [o for o in of_kind(objects, "ConfigMap") if o["metadata"]["name"].startswith(f"loopcast-{service}-")]
    (policy,) = [p for p in of_kind(objects, "NetworkPolicy") if p["metadata"]["name"] == f"loopcast-{component}"]
    file = config["data"][f"LOOPCAST_{setting.upper()}{FILE}"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container_of(workload)["volumeMounts"]}
    secrets = {v["name"]: v["secret"]["secretName"] for v in pod_of(workload)["volumes"] if "secret" in v}

    for thing in (workload, policy):
        kubernetes_validate.validate(thing, "1.30", strict=True)
    assert f"{mounts[component]}/url" == file
    assert f"loopcast-{component}" == secrets[component]
    assert getattr(settings_of(objects, workload, **{setting: url}), setting) == url
    assert [service] == [
        service_of(w) for w in workloads(objects) if selected(policy["spec"]["podSelector"], labels_of(w))
    ]
    assert urlsplit(url).port in {p["port"] for rule in policy["spec"]["egress"] for p in rule["ports"]}
