"""`loopcast spool`: what lies on this machine that no producer has yet."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from loopcast.sdk.configuration import spool_folder
from loopcast.sdk.folder import everything, read_cursor
from loopcast.sdk.recovery import recover

__all__ = ["spool"]


def spool(
    as_json: Annotated[bool, typer.Option("--json", help="One object a line.")] = False,
) -> None:
    """List the spools of this user: whose, for which producer, how much; what the dead left is sent by the next."""
    root = spool_folder(None, os.environ)
    for lying in [] if root is None else _survey(root):
        typer.echo(json.dumps(lying) if as_json else _line(lying))


def _survey(root: Path) -> list[dict[str, object]]:
    found = []
    for path, about, folder in everything(root):
        lying: dict[str, object] = {
            "folder": str(path),
            "url": about.get("base"),
            "experiment": about.get("experiment"),
            "pid": about.get("pid"),
            "alive": folder is None,
            "bytes": sum(file.stat().st_size for file in path.glob("*.events")),
            "events": None,
            "dropped": read_cursor(path).dropped,
        }
        if folder is not None:
            try:
                left = recover(folder)
            except OSError as error:
                lying["error"] = f"{type(error).__name__}: {error}"
                folder.close(remove=False)
            else:
                lying["events"] = len(left)
                left.forget()
        found.append(lying)
    return found


def _line(lying: dict[str, object]) -> str:
    state = "in use" if lying["alive"] else f"left over, {lying['events']} events"
    if "error" in lying:
        state = f"left over, cannot be read: {lying['error']}"
    dropped = f", {lying['dropped']} dropped because it was full" if lying["dropped"] else ""
    return f"{lying['url']} {lying['experiment']} (process {lying['pid']}, {state}, {lying['bytes']} bytes{dropped})"
