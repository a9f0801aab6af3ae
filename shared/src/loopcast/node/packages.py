"""
Which of Debian's packages a private node needs, read from what apt prints.

Pure. Only RabbitMQ, Erlang and the libraries that this machine lacks: what a system broker needs beyond that (a
user of its own, log rotation, an init script) a private node has no use for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

__all__ = ["SERVER", "dependencies", "relocated", "selection"]

SERVER = "rabbitmq-server"

_DEPENDENCY = re.compile(r"^ (?P<alternative>[| ])(?:Pre)?Depends: (?P<name>\S+)$")
_ERLANG = "erlang-"
_LIBRARY = "lib"
_ROOT = re.compile(r"^(\s*)ROOTDIR=\"?/[^\s\"]+\"?$", re.MULTILINE)


def dependencies(printed: str) -> dict[str, list[list[str]]]:
    """Read `apt-cache depends`: each package's dependencies, each a list of packages of which one is enough."""
    found: dict[str, list[list[str]]] = {}
    groups: list[list[str]] = []
    alternative = False
    for line in printed.splitlines():
        if line and not line.startswith((" ", "|", "<")):
            groups = found.setdefault(line.partition(":")[0], [])
            alternative = False
        elif match := _DEPENDENCY.match(line):
            if not alternative:
                groups.append([])
            groups[-1].append(match["name"])
            alternative = match["alternative"] == "|"
    return found


def selection(depends: Mapping[str, Sequence[Sequence[str]]], installed: set[str]) -> list[str]:
    """
    Return the packages to fetch, by name in alphabetical order; nothing if the server is not among those known.

    Erlang is fetched even where it is installed: a runtime of one piece is one thing less to go wrong.
    """
    wanted: set[str] = set()
    ahead = [SERVER] if SERVER in depends else []
    while ahead:
        name = ahead.pop()
        if name in wanted:
            continue
        wanted.add(name)
        ahead += filter(None, (_choice(group, depends, installed) for group in depends[name]))
    return sorted(wanted)


def _choice(group: Sequence[str], depends: Mapping[str, object], installed: set[str]) -> str | None:
    for name in group:
        if name.startswith(_ERLANG) and name in depends:
            return name
        if name.startswith(_LIBRARY) and name in depends:
            return None if name in installed else name
    return None


def relocated(script: str) -> str:
    """Return the `erl` script so that it finds its runtime where it lies itself, not where Debian would put it."""
    return _ROOT.sub(r'\1ROOTDIR="$(cd "$(dirname "$0")/.." && pwd)"', script)
