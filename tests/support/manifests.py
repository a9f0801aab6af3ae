"""Rendered manifests, and the schemas that they are held to."""

import functools
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import jsonschema
import pytest
import yaml

from loopcast.settings import PREFIX, SERVICES
from loopcast.settings.environment import FILE

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy/kubernetes"
OVERLAYS = sorted(path.parent.name for path in FOLDER.glob("overlays/*/kustomization.yaml"))
BASES = sorted(path.parent.name for path in FOLDER.glob("base/*/kustomization.yaml"))
KUSTOMIZE = "sigs.k8s.io/kustomize/kustomize/v5@v5.7.1"
CRDS = {
    "github.com/rabbitmq/cluster-operator/v2@v2.16.0": "config/crd/bases/*.yaml",
    "github.com/rabbitmq/messaging-topology-operator@v1.17.4": "config/crd/bases/*.yaml",
    "github.com/prometheus-operator/prometheus-operator@v0.85.0": "example/prometheus-operator-crd/*_p[or]*[re]s.yaml",
}
"""Where the operators' own definitions are: their source, as Go modules."""


def skip(sentence):
    """Skip, but never where a build machine says that it has everything."""
    if os.environ.get("LOOPCAST_TEST_ALL_TOOLS") == "1":
        pytest.fail(sentence)
    pytest.skip(sentence)


@functools.cache
def generator():
    """`deploy/kubernetes/generate.py`, which is a program and no package."""
    spec = importlib.util.spec_from_file_location("kubernetes_generate", FOLDER / "generate.py")
    module = sys.modules["kubernetes_generate"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@functools.cache
def renderer():
    """What renders: kustomize or kubectl of this machine, or kustomize made by Go."""
    for program, command in (("kustomize", ["build"]), ("kubectl", ["kustomize"])):
        if found := shutil.which(program):
            return [found, *command]
    if go := shutil.which("go"):
        return [go, "run", KUSTOMIZE, "build"]
    return None


@functools.cache
def _render(path):
    command = renderer()
    if command is None:
        return None
    done = subprocess.run([*command, str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return tuple(yaml.load_all(done.stdout, Loader=yaml.CSafeLoader))


def render(path):
    """The objects of a kustomization under deploy/kubernetes."""
    objects = _render(FOLDER / path)
    if objects is None:
        skip("needs kustomize, kubectl or go on the PATH to render manifests")
    return objects


def of_kind(objects, *kinds):
    return [found for found in objects if found["kind"] in kinds]


def workloads(objects, *, ours=True):
    """Deployments and StatefulSets; `ours` are the services, without the broker."""
    found = of_kind(objects, "Deployment", "StatefulSet")
    return [w for w in found if not ours or w["metadata"]["name"] != "loopcast-broker"]


def service_of(workload):
    """The service's name, as the code has it."""
    return workload["metadata"]["name"].removeprefix("loopcast-")


def pod_of(workload):
    return workload["spec"]["template"]["spec"]


def container_of(workload):
    (container,) = pod_of(workload)["containers"]
    return container


def environment(objects, workload):
    """The variables that a service's pods get from their config map."""
    (source,) = container_of(workload)["envFrom"]
    (data,) = [
        o["data"] for o in of_kind(objects, "ConfigMap") if o["metadata"]["name"] == source["configMapRef"]["name"]
    ]
    return data


def settings_of(objects, workload, **files_hold):
    """A service's settings as its pods would have them, with what files hold, or something in its place."""
    given = environment(objects, workload)
    plain = {n.removeprefix(PREFIX).lower(): v for n, v in given.items() if v and not n.endswith(FILE)}
    files = {n.removeprefix(PREFIX).removesuffix(FILE).lower() for n, v in given.items() if v and n.endswith(FILE)}
    fields = SERVICES[service_of(workload)].model_fields
    secret = {name: "s" * 48 for name in files if name in fields}
    return SERVICES[service_of(workload)](**{**plain, **secret, **files_hold})


def selected(selector, labels):
    """Whether a selector of `matchLabels` and `matchExpressions` selects these labels."""
    if any(labels.get(name) != value for name, value in selector.get("matchLabels", {}).items()):
        return False
    for part in selector.get("matchExpressions", []):
        value, operator = labels.get(part["key"]), part["operator"]
        holds = {
            "In": lambda v=value, p=part: v in p["values"],
            "NotIn": lambda v=value, p=part: v not in p["values"],
            "Exists": lambda v=value: v is not None,
        }[operator]()
        if not holds:
            return False
    return True


def labels_of(workload):
    return workload["spec"]["template"]["metadata"]["labels"]


@functools.cache
def crd_files():
    """The files of the operators' own definitions; None without Go, or without its proxy."""
    go = shutil.which("go")
    if go is None:
        return None
    found = []
    for module, pattern in CRDS.items():
        # Outside any module, so that nothing of this repository is taken for one.
        with tempfile.TemporaryDirectory() as nowhere:
            done = subprocess.run([go, "mod", "download", "-json", module], capture_output=True, text=True, cwd=nowhere)
        if done.returncode != 0:
            return None
        found += sorted(Path(json.loads(done.stdout)["Dir"]).glob(pattern))
    return found


@functools.cache
def crds():
    """The schema of each kind that operators bring, by (apiVersion, kind)."""
    files = crd_files()
    if files is None:
        return None
    found = {}
    for path in files:
        for crd in yaml.load_all(path.read_text(), Loader=yaml.CSafeLoader):
            for version in crd["spec"]["versions"]:
                api = f"{crd['spec']['group']}/{version['name']}"
                found[api, crd["spec"]["names"]["kind"]] = _closed(version["schema"]["openAPIV3Schema"])
    return found


def _closed(schema):
    """A schema that refuses what it does not know, as a server with strict validation does."""
    if isinstance(schema, list):
        return [_closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: _closed(part) for name, part in schema.items()}
    if isinstance(closed.get("properties"), dict) and "additionalProperties" not in closed:
        closed["additionalProperties"] = bool(schema.get("x-kubernetes-preserve-unknown-fields"))
    if closed.get("x-kubernetes-int-or-string"):
        closed.pop("type", None)
    return closed


def custom_faults(thing):
    """What is wrong with an object of an operator's kind, by its definition; None where it has none."""
    known = crds()
    if known is None:
        skip("needs go, and the Go module proxy, for the operators' definitions")
    schema = known.get((thing["apiVersion"], thing["kind"]))
    if schema is None:
        return None
    # What every object has is not in a definition.
    schema = {**schema, "properties": {**schema["properties"], "metadata": {}, "apiVersion": {}, "kind": {}}}
    return [f"{error.json_path}: {error.message}" for error in jsonschema.Draft7Validator(schema).iter_errors(thing)]
