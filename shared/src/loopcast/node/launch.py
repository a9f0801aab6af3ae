"""
What a private node is started with: its settings as files, environment and command lines.

Pure. A source of RabbitMQ (an installed server, a container image) turns :class:`Ports` and :class:`Layout` into a
:class:`Launch`; who starts it, and when, is not known here.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from loopcast.node.handshake import LOOPBACK
from loopcast.node.layout import Layout

__all__ = ["Launch", "Ports", "Source", "configuration", "enabled_plugins", "environment", "plugin_list"]

STREAM_PLUGIN = "rabbitmq_stream"

_LOCALE = "en_US.UTF-8" if sys.platform == "darwin" else "C.UTF-8"
_LOG_FILES_KEPT = 2
_LOG_FILE_BYTES = 10 * 1024 * 1024
# Every rabbitmqctl listens on one of these while it runs; RabbitMQ's own ten are few for parallel tests.
_CTL_PORTS = (35672, 36671)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """The ports of one node, all on the loopback."""

    amqp: int
    stream: int | None
    distribution: int
    epmd: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """Command lines: of the server, of what must run beside it, and of the ways to ask and to end it."""

    server: tuple[str, ...]
    environment: Mapping[str, str]
    folder: Path
    ctl: tuple[str, ...]
    epmd: tuple[str, ...] = ()
    call: tuple[str, ...] = ()
    """Evaluates an Erlang expression from its standard input in milliseconds; empty where there is no such program."""
    kill: tuple[str, ...] = ()
    """Kills the server at once; empty where a signal to its process does."""
    remove: tuple[str, ...] = ()
    """Run after the server ended, to make sure that nothing of it is left."""
    marker: str = ""
    """Stands in the server's command line, so that a process id can be told from one given again."""


class Source(Protocol):
    """Something that RabbitMQ can be started from."""

    @property
    def origin(self) -> str:
        """Where it comes from, for a person."""

    def prepare(self, layout: Layout, ports: Ports) -> Launch:
        """Write what the server reads and say how to start it."""


def plugin_list(ports: Ports) -> tuple[str, ...]:
    """Return the plugins to enable: the stream queue type needs none, the stream protocol's port does."""
    return () if ports.stream is None else (STREAM_PLUGIN,)


def enabled_plugins(names: tuple[str, ...]) -> str:
    """Return the text of an enabled-plugins file."""
    return f"[{','.join(names)}].\n"


def configuration(*, host: str, amqp: int, stream: int | None, advertised_stream: int | None) -> str:
    """Return the text of a `rabbitmq.conf`."""
    lines = [
        f"listeners.tcp.1 = {host}:{amqp}",
        "log.console = false",
        "log.file.level = info",
        f"log.file.rotation.size = {_LOG_FILE_BYTES}",
        f"log.file.rotation.count = {_LOG_FILES_KEPT}",
    ]
    if stream is not None:
        lines += [
            f"stream.listeners.tcp.1 = {host}:{stream}",
            f"stream.advertised_host = {LOOPBACK}",
            f"stream.advertised_port = {advertised_stream}",
        ]
    return "\n".join(lines) + "\n"


def environment(layout: Layout, ports: Ports, search: list[Path], libraries: list[Path]) -> dict[str, str]:
    """
    Return the whole environment of the server.

    Nothing is inherited: a `RABBITMQ_` variable meant for another server must not reach this one, and RabbitMQ writes
    its environment into its log.
    """
    name = layout.node_name()
    on_loopback = "-kernel inet_dist_use_interface {127,0,0,1} -start_epmd false"
    variables = {
        "PATH": os.pathsep.join(map(str, search)),
        "HOME": str(layout.home),
        "LANG": _LOCALE,
        "RABBITMQ_SCRIPTS_DIR": "sbin",
        "RABBITMQ_NODENAME": name,
        "RABBITMQ_DIST_PORT": str(ports.distribution),
        "RABBITMQ_CTL_DIST_PORT_MIN": str(_CTL_PORTS[0]),
        "RABBITMQ_CTL_DIST_PORT_MAX": str(_CTL_PORTS[1]),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"{on_loopback} +B i -loopcast {name}",
        "RABBITMQ_CTL_ERL_ARGS": on_loopback,
        "RABBITMQ_CONF_ENV_FILE": str(layout.data / "none"),
        "RABBITMQ_CONFIG_FILE": str(layout.configuration),
        "RABBITMQ_CONFIG_FILES": str(layout.data / "conf.d" / "*.conf"),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(layout.data / "advanced.config"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(layout.plugins),
        "RABBITMQ_MNESIA_BASE": str(layout.database),
        "RABBITMQ_LOG_BASE": str(layout.logs),
        "RABBITMQ_LOGS": str(layout.log),
        "RABBITMQ_PID_FILE": str(layout.pid),
        "ERL_EPMD_PORT": str(ports.epmd),
        "ERL_EPMD_ADDRESS": LOOPBACK,
        "ERL_CRASH_DUMP": str(layout.logs / "erl_crash.dump"),
        # Makes the start script become the server instead of waiting for it, so that a signal reaches it.
        "detached": "1",
    }
    if libraries:
        variables["LD_LIBRARY_PATH"] = os.pathsep.join(map(str, libraries))
    return variables
