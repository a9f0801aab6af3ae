"""
The control plane of a Kubernetes with nobody behind it: API server, scheduler, controllers, and nodes that are made up.

What a kubelet would do is done in its place: pods that were given a node are said to be running and ready, and those
that are to go are gone. So everything is real but the containers: admission, defaults, controllers, scheduling.
"""

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from loopcast.node.ports import free_ports

VERSION = "1.34.1"
PROGRAMS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
OPERATOR = "github.com/rabbitmq/cluster-operator/v2@v2.16.0"
"""It makes RabbitMQ's pods of a RabbitmqCluster."""
COMMANDS = ("NewAPIServerCommand", "NewControllerManagerCommand", "NewSchedulerCommand")
MODULES = """api apiextensions-apiserver apimachinery apiserver cli-runtime client-go cloud-provider cluster-bootstrap
code-generator component-base component-helpers controller-manager cri-api cri-client cri-streaming csi-translation-lib
dynamic-resource-allocation endpointslice externaljwt kms kube-aggregator kube-controller-manager kube-proxy
kube-scheduler kubectl kubelet metrics mount-utils pod-security-admission sample-apiserver sample-cli-plugin
sample-controller"""
MAIN = """\
package main

import (
	"os"

	"k8s.io/component-base/cli"
	"k8s.io/kubernetes/cmd/%s/app"
)

func main() { os.Exit(cli.Run(app.%s())) }
"""
TOKEN = "test-token"
ZONES = ("a", "b", "c")


def build(folder):
    """Make the programs with Go, from the modules that Kubernetes publishes: minutes, once."""
    folder.mkdir(parents=True, exist_ok=True)
    staging = "\n".join(f"  k8s.io/{module} => k8s.io/{module} v0{VERSION[1:]}" for module in MODULES.split())
    (folder / "go.mod").write_text(
        f"module loopcast.test/kubernetes\ngo 1.24.0\nrequire k8s.io/kubernetes v{VERSION}\nreplace (\n{staging}\n)\n"
    )
    for program, command in zip(PROGRAMS, COMMANDS, strict=True):
        (folder / "cmd" / program).mkdir(parents=True, exist_ok=True)
        (folder / "cmd" / program / "main.go").write_text(MAIN % (program, command))
    subprocess.run(["go", "mod", "tidy"], cwd=folder, check=True, capture_output=True)
    options = ["-trimpath", "-ldflags", "-s -w"]
    subprocess.run(["go", "build", *options, "-o", ".", "./cmd/..."], cwd=folder, check=True)
    # A module of its own: its Kubernetes is another one.
    (folder / "operator").mkdir(exist_ok=True)
    module, _, version = OPERATOR.partition("@")
    (folder / "operator/go.mod").write_text(f"module loopcast.test/operator\ngo 1.24.0\nrequire {module} {version}\n")
    command = ["go", "build", "-mod=mod", "-buildvcs=false", *options, "-o", folder / "cluster-operator", module]
    subprocess.run(command, cwd=folder / "operator", check=True)


class Kubernetes:
    """A control plane of its own, for as long as it is entered; `programs` is the folder of its programs."""

    def __init__(self, programs):
        self._programs = programs
        self._stack = contextlib.ExitStack()

    def __enter__(self):
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_):
        self._stack.close()

    def run(self, *arguments, given=None, check=True):
        """What kubectl prints; with `check=False` its complaint too."""
        command = ["kubectl", "--kubeconfig", self.folder / "kubeconfig", *arguments]
        done = subprocess.run(
            command, input=None if given is None else json.dumps(given), capture_output=True, text=True, timeout=120
        )
        assert not check or done.returncode == 0, done.stderr
        return done.stdout if check else done.stdout + done.stderr

    def get(self, *arguments):
        """Objects of the namespace `loopcast`, or an object of it."""
        found = json.loads(self.run("--namespace", "loopcast", "get", *arguments, "--output", "json"))
        return found.get("items", found)

    def until(self, what, seconds=90, why=lambda: ""):
        """Wait until `what()` is true; its value."""
        deadline = time.monotonic() + seconds
        while not (value := what()):
            assert time.monotonic() < deadline, why()
            time.sleep(0.5)
        return value

    def add_volumes(self, count, size="500Gi"):
        """More disks, for whoever claims one."""
        there = len(self.get("persistentvolumes"))
        for number in range(there, there + count):
            spec = {"capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/nowhere"}}
            meta = {"name": f"disk-{number}"}
            self.run("apply", "-f", "-", given=_thing("v1", "PersistentVolume", metadata=meta, spec=spec))

    def operate(self):
        """Run the operator of RabbitMQ's clusters, from without: it asks the API server as it would from a pod."""
        self.run("create", "namespace", "rabbitmq-system")
        (address,) = free_ports(1)
        self._spawn(
            *(self._programs / "cluster-operator", "--metrics-bind-address", f"127.0.0.1:{address}"),
            environment={"OPERATOR_NAMESPACE": "rabbitmq-system", "KUBECONFIG": str(self.folder / "kubeconfig")},
        )

    def _start(self):
        self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        client, peer, secure = free_ports(3)
        etcd = f"http://127.0.0.1:{client}"
        (self.folder / "tokens").write_text(f'{TOKEN},admin,admin,"system:masters"\n')
        key = self.folder / "key"
        subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)
        self._spawn(
            *(
                shutil.which("etcd"),
                "--data-dir",
                self.folder / "etcd",
                "--listen-peer-urls",
                f"http://127.0.0.1:{peer}",
            ),
            *("--listen-client-urls", etcd, "--advertise-client-urls", etcd),
        )
        self._spawn(
            *(self._programs / "kube-apiserver", "--etcd-servers", etcd, "--bind-address", "127.0.0.1"),
            *("--secure-port", str(secure), "--cert-dir", self.folder / "certificates"),
            *("--token-auth-file", self.folder / "tokens", "--authorization-mode", "RBAC"),
            *("--service-account-issuer", "https://kubernetes", "--service-cluster-ip-range", "10.96.0.0/16"),
            *("--service-account-key-file", key, "--service-account-signing-key-file", key),
            # Made-up nodes are ready from the start: nobody would take the taint away.
            *("--disable-admission-plugins", "TaintNodesByCondition"),
        )
        (self.folder / "kubeconfig").write_text(json.dumps(_kubeconfig(secure)))
        self.until(lambda: self.run("get", "--raw", "/readyz", check=False) == "ok", why=self._logs)
        shared = ("--kubeconfig", self.folder / "kubeconfig", "--leader-elect=false")
        # The one that is left out would find no heartbeats, and empty the nodes.
        controllers = ("--controllers=*,-node-lifecycle-controller", "--service-account-private-key-file", key)
        self._spawn(self._programs / "kube-controller-manager", *shared, *controllers, "--secure-port=0")
        self._spawn(self._programs / "kube-scheduler", *shared, "--secure-port=0")
        self._add_nodes()
        leaving = threading.Event()
        kubelet = threading.Thread(target=self._be_the_kubelet, args=(leaving,), daemon=True)
        kubelet.start()
        self._stack.callback(kubelet.join, 60)
        self._stack.callback(leaving.set)

    def _spawn(self, program, *arguments, environment=None):
        with (self.folder / f"{Path(program).name}.log").open("wb") as log:
            own = {**os.environ, **(environment or {})}
            process = subprocess.Popen([program, *arguments], stdout=log, stderr=log, env=own)
        self._stack.callback(process.wait, 30)
        self._stack.callback(process.terminate)

    def _logs(self):
        return "\n".join(path.read_text()[-3000:] for path in self.folder.glob("*.log"))

    def _add_nodes(self):
        room = {"cpu": "16", "memory": "64Gi", "pods": "110"}
        status = {"capacity": room, "allocatable": room, "conditions": [{"type": "Ready", "status": "True"}]}
        for number, zone in enumerate(ZONES * 2):
            labels = {"kubernetes.io/hostname": f"node-{number}", "topology.kubernetes.io/zone": zone}
            self.run(
                "create", "-f", "-", given=_thing("v1", "Node", metadata={"name": f"node-{number}", "labels": labels})
            )
            patch = json.dumps({"status": status})
            self.run("patch", "node", f"node-{number}", "--subresource=status", "--type=merge", f"--patch={patch}")

    def _be_the_kubelet(self, leaving):
        while not leaving.wait(0.5):
            with contextlib.suppress(subprocess.SubprocessError, ValueError):
                for pod in json.loads(self.run("get", "pods", "--all-namespaces", "-o", "json", check=False))["items"]:
                    self._tend(pod)

    def _tend(self, pod):
        name = ("--namespace", pod["metadata"]["namespace"], "pod", pod["metadata"]["name"])
        if "deletionTimestamp" in pod["metadata"]:
            self.run("delete", *name, "--grace-period=0", "--force", check=False)
        elif "nodeName" in pod["spec"] and pod["status"]["phase"] == "Pending":
            ready = [{"type": "Ready", "status": "True"}]
            patch = json.dumps({"status": {"phase": "Running", "conditions": ready}})
            self.run("patch", *name, "--subresource=status", f"--patch={patch}", check=False)


def programs():
    """The folder with Kubernetes' programs that `LOOPCAST_TEST_KUBERNETES` names, built first where it says `build`."""
    named = os.environ.get("LOOPCAST_TEST_KUBERNETES", "")
    if named != "build":
        return Path(named)
    folder = Path(__file__).parents[2] / ".loopcast" / "kubernetes"
    if not all((folder / program).exists() for program in (*PROGRAMS, "cluster-operator")):
        build(folder)
    return folder


def _thing(api, kind, **more):
    return {"apiVersion": api, "kind": kind, **more}


def _kubeconfig(port):
    here = {"server": f"https://127.0.0.1:{port}", "insecure-skip-tls-verify": True}
    return {
        **_thing("v1", "Config"),
        "clusters": [{"name": "test", "cluster": here}],
        "users": [{"name": "admin", "user": {"token": TOKEN}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
        "current-context": "test",
    }
