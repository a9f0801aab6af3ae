"""`loopcast relay`: the events of a loop that knows nothing of Loopcast, read where it leaves them."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from loopcast.errors import ConfigurationError
from loopcast.relays.jsonl import JsonlSource
from loopcast.relays.little_loops import LittleLoopsSource, running_folder
from loopcast.relays.running import Source, run_relay
from loopcast.relays.unix import UnixSource
from loopcast.sdk.configuration import project_of, spool_folder
from loopcast.sdk.transport import LoopcastTransport
from loopcast.up.state import DATA, read_state

__all__ = ["make_relay"]

Experiment = Annotated[
    str, typer.Option(envvar="LOOPCAST_EXPERIMENT", help="What the events are of; the project's folder without it.")
]
Url = Annotated[str, typer.Option(envvar="LOOPCAST_URL", help="The producer.")]
From = Annotated[
    str, typer.Option("--from", help="Where to begin what was never followed: beginning or end.", show_default=True)
]
Data = Annotated[Path, typer.Option(help="Where `loopcast up` keeps its data.")]


def make_relay() -> typer.Typer:
    """The subcommands."""
    app = typer.Typer(no_args_is_help=True, help="Send the events of loops that know nothing of Loopcast.")
    app.command()(jsonl)
    app.command()(unix)
    app.command("little-loops")(little_loops)
    return app


def jsonl(
    *,
    file: Annotated[Path, typer.Argument(help="A file of JSON objects, one a line; it need not exist yet.")],
    from_: From = "beginning",
    once: Annotated[
        bool, typer.Option("--once", help="End when the file is read to its end and all delivered.")
    ] = False,
    run: Annotated[str, typer.Option(help="The run of all its events; found out without it.")] = "",
    experiment: Experiment = "",
    url: Url = "",
    data: Data = DATA,
) -> None:
    """Follow a file through rotation and truncation, each line once over any number of restarts."""
    at_end = _from_end(from_)
    if once and not file.exists():
        raise ConfigurationError(f"{file} is not there: --once reads what is; without it, the file is waited for.")
    if not file.absolute().parent.is_dir():
        raise ConfigurationError(f"The folder of {file} is not there: name a file in one that is.")

    def source(transport: LoopcastTransport, root: Path | None) -> Source:
        return JsonlSource(transport, file, root, from_end=at_end, run=run or None)

    _relay(source, experiment or project_of(file.absolute().parent), url, data, once=once, name=str(file))


def unix(
    *,
    socket: Annotated[Path, typer.Argument(help="A Unix socket that gives JSON lines: little-loops' .ll/events.sock.")],
    experiment: Experiment = "",
    url: Url = "",
    data: Data = DATA,
) -> None:
    """Read a socket, and those of further processes beside it; connect again whenever it is there."""
    if not socket.exists():
        sys.stderr.write(f"{socket} is not there yet; waiting for it …\n")

    def source(transport: LoopcastTransport, root: Path | None) -> Source:
        del root
        return UnixSource(transport, socket)

    _relay(source, experiment or project_of(socket.absolute().parent), url, data, once=False, name=str(socket))


def little_loops(
    *,
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="A project that little-loops runs in.")] = Path(),
    from_: From = "beginning",
    once: Annotated[bool, typer.Option("--once", help="End when all files are read and all is delivered.")] = False,
    experiment: Experiment = "",
    url: Url = "",
    data: Data = DATA,
) -> None:
    """Follow the event files of every loop that runs in a project, those that start later included."""
    at_end = _from_end(from_)
    running = running_folder(folder)
    if not folder.is_dir():
        raise ConfigurationError(f"{folder} is no folder: name the project that little-loops runs in.")

    def source(transport: LoopcastTransport, root: Path | None) -> Source:
        return LittleLoopsSource(transport, running, root, from_end=lambda _: at_end)

    _relay(source, experiment or project_of(folder.absolute()), url, data, once=once, name=str(running))


def _relay(
    make: Callable[[LoopcastTransport, Path | None], Source],
    experiment: str,
    url: str,
    data: Path,
    *,
    once: bool,
    name: str,
) -> None:
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    transport = LoopcastTransport(url or _address(data), experiment)
    try:
        source = make(transport, spool_folder(None, os.environ))
    except OSError as error:
        transport.close(0)
        raise ConfigurationError(f"{name} cannot be relayed: {error}.") from None
    sys.exit(run_relay(source, transport, once=once, clock=time.monotonic, name=name))


def _address(data: Path) -> str | None:
    """The producer of the `loopcast up` that runs here, None where there is none."""
    try:
        return read_state(data).environment.get("LOOPCAST_URL")
    except ConfigurationError:
        return None


def _from_end(named: str) -> bool:
    if named not in ("beginning", "end"):
        raise ConfigurationError(f"--from {named!r}: say beginning or end.")
    return named == "end"
