"""
Which of the server's plugin folders a private node needs, and a view of the server that has no others.

RabbitMQ comes with some seventy plugin folders, puts each on Erlang's code path and searches them for every module:
on the machine this was measured on that is 3.5 of the 6 seconds of a start. A folder with links to the twenty
that the server itself depends on halves the start and changes nothing else.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

__all__ = ["link_server", "needed"]

_ROOTS = ("rabbit", "rabbitmq_prelaunch", "cuttlefish")
_DEPENDENCIES = re.compile(r"\{(?:optional_)?applications,\s*\[(.*?)\]", re.DOTALL)
_ATOM = re.compile(r"[a-z][A-Za-z0-9_@]*")


def needed(applications: Mapping[str, str], enabled: Iterable[str]) -> set[str]:
    """Return the applications that the server and the enabled plugins depend on, given each one's `.app` text."""
    found: set[str] = set()
    ahead = [*_ROOTS, *enabled]
    while ahead:
        name = ahead.pop()
        if name in found or name not in applications:
            continue
        found.add(name)
        for names in _DEPENDENCIES.findall(applications[name]):
            ahead += _ATOM.findall(names)
    return found


def link_server(home: Path, view: Path, enabled: Iterable[str]) -> None:
    """Make `view` look like the server installed in `home`, with the needed plugins only."""
    shutil.rmtree(view, ignore_errors=True)
    (view / "plugins").mkdir(parents=True)
    for part in ("sbin", "escript"):
        (view / part).symlink_to(home / part)
    folders = {app.stem: app.parents[1] for app in (home / "plugins").glob("*/ebin/*.app")}
    kept = needed({name: (folder / "ebin" / f"{name}.app").read_text() for name, folder in folders.items()}, enabled)
    for folder in _plugin_files(home, {folders[name] for name in kept}):
        (view / "plugins" / folder.name).symlink_to(folder)


def _plugin_files(home: Path, kept: set[Path]) -> Iterable[Path]:
    """Everything, where the server's own application is no plain folder (archives: an unknown packaging)."""
    known = any(folder.name.startswith("rabbit-") for folder in kept)
    return kept if known else (home / "plugins").iterdir()
