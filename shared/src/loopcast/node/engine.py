"""RabbitMQ as a container, where a container engine answers: the same node, bound to the loopback."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from loopcast.errors import NodeError
from loopcast.node.handshake import LOOPBACK
from loopcast.node.launch import Launch, Ports, configuration, enabled_plugins, plugin_list
from loopcast.node.layout import Layout

__all__ = ["Image", "choose", "find_image"]

Say = Callable[[str], None]

DEFAULT = "rabbitmq:4"

_ANSWER_WITHIN = 10
_PULL_WITHIN = 600
_TAG = re.compile(r"rabbitmq:(\d+)(?:\.(\d+))?")
_INSIDE = Path("/var/lib/rabbitmq")
_CLIENT_READS = frozenset({"PATH", "HOME", "TMPDIR", "SSH_AUTH_SOCK", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR"})
# Debian's image has the server's own scripts off the PATH, the official one has them on it.
_SCRIPTS = 'PATH="/opt/rabbitmq/sbin:/usr/lib/rabbitmq/bin:$PATH"; exec "$@"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A RabbitMQ image that an engine has."""

    docker: str
    name: str

    @property
    def origin(self) -> str:
        """Where it comes from, for a person."""
        return f"the image {self.name}"

    def prepare(self, layout: Layout, ports: Ports) -> Launch:
        """Write what the server reads and say how to start it."""
        layout.write_cookie()
        layout.plugins.write_text(enabled_plugins(plugin_list(ports)))
        stream = 5552 if ports.stream is not None else None
        settings = configuration(host="0.0.0.0", amqp=5672, stream=stream, advertised_stream=ports.stream)  # noqa: S104
        layout.configuration.write_text(settings + "loopback_users = none\n")
        container = layout.node_name().partition("@")[0]
        return Launch(
            server=tuple(self._run(container, layout, ports)),
            folder=layout.data,
            environment=_client_environment(os.environ),
            ctl=(self.docker, "exec", container, "sh", "-c", _SCRIPTS, "ctl", "rabbitmqctl", "--quiet"),
            kill=(self.docker, "kill", container),
            remove=(self.docker, "rm", "--force", "--volumes", container),
            marker=container,
        )

    def _run(self, container: str, layout: Layout, ports: Ports) -> list[str]:
        inside = Layout(_INSIDE)
        variables = {
            "HOME": inside.home,
            "RABBITMQ_NODENAME": layout.node_name(),
            "RABBITMQ_CONFIG_FILE": inside.configuration,
            "RABBITMQ_CONFIG_FILES": inside.data / "conf.d" / "*.conf",
            "RABBITMQ_ENABLED_PLUGINS_FILE": inside.plugins,
            "RABBITMQ_MNESIA_BASE": inside.database,
            "RABBITMQ_LOG_BASE": inside.logs,
            "RABBITMQ_LOGS": inside.log,
        }
        published = [(ports.amqp, 5672), *([(ports.stream, 5552)] if ports.stream is not None else [])]
        command = [self.docker, "run", "--rm", "--name", container, "--hostname", "localhost"]
        # As the person, so that the files in the data folder are theirs.
        command += ["--user", f"{os.getuid()}:{os.getgid()}", "--volume", f"{layout.data}:{_INSIDE}"]
        for outer, inner in published:
            command += ["--publish", f"{LOOPBACK}:{outer}:{inner}"]
        for key, value in variables.items():
            command += ["--env", f"{key}={value}"]
        return [*command, self.name, "sh", "-c", _SCRIPTS, "server", "rabbitmq-server"]


def _client_environment(variables: Mapping[str, str]) -> dict[str, str]:
    """What docker's client needs to reach its engine; the rest of a person's environment is not for a file."""
    return {name: value for name, value in variables.items() if name.startswith("DOCKER_") or name in _CLIENT_READS}


def choose(images: list[str]) -> str | None:
    """Return the newest RabbitMQ of the images that an engine has, None if it has none that is new enough."""
    found = []
    for image in images:
        if match := _TAG.match(image):
            release = (int(match[1]), int(match[2] or 99))
            found.append((release, image))
    return max(((release, image) for release, image in found if release >= (3, 10)), default=(None, None))[1]


def find_image(say: Say) -> Image:
    """
    Return a RabbitMQ image, pulled if the engine has none.

    Raises:
        NodeError: no engine answers, or it cannot have the image.
    """
    docker = shutil.which("docker")
    if not docker:
        raise NodeError("there is no docker here")
    listing = _ask([docker, "image", "ls", "--format", "{{.Repository}}:{{.Tag}}", "rabbitmq"], _ANSWER_WITHIN)
    name = choose(listing.split())
    if not name:
        say(f"Pulling the image {DEFAULT}")
        _ask([docker, "pull", "--quiet", DEFAULT], _PULL_WITHIN)
    return Image(docker=docker, name=name or DEFAULT)


def _ask(command: list[str], patience: float) -> str:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=patience
        )
    except subprocess.TimeoutExpired:
        raise NodeError(f"docker did not answer within {patience:.0f} s") from None
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise NodeError(f"docker said: {said[-1] if said else done.returncode}")
    return done.stdout
