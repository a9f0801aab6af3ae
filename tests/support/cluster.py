"""
Three RabbitMQ nodes in containers that are one cluster, as production has them.

As a program it keeps one running and prints what the test suite needs to run on it; Ctrl-C ends it.
"""

import os
import signal
import tempfile
import time
import uuid
from pathlib import Path

import httpx
from containers import docker, free_port

SIZE = 3
COOKIE = "loopcast-test"
CONFIG = """\
cluster_formation.peer_discovery_backend = classic_config
{peers}
# As the manifests have it: a node without the majority stops.
cluster_partition_handling = pause_minority
queue_leader_locator = balanced
"""


class Cluster:
    """`nodes` are containers; all of them answer to the name `broker` in the network `name`."""

    def __init__(self, image=None):
        self.name = f"lctest-{uuid.uuid4().hex[:8]}"
        self.nodes = [f"{self.name}-{number}" for number in range(1, SIZE + 1)]
        self.ports = {node: (free_port(), free_port()) for node in self.nodes}
        self._image = image or os.environ.get("LOOPCAST_TEST_IMAGE", "rabbitmq:4-management")
        self._folder = tempfile.TemporaryDirectory()

    def __enter__(self):
        peers = (f"cluster_formation.classic_config.nodes.{n} = rabbit@{node}" for n, node in enumerate(self.nodes, 1))
        config = Path(self._folder.name, "30-cluster.conf")
        config.write_text(CONFIG.format(peers="\n".join(peers)))
        config.chmod(0o644)
        docker("network", "create", self.name)
        for node in self.nodes:
            amqp, management = self.ports[node]
            docker(
                *("run", "--detach", "--name", node, "--hostname", node),
                *("--network", self.name, "--network-alias", "broker"),
                *("--publish", f"127.0.0.1:{amqp}:5672", "--publish", f"127.0.0.1:{management}:15672"),
                *("--volume", f"{config}:/etc/rabbitmq/conf.d/30-cluster.conf:ro"),
                *("--env", f"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=-setcookie {COOKIE}"),
                *("--env", "RABBITMQ_DEFAULT_USER=loopcast", "--env", "RABBITMQ_DEFAULT_PASS=loopcast"),
                self._image,
            )
        self.await_running(SIZE)
        return self

    def __exit__(self, *_):
        for box in docker("ps", "--all", "--quiet", "--filter", f"network={self.name}").split():
            docker("rm", "--force", "--volumes", box)
        docker("network", "rm", self.name)
        self._folder.cleanup()

    @property
    def ctl(self):
        """The command that reaches its rabbitmqctl."""
        # Debian's image has the server's own scripts off the PATH, the official one has them on it.
        path = "/opt/rabbitmq/sbin:/usr/lib/rabbitmq/bin:/usr/sbin:/usr/bin:/bin"
        return f"docker exec --env PATH={path} {self.nodes[0]} rabbitmqctl --quiet --erlang-cookie {COOKIE}"

    def url(self, node):
        return f"amqp://loopcast:loopcast@127.0.0.1:{self.ports[node][0]}/"

    def ask(self, path):
        """What the management plugin of the first node that answers says."""
        for node in self.nodes:
            try:
                answer = httpx.get(
                    f"http://127.0.0.1:{self.ports[node][1]}/api/{path}", auth=("loopcast", "loopcast"), timeout=10
                )
            except httpx.HTTPError:
                continue
            if answer.status_code == 200:
                return answer.json()
        return []

    def leader(self, queue):
        """The node that leads a queue or stream; None while nobody says."""
        found = self.ask(f"queues/%2F/{queue}")
        return found["leader"].removeprefix("rabbit@") if found and found.get("leader") else None

    def await_running(self, count, seconds=120):
        deadline = time.monotonic() + seconds
        while sum(node["running"] for node in self.ask("nodes")) != count:
            logs = "\n".join(docker("logs", "--tail", "10", node, check=False) for node in self.nodes)
            assert time.monotonic() < deadline, logs
            time.sleep(1)


if __name__ == "__main__":
    # Blocked, so that the first of them is waited for below and does not end the program before its containers.
    ended = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, ended)
    with Cluster() as cluster:
        print(f"export LOOPCAST_TEST_AMQP_URL={cluster.url(cluster.nodes[0])}")
        print(f"export LOOPCAST_TEST_CTL='{cluster.ctl}'", flush=True)
        signal.sigwait(ended)
