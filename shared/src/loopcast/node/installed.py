"""
A RabbitMQ that is on this machine already: a package's, Homebrew's, an unpacked archive.

The server's own scripts are used, never the wrappers that packages put on the PATH: those insist on being root, and
start the machine's broker.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from loopcast.errors import NodeError
from loopcast.node.handshake import LOOPBACK
from loopcast.node.launch import Launch, Ports, configuration, enabled_plugins, environment, plugin_list
from loopcast.node.layout import Layout
from loopcast.node.plugins import link_server

__all__ = ["OLDEST", "Installed", "find_installed", "homes", "server_in"]

OLDEST = (3, 10)
"""The oldest release that Loopcast is tested on."""

_SYSTEM = (Path("/usr/lib/rabbitmq/lib"), Path("/usr/local/lib/rabbitmq/lib"))
_PREFIXES = ("/opt/homebrew/opt/rabbitmq", "/usr/local/opt/rabbitmq", "/home/linuxbrew/.linuxbrew/opt/rabbitmq")
_ARCHIVES = ("/opt/rabbitmq", "/usr/local/rabbitmq")
_ERLANG_FOLDERS = ("/opt/homebrew/bin", "/usr/local/bin", "/home/linuxbrew/.linuxbrew/bin", "/usr/bin", "/bin")
_SERVER_APPLICATION = re.compile(r"rabbit-(\d+)\.(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """A server on this disk, and where its Erlang is."""

    home: Path
    search: tuple[Path, ...]
    libraries: tuple[Path, ...] = ()

    @property
    def origin(self) -> str:
        """Where it comes from, for a person."""
        return str(self.home)

    def prepare(self, layout: Layout, ports: Ports) -> Launch:
        """Write what the server reads and say how to start it."""
        plugins = plugin_list(ports)
        link_server(self.home, layout.server, plugins)
        layout.write_cookie()
        layout.plugins.write_text(enabled_plugins(plugins))
        layout.configuration.write_text(
            configuration(host=LOOPBACK, amqp=ports.amqp, stream=ports.stream, advertised_stream=ports.stream)
        )
        call = self._program("erl_call")
        return Launch(
            server=("sbin/rabbitmq-server",),
            folder=layout.server,
            environment=environment(layout, ports, list(self.search), list(self.libraries)),
            ctl=("sbin/rabbitmqctl", "--quiet"),
            call=(call, "-n", layout.node_name(), "-e") if call else (),
            epmd=(self._epmd(), "-port", str(ports.epmd), "-address", LOOPBACK),
            marker=layout.node_name(),
        )

    def _epmd(self) -> str:
        found = self._program("epmd")
        if not found:
            raise NodeError(f"RabbitMQ in {self.home} cannot be started: Erlang's `epmd` was not found beside `erl`.")
        return found

    def _program(self, name: str) -> str | None:
        """One of Erlang's programs: on the path, or in the runtime's folder that belongs to its `erl`."""
        path = os.pathsep.join(map(str, self.search))
        found = shutil.which(name, path=path)
        erl = shutil.which("erl", path=path)
        if found or not erl:
            return found
        beside = Path(erl).resolve().parents[1]
        places = [*beside.glob(f"erts-*/bin/{name}"), *beside.glob(f"lib/erl_interface-*/bin/{name}")]
        return str(places[0]) if places else None


def homes(variables: Mapping[str, str]) -> list[Path]:
    """Return the folders in which a server may be, those that the person named first."""
    named = [Path(variables["RABBITMQ_HOME"])] if variables.get("RABBITMQ_HOME") else []
    script = shutil.which("rabbitmq-server", path=variables.get("PATH"))
    on_path = [Path(script).resolve().parents[1]] if script else []
    packaged = [home for folder in _SYSTEM for home in sorted(folder.glob("rabbitmq_server-*"), reverse=True)]
    return [*named, *on_path, *packaged, *map(Path, _PREFIXES), *map(Path, _ARCHIVES)]


def server_in(home: Path) -> bool:
    """Tell whether a server that is new enough has its scripts in this folder."""
    if not all((home / "sbin" / name).is_file() for name in ("rabbitmq-server", "rabbitmq-env", "rabbitmqctl")):
        return False
    names = [entry.name for entry in (home / "plugins").glob("rabbit-*")]
    return any((int(found[1]), int(found[2])) >= OLDEST for found in map(_SERVER_APPLICATION.match, names) if found)


def find_installed(variables: Mapping[str, str]) -> Installed | None:
    """Return the server that is installed on this machine, None if there is none that can be started."""
    given = [Path(folder) for folder in variables.get("PATH", "").split(os.pathsep) if folder]
    search = tuple(dict.fromkeys([*given, *map(Path, _ERLANG_FOLDERS)]))
    if not shutil.which("erl", path=os.pathsep.join(map(str, search))):
        return None
    return next((Installed(home=home, search=search) for home in homes(variables) if server_in(home)), None)
