"""Every overlay renders, and Kubernetes and the operators would take each object of it."""

import kubernetes_validate
import pytest
from manifests import BASES, FOLDER, OVERLAYS, custom_faults, of_kind, render

VERSIONS = ("1.30", "1.34")
"""The oldest that the manifests are for (the native sleep before a stop), and a newer one."""
OPERATORS = ("rabbitmq.com/", "monitoring.coreos.com/")
PATHS = [f"overlays/{name}" for name in OVERLAYS] + [f"base/{name}" for name in BASES]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("path", PATHS)
def test_built_in_kinds_are_valid(path, version):
    """Strictly: a field that Kubernetes does not know is a fault, not something to be ignored."""
    for thing in render(path):
        if not thing["apiVersion"].startswith(OPERATORS):
            kubernetes_validate.validate(thing, version, strict=True)


@pytest.mark.parametrize("path", PATHS)
def test_the_operators_kinds_are_valid(path):
    """The same by the operators' own definitions."""
    custom = [thing for thing in render(path) if thing["apiVersion"].startswith(OPERATORS)]
    for thing in custom:
        assert (thing["kind"], []) == (thing["kind"], custom_faults(thing))


def test_a_fault_would_be_found():
    """The definitions are closed: a misspelt field does not pass."""
    (cluster,) = of_kind(render("base/broker"), "RabbitmqCluster")
    broken = {**cluster, "spec": {**cluster["spec"], "replica": 3}}

    assert ["$.spec: Additional properties are not allowed ('replica' was unexpected)"] == custom_faults(broken)


def test_every_folder_is_used():
    """A component that no overlay has is one that nobody renders, but those that need what not everybody has."""
    kept = {path.parent.name for path in FOLDER.glob("components/*/kustomization.yaml")}
    text = "".join((FOLDER / f"overlays/{name}/kustomization.yaml").read_text() for name in OVERLAYS)

    assert {"autoscaling-connections", "postgresql", "redis"} == {
        name for name in kept if f"components/{name}\n" not in text
    }
