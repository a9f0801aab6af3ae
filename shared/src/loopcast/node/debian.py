"""
RabbitMQ and Erlang from Debian's own packages, unpacked beside the project.

Needs no root and changes nothing outside its folder: packages are fetched by apt, which checks their signatures, and
unpacked, not installed. No broker of the system's is started, no service registered.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from loopcast.errors import NodeError
from loopcast.node.installed import Installed, server_in
from loopcast.node.packages import SERVER, dependencies, relocated, selection

__all__ = ["fetch", "unpacked"]

Say = Callable[[str], None]

_PROGRAMS = ("apt-get", "apt-cache", "dpkg-deb", "dpkg-query")
_NETWORK = ("-o", "Acquire::http::Timeout=30", "-o", "Acquire::Retries=2")
_COMPLETE = "complete"
_SYSTEM_FOLDERS = (Path("/usr/local/bin"), Path("/usr/bin"), Path("/bin"))


def unpacked(cache: Path) -> Installed | None:
    """Return what an earlier call fetched for this release of this system, None if there is nothing."""
    tree = _tree(cache)
    return _installed(tree) if (tree / _COMPLETE).exists() else None


def fetch(cache: Path, say: Say) -> Installed:
    """
    Fetch RabbitMQ and Erlang into the cache, unless they are there.

    Raises:
        NodeError: this is no Debian, or apt could not fetch them; with apt's own reason.
    """
    if missing := [name for name in _PROGRAMS if not shutil.which(name)]:
        raise NodeError(f"there is no {missing[0]} here")
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if found := unpacked(cache):
            return found
        say(f"Fetching RabbitMQ and Erlang with apt-get (35 MB, once) into {cache}")
        with tempfile.TemporaryDirectory(dir=cache, prefix="fetching-") as scratch:
            tree = Path(scratch) / "tree"
            _unpack(_download(Path(scratch)), tree)
            shutil.rmtree(_tree(cache), ignore_errors=True)
            tree.rename(_tree(cache))
    return _installed(_tree(cache))


def _tree(cache: Path) -> Path:
    """One for each release: a project folder may be mounted into a container of another."""
    system = {}
    with contextlib.suppress(OSError):
        system = platform.freedesktop_os_release()
    return cache / f"{system.get('ID', 'linux')}-{system.get('VERSION_ID', 'any')}-{platform.machine()}"


def _download(scratch: Path) -> Path:
    """With the machine's package lists; where it has none, or old ones, with lists of our own."""
    folder = scratch / "packages"
    folder.mkdir()
    try:
        _get(folder, _options(scratch, own_lists=False))
    except NodeError:
        own = _options(scratch, own_lists=True)
        _run(["apt-get", "update", "-qq", *own], folder)
        _get(folder, own)
    return folder


def _options(scratch: Path, *, own_lists: bool) -> list[str]:
    # apt as root gives up its rights for a user who may not see this folder.
    options = [*_NETWORK, "-o", "APT::Sandbox::User=root"] if os.geteuid() == 0 else [*_NETWORK]
    if own_lists:
        for part in ("lists/partial", "cache/archives/partial"):
            (scratch / part).mkdir(parents=True)
        options += ["-o", f"Dir::State::lists={scratch / 'lists'}", "-o", f"Dir::Cache={scratch / 'cache'}"]
    return options


def _get(folder: Path, options: list[str]) -> None:
    printed = _run(["apt-cache", "depends", "--recurse", "--important", *options, SERVER], folder)
    query = _run(["dpkg-query", "--show", "--showformat", "${db:Status-Status} ${Package}\n"], folder)
    installed = {
        name for status, _, name in (line.partition(" ") for line in query.splitlines()) if status == "installed"
    }
    names = selection(dependencies(printed), installed)
    if not names:
        raise NodeError(f"apt knows no {SERVER}")
    _run(["apt-get", "download", "-qq", *options, *names], folder)


def _unpack(packages: Path, tree: Path) -> None:
    tree.mkdir()
    for package in sorted(packages.glob("*.deb")):
        _run(["dpkg-deb", "--extract", str(package), str(tree)], packages)
    erl = tree / "usr/lib/erlang/bin/erl"
    erl.write_text(relocated(erl.read_text()))
    shutil.rmtree(tree / "usr/share", ignore_errors=True)
    (tree / _COMPLETE).touch()


def _installed(tree: Path) -> Installed:
    home = next(iter(sorted((tree / "usr/lib/rabbitmq/lib").glob("rabbitmq_server-*"), reverse=True)), tree)
    if not server_in(home):
        raise NodeError("the RabbitMQ that apt has is older than 3.10")
    libraries = tuple(folder for folder in _library_folders(tree) if any(folder.glob("*.so*")))
    return Installed(home=home, search=(tree / "usr/lib/erlang/bin", *_SYSTEM_FOLDERS), libraries=libraries)


def _library_folders(tree: Path) -> Iterator[Path]:
    yield from tree.glob("usr/lib/*-linux-gnu*")
    yield from tree.glob("lib/*-linux-gnu*")


def _run(command: list[str], folder: Path) -> str:
    variables: Mapping[str, str] = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(
        command, cwd=folder, env=variables, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("E:")] or done.stderr.splitlines()
        reason = said[0] if said else f"exit status {done.returncode}"
        raise NodeError(f"{command[0]} said: {reason}")
    return done.stdout
